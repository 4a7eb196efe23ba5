/* SPDX-License-Identifier: MIT */

/* TLS of a transport: the session of an ordinary ssl.SSLObject, which reads and writes the socket
 * by a BIO of ours. libssl is that of CPython's own _ssl; nothing is linked, and its types stay
 * opaque. */

#ifndef FIN_PY_TLS_H
#define FIN_PY_TLS_H

#include "transport/close.h"

struct ssl_st;
struct ssl_ctx_st;
struct bio_st;
struct bio_method_st;

/* ---- tls_library.c: the part of OpenSSL that is used ---- */

#define FIN__PY_OPENSSL(FUNCTION)                                                                  \
    FUNCTION(unsigned long, OpenSSL_version_num, (void) )                                          \
    FUNCTION(void, ERR_clear_error, (void) )                                                       \
    FUNCTION(unsigned long, ERR_peek_error, (void) )                                               \
    FUNCTION(struct bio_st *, BIO_new, (const struct bio_method_st *) )                            \
    FUNCTION(int, BIO_get_new_index, (void) )                                                      \
    FUNCTION(void *, BIO_get_data, (struct bio_st *) )                                             \
    FUNCTION(void, BIO_set_data, (struct bio_st *, void *) )                                       \
    FUNCTION(void, BIO_set_init, (struct bio_st *, int) )                                          \
    FUNCTION(void, BIO_set_flags, (struct bio_st *, int) )                                         \
    FUNCTION(void, BIO_clear_flags, (struct bio_st *, int) )                                       \
    FUNCTION(struct bio_method_st *, BIO_meth_new, (int, const char *) )                           \
    FUNCTION(int, BIO_meth_set_read,                                                               \
             (struct bio_method_st *, int (*)(struct bio_st *, char *, int)))                      \
    FUNCTION(int, BIO_meth_set_write,                                                              \
             (struct bio_method_st *, int (*)(struct bio_st *, const char *, int)))                \
    FUNCTION(int, BIO_meth_set_ctrl,                                                               \
             (struct bio_method_st *, long (*)(struct bio_st *, int, long, void *)))               \
    FUNCTION(int, BIO_meth_set_destroy, (struct bio_method_st *, int (*)(struct bio_st *)))        \
    FUNCTION(void *, SSL_get_ex_data, (const struct ssl_st *, int) )                               \
    FUNCTION(struct ssl_ctx_st *, SSL_get_SSL_CTX, (const struct ssl_st *) )                       \
    FUNCTION(void, SSL_set_bio, (struct ssl_st *, struct bio_st *, struct bio_st *) )              \
    FUNCTION(void, SSL_set_read_ahead, (struct ssl_st *, int) )                                    \
    FUNCTION(long, SSL_ctrl, (struct ssl_st *, int, long, void *) )                                \
    FUNCTION(int, SSL_read_ex, (struct ssl_st *, void *, size_t, size_t *) )                       \
    FUNCTION(int, SSL_write_ex, (struct ssl_st *, const void *, size_t, size_t *) )                \
    FUNCTION(int, SSL_get_error, (const struct ssl_st *, int) )                                    \
    FUNCTION(int, SSL_has_pending, (const struct ssl_st *) )                                       \
    FUNCTION(int, SSL_in_init, (const struct ssl_st *) )                                           \
    FUNCTION(int, SSL_do_handshake, (struct ssl_st *) )                                            \
    FUNCTION(int, SSL_version, (const struct ssl_st *) )                                           \
    FUNCTION(int, SSL_get_state, (const struct ssl_st *) )                                         \
    FUNCTION(const char *, SSL_state_string, (const struct ssl_st *) )                             \
    FUNCTION(int, SSL_shutdown, (struct ssl_st *) )                                                \
    FUNCTION(int, SSL_get_shutdown, (const struct ssl_st *) )                                      \
    FUNCTION(void, SSL_set_shutdown, (struct ssl_st *, int) )

#define FIN__PY_OPENSSL_MEMBER(type, name, parameters) type(*name) parameters;

struct fin__py_openssl {
    FIN__PY_OPENSSL(FIN__PY_OPENSSL_MEMBER)
    struct bio_method_st *method; /* of our BIO; NULL: libssl was not found yet */
};

/* Of the process, which has one libssl at most that is ours: it is found once, under the lock of
 * the main interpreter, and the BIO's functions know nothing else that leads to it. */
extern struct fin__py_openssl fin__py_openssl;

/* ---- tls_layout.c: CPython's side ---- */

/* The SSL of an _ssl._SSLSocket on memory BIOs, or on a socket; NULL: its layout is not one that we
 * know, or a check failed. */
struct ssl_st *fin__py_ssl_of(PyObject *object, bool on_memory);

/* is_known_layout(session): whether all sessions can be used. OSError: there is no descriptor to
 * look by. */
PyObject *fin__py_is_known_layout(PyObject *module, PyObject *object);

/* is_known_session(session): whether that one can, where the layout is known. */
PyObject *fin__py_is_known_session(PyObject *module, PyObject *session);

/* ---- tls_half.c ---- */

/* is_half_written(session): whether a record of the program's is, which nobody else could complete.
 * The session is on a socket that has room for an alert, and says nothing more but close_notify.
 * None: it is none that is known. */
PyObject *fin__py_is_half_written(PyObject *module, PyObject *session);

/* ---- tls_wire.c: the BIO ---- */

struct fin__py_wire {
    int fd;       /* -1: the transport has let it go */
    int error;    /* errno that has ended the connection, 0: none */
    bool eof;     /* the peer's FIN */
    bool drained; /* there is nothing to read until an event says so */
    bool ending;  /* an end was announced: a short read does not mean that there is no more */
    bool full;    /* there is no room in the kernel until an event says so */
    bool muted;   /* what the session writes is dropped */
    uint64_t sends;
    char *rest; /* of records: for what the kernel has no room yet */
    size_t rest_at, rest_count;
    bool kept;   /* without a descriptor, what the session writes is kept */
    char *early; /* what comes before the descriptor's: read before TLS began, or fed */
    size_t early_at, early_count;
    char *late; /* what is kept */
    size_t late_count;
};

/* Makes the BIO's type. 0, or -1 with MemoryError. */
int fin__py_wire_prepare(void);

/* Adds to what is read, or to what is kept. 0 or -1, without an exception. */
int fin__py_wire_feed(struct fin__py_wire *wire, const char *bytes, size_t count);

/* Sends what is left of records. Whether the kernel has all of it. */
bool fin__py_wire_flush(struct fin__py_wire *wire);

/* The descriptor is gone. */
void fin__py_wire_unplug(struct fin__py_wire *wire);

/* Puts a BIO on that descriptor under the session, in place of its own; NULL with MemoryError.
 * Lives as long as the session. */
struct fin__py_wire *fin__py_wire_put(struct ssl_st *ssl, int fd);

/* ---- tls_session.c ---- */

enum fin__py_later {
    FIN__PY_NOTHING,
    FIN__PY_CLOSE,
    FIN__PY_ABORT,
};

struct fin__py_tls {
    PyObject *object;  /* the ssl.SSLObject */
    PyObject *session; /* its _ssl._SSLSocket, which owns `ssl`, and that the wire */
    struct ssl_st *ssl;
    struct fin__py_wire *wire;
    PyObject *info;   /* a dict: what get_extra_info() has of it */
    PyObject *waiter; /* for the end of the handshake, or NULL */
    struct fin__py_handle *timer;
    double handshake_timeout, shutdown_timeout; /* seconds */
    struct fin_layer layer;
    size_t held;       /* bytes at the head of the output: in records, of which some is left */
    PyObject *error;   /* with which to abort later */
    PyObject *failure; /* of the session, behind what is being delivered; or NULL */
    enum fin__py_later later; /* what was asked for while OpenSSL was busy */
    size_t waiting; /* bytes of the output that asyncio would hold above the socket's buffer */
    bool stopped;   /* that is full: what is written now waits */
    bool server_side;
    bool handshaking;
    bool busy;     /* inside OpenSSL, which may call Python */
    bool shutting; /* the farewell that asyncio's way to close waits for */
    bool said;     /* close_notify is written, in the kernel or in what is left of records */
    bool raw;      /* the session can't read any more: what comes is read unread by TLS */
    bool abrupt;   /* it ends without a farewell */
    bool left;     /* the same, since the peer had ended so before close() */
    bool read_waits_for_room, write_waits_for_input;
};

/* What a program gives for a session. */
struct fin__py_wanted {
    PyObject *object, *context; /* ssl.SSLObject, ssl.SSLContext */
    PyObject *waiter;           /* or NULL */
    double handshake_timeout, shutdown_timeout;
    bool server_side;
};

/* Has the transport speak TLS from now on. 0, or -1 with an exception, and nothing has changed. */
int fin__py_tls_put(struct fin__py_transport *t, const struct fin__py_wanted *wanted);

/* A step: the handshake begins. */
int fin__py_tls_begin(struct fin__py_loop *loop, PyObject *self, PyObject *unused);

/* An event came, and what it is for. */
void fin__py_tls_news(struct fin__py_transport *t, uint32_t events);
bool fin__py_tls_is_concerned(const struct fin__py_transport *t);

/* The handshake, or the farewell, goes on. 0 or -1. */
int fin__py_tls_look(struct fin__py_transport *t);

/* Around each call of OpenSSL, whose callbacks may be in Python: what these ask of the transport
 * is done later, by a step. */
void fin__py_tls_enter(struct fin__py_tls *tls);
void fin__py_tls_leave(struct fin__py_transport *t);

/* If a callback has raised during our call: CPython stores the exception in the session, or,
 * since 3.15, leaves it set; then the session has failed. Returns the result of the call. */
int fin__py_tls_raised(struct fin__py_tls *tls, int why);

/* Whether it has to wait until OpenSSL is left; then it is noted. */
bool fin__py_tls_postpones(struct fin__py_transport *t, enum fin__py_later what, PyObject *error);

/* A timer at which `_deadline()` of the transport is called, in place of the one before. 0 or
 * -1. */
int fin__py_tls_arm(struct fin__py_transport *t, double seconds);
static inline void fin__py_tls_disarm(struct fin__py_tls *tls)
{
    fin__py_handle_drop(&tls->timer);
}

PyObject *fin__py_tls_deadline(PyObject *object, PyObject *unused);

/* connection_lost() is due: wakes the task that waits for the handshake. 0 or -1. */
int fin__py_tls_over(struct fin__py_transport *t, PyObject *error);

/* The descriptor is released: the session may outlive it. */
void fin__py_tls_unplug(struct fin__py_transport *t);

int fin__py_tls_traverse(struct fin__py_tls *tls, visitproc visit, void *arg);
void fin__py_tls_clear(struct fin__py_tls *tls);
void fin__py_tls_free(struct fin__py_transport *t);

/* _feed(bytes), _collect(): what the session reads and writes once the descriptor is let go, for
 * who has a dup. */
PyObject *fin__py_tls_feed(PyObject *object, PyObject *bytes);
PyObject *fin__py_tls_collect(PyObject *object, PyObject *unused);

/* ---- tls_data.c ---- */

/* Reads at most `room` bytes: how many, 0 at the stream's end, or a negative errno; -EBADMSG: what
 * fin__py_tls_raise() makes an exception of. Says in t->drained whether there may be more. */
ssize_t fin__py_tls_read(struct fin__py_transport *t, char *bytes, size_t room);

/* Writes what there is room for. 0 or a negative errno; `*sent` is always set. */
int fin__py_tls_send(struct fin__py_transport *t, const char *bytes, size_t count, size_t *sent);

/* `count` bytes were added to the output. */
void fin__py_tls_added(struct fin__py_transport *t, size_t count);

/* What the water marks are compared with. asyncio has two buffers, and the program hears of
 * the upper one alone: a write that finds the lower one open goes there, however great it is. */
size_t fin__py_tls_backlog(struct fin__py_transport *t);

/* An exception for the error that OpenSSL has noted. */
void fin__py_tls_raise(struct fin__py_transport *t);

/* ---- tls_close.c ---- */

void fin__py_tls_layer(struct fin__py_transport *t);

/* What a close by the engine needs of it: its bounds, and whether to wait for the answer. */
void fin__py_tls_ends(struct fin__py_transport *t, struct fin__plan *plan,
                      enum fin__py_asked asked);

/* asyncio's way to close: flush, close_notify, and its answer. 0 or -1. */
int fin__py_tls_shut(struct fin__py_transport *t);
int fin__py_tls_shut_more(struct fin__py_transport *t);
int fin__py_tls_shut_too_late(struct fin__py_transport *t);

/* The peer's end has come, by close_notify or without. */
bool fin__py_tls_has_ended(const struct fin__py_tls *tls);

/* Why the session could not go on. */
int fin__py_tls_why(const struct fin__py_tls *tls, int result);

/* ---- for Python: tls_make.c ---- */

PyObject *fin__py_make_tls_transport(PyObject *object, PyObject *args);
PyObject *fin__py_start_tls(PyObject *object, PyObject *args);

/* Of a connection that was accepted: `tuple` is (what makes an SSLObject, what makes asyncio's
 * layer over a protocol, SSLContext, both time-outs). Where the former makes none, since the
 * context was changed meanwhile, TLS is the layer's. Else fin__py_tls_begin() is to follow. 0, or
 * -1 with an exception. */
int fin__py_tls_accept(struct fin__py_transport *t, PyObject *tuple);

/* It closes as asyncio does, and waits for the peer's answer. */
static inline bool fin__py_is_shutting(const struct fin__py_transport *t)
{
    return t->tls && t->tls->shutting;
}

/* Inside OpenSSL, from a callback of which Python may come back. */
static inline bool fin__py_is_busy(const struct fin__py_transport *t)
{
    return t->tls && t->tls->busy;
}

/* What is in records has no place in the output. */
static inline void fin__py_tls_disown(struct fin__py_transport *t)
{
    if (t->tls)
        t->tls->held = 0;
}

/* As fin__py_is_busy(), with an exception. */
bool fin__py_refuses(const struct fin__py_transport *t, const char *method);

static inline bool fin__py_is_handshaking(const struct fin__py_transport *t)
{
    return t->tls && t->tls->handshaking;
}

#endif
