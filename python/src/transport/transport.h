/* SPDX-License-Identifier: MIT */

/* Transports on the loop's own selector: of streams and of datagrams. datagram.h has what only
 * the latter have. */

#ifndef FIN_PY_TRANSPORT_H
#define FIN_PY_TRANSPORT_H

#include "loop/loop.h"
#include "loop/state.h"

#include <netinet/in.h>
#include <sys/socket.h>

/* O_NONBLOCK belongs to the open file description, and somebody else may clear it: a transport's
 * calls still must not block. */
#define FIN__PY_SEND_FLAGS (MSG_NOSIGNAL | MSG_DONTWAIT)

/* An address as the kernel gave it. Of others than IP nothing is kept but the family. */
struct fin__py_address {
    union {
        struct sockaddr any;
        struct sockaddr_in in;
        struct sockaddr_in6 in6;
    } at;
    uint8_t known;
};

struct fin__py_output {
    char *bytes;
    size_t at, count, room; /* what is left to be sent begins at `at` */
};

struct fin__py_tls;

struct fin__py_transport {
    PyObject ob_base;
    PyObject *extra; /* the one slot of asyncio.BaseTransport; NULL: there is nothing in it */
    struct fin__py_loop *loop;
    PyObject *protocol;      /* NULL after connection_lost() */
    PyObject *context;       /* in which the protocol is called */
    PyObject *server;        /* the asyncio.Server that accepted it, or NULL */
    PyObject *sock;          /* the program's, or one made when it was asked for; else NULL */
    PyObject *shown;         /* get_extra_info("socket") */
    PyObject *waiter;        /* who connects */
    PyObject *empty_waiter;  /* sendfile() waits for the buffer to be empty */
    PyObject *ending;        /* the engine's close, in progress or complete; NULL: there is none */
    struct fin__py_tls *tls; /* NULL: it has no TLS */
    PyObject *weak;
    PyObject *dict; /* what a program puts on it, such as a write() of its own; NULL: nothing */
    struct fin__py_output output;
    size_t high, low;
    uint64_t requested; /* when the layer above was asked to close, 0: that is not known */
    uint64_t read;      /* bytes, of a stream without TLS */
    struct fin__py_address ours, theirs;
    uint32_t events; /* of epoll, since they were last looked at */
    int fd;
    int error;  /* of connect(2) */
    int failed; /* a negative errno: why it closed itself */
    unsigned lost_writes;
    bool losing; /* connection_lost() is queued */
    bool paused, writing_paused;
    bool watched : 1;    /* has its entry in the epoll set */
    bool counted : 1;    /* by the server */
    bool connecting : 1; /* connect(2) goes on */
    bool made : 1;       /* connection_made() was called */
    bool buffered : 1;   /* the protocol is a BufferedProtocol */
    bool queued : 1;     /* a look at `events` is in the ring */
    bool drained : 1;    /* there was nothing more to read */
    bool much : 1;       /* the last read was a large one */
    bool ended : 1;      /* a read gave 0 */
    bool reading_over : 1;
    bool eof : 1; /* write_eof() */
    bool closing : 1;
    bool lost : 1;      /* and was called */
    bool shut : 1;      /* FIN is queued */
    bool tcp : 1;       /* and no MPTCP, for certain */
    bool accepted : 1;  /* by a listening socket */
    bool no_linger : 1; /* SO_LINGER was off while nobody had the socket object */
    bool datagram : 1;  /* it is a struct fin__py_datagrams */
    bool plain : 1;     /* closes as asyncio does: its socket is closed by the engine elsewhere */
    bool delays : 1;    /* TCP_NODELAY is not set yet */
    bool wrote : 1;     /* while it delays */
};

/* ---- transport.c ---- */

/* Of one of the two kinds. Takes over fd, also on failure. */
struct fin__py_transport *fin__py_transport_new(struct fin__py_loop *loop, PyTypeObject *type,
                                                int fd, PyObject *context);
int fin__py_transport_set_protocol(struct fin__py_transport *t, PyObject *protocol);

/* The server's count of its connections. 0, or -1 with an exception. */
int fin__py_transport_attach(struct fin__py_transport *t);
int fin__py_transport_detach(struct fin__py_transport *t);
void fin__py_transport_uncount(struct fin__py_transport *t);

/* Into and out of the loop's epoll set. 0, or -1 with an exception. */
int fin__py_transport_watch(struct fin__py_transport *t);
void fin__py_transport_unwatch(struct fin__py_transport *t);

/* An event of the transport's. 0 or -1. */
int fin__py_transport_news(PyObject *object, uint32_t events);

/* Has the ring look at the transport. 0 or -1. */
int fin__py_transport_queue(struct fin__py_transport *t);

/* The exception that is set ends the loop's run: what was to be done is done in the next. -1. */
int fin__py_transport_left(struct fin__py_transport *t);

/* A step: connection_made(); `waiter` may be NULL. */
int fin__py_transport_begin(struct fin__py_loop *loop, PyObject *self, PyObject *waiter);

/* Queues it; `waiter` may be None. Returns the transport, or NULL: the socket is the program's
 * again. */
PyObject *fin__py_transport_begin_soon(struct fin__py_transport *t, PyObject *waiter);

/* Has a method called without arguments, in the transport's context. The timer, or NULL with an
 * exception. */
struct fin__py_handle *fin__py_transport_call_later(struct fin__py_transport *t, double seconds,
                                                    const char *method);

int fin__py_transport_traverse(PyObject *object, visitproc visit, void *arg);
int fin__py_transport_clear(PyObject *object);
void fin__py_transport_finalize(PyObject *object);
void fin__py_transport_dealloc(PyObject *object);

#define FIN__PY_TRANSPORT_LIFE                                                                     \
    { Py_tp_traverse, fin__py_transport_traverse }, { Py_tp_clear, fin__py_transport_clear },      \
        { Py_tp_finalize, fin__py_transport_finalize },                                            \
    {                                                                                              \
        Py_tp_dealloc, fin__py_transport_dealloc                                                   \
    }

/* A type of transports, derived from what they have in common and from asyncio's class of that
 * name, and added to the module. NULL with an exception. */
PyTypeObject *fin__py_transport_kind(PyObject *module, struct fin__py_asyncio *a, PyType_Spec *kind,
                                     const char *base_name);

/* ---- protocol.c ---- */

/* Call the protocol in the transport's context; NULL with an exception. `arg` may be NULL. */
PyObject *fin__py_protocol_call(struct fin__py_transport *t, PyObject *method, PyObject *arg);
PyObject *fin__py_protocol_pass(struct fin__py_transport *t, PyObject *method, PyObject *arg,
                                PyObject *more);

/* The same from within a method that the program has called: in the context that there is. What it
 * raises is reported under `what`. 0, or -1 if that failed. */
int fin__py_protocol_tell(struct fin__py_transport *t, PyObject *method, const char *what);

/* By that method the loop reports an error, of a transport or a listening socket. 0, or -1 with an
 * exception. */
int fin__py_loop_tell(struct fin__py_loop *loop, PyObject *method, PyObject *whose,
                      const char *what, PyObject *error);

/* Report the exception that is set: 0; -1: it has to end the loop's run. */
int fin__py_transport_report(struct fin__py_transport *t, const char *what);

/* The connection can't go on because of the exception that is set: reported unless it is an
 * OSError, then connection_lost() is called with it. 0; -1: it has to end the loop's run. */
int fin__py_transport_fail(struct fin__py_transport *t, const char *what);
int fin__py_transport_fail_errno(struct fin__py_transport *t, int error, const char *what);

/* Sets a future's result, or the error if there is one, unless it is done. 0 or -1. */
int fin__py_future_done(const struct fin__py_asyncio *a, PyObject *future, PyObject *error);

/* ---- read.c ---- */

/* One read, and the protocol gets it. 0 or -1. */
int fin__py_transport_read(struct fin__py_transport *t);
bool fin__py_transport_wants_read(const struct fin__py_transport *t);

/* ---- write.c ---- */

PyObject *fin__py_transport_write(PyObject *object, PyObject *data);
PyObject *fin__py_transport_writelines(PyObject *object, PyObject *list);
PyObject *fin__py_transport_write_eof(PyObject *object, PyObject *unused);
PyObject *fin__py_transport_set_limits(PyObject *object, PyObject *args, PyObject *keywords);

/* Calls resume_writing() if the buffer is low. 0 or -1. */
int fin__py_transport_resume_writing(struct fin__py_transport *t);

/* Calls pause_writing() if the buffer is high. 0 or -1. */
int fin__py_transport_pause_writing(struct fin__py_transport *t);

/* Sends what is buffered, of a stream: 0 or a negative errno. */
int fin__py_output_send(struct fin__py_transport *t);
void fin__py_output_free(struct fin__py_transport *t);

/* The same of each kind: 0; of a stream a negative errno, with which the connection has failed; of
 * datagrams -1 with an exception that ends the loop's run. */
int fin__py_transport_send(struct fin__py_transport *t);

/* Bytes of the program's that the kernel doesn't have yet. */
size_t fin__py_transport_unsent(const struct fin__py_transport *t);

/* TypeError and -1 for what can't be written. */
int fin__py_transport_refuse(PyObject *data);

/* Something was written that can't be sent any more. 0 or -1. */
int fin__py_transport_write_lost(struct fin__py_transport *t);

/* There is room in the kernel. 0 or -1. */
int fin__py_transport_writable(struct fin__py_transport *t);

/* ---- end.c ---- */

int fin__py_transport_close(struct fin__py_transport *t);

/* Drops what is buffered; connection_lost(error) follows, NULL: None. If the engine closes, and
 * bytes were dropped, or the close lingered, the peer gets RST. 0 or -1. */
int fin__py_transport_force(struct fin__py_transport *t, PyObject *error);

/* All was sent of a transport that is closing. */
int fin__py_transport_flushed(struct fin__py_transport *t);

/* A step: connection_lost(), and the descriptor is released. */
int fin__py_transport_lose(struct fin__py_loop *loop, PyObject *self, PyObject *error);

/* Closes the descriptor, whoever has it in hand. */
void fin__py_transport_release(struct fin__py_transport *t);

/* ---- info.c ---- */

PyObject *fin__py_transport_info(PyObject *object, PyObject *const *args, Py_ssize_t count,
                                 PyObject *keywords);

/* The socket object, made if there is none; new reference, NULL with an exception; None: closed. */
PyObject *fin__py_transport_sock(struct fin__py_transport *t);
PyObject *fin__py_address(const struct sockaddr *address, socklen_t size);

/* A numeric one of IPv4 or IPv6. */
bool fin__py_address_parse(const char *host, long port, struct fin__py_address *to);
socklen_t fin__py_address_size(const struct fin__py_address *address);
void fin__py_address_keep(struct fin__py_address *kept, const struct sockaddr *address);

/* What was kept, or is in `extra`, which may be NULL; None: there is no such name. */
PyObject *fin__py_kept_name(const struct fin__py_address *kept, PyObject *extra, const char *key);

/* Keeps the names, which can't be asked for later; that of the peer, not once it is gone. */
void fin__py_transport_note_peer(struct fin__py_transport *t);
void fin__py_transport_note_names(struct fin__py_transport *t);

/* ---- accept.c, connect.c ---- */

PyObject *fin__py_serve(PyObject *object, PyObject *args);
PyObject *fin__py_unserve(PyObject *object, PyObject *number);
int fin__py_listener_news(PyObject *listener);
void fin__py_no_delay(int fd);

/* TCP_NODELAY has to be set by now. */
static inline void fin__py_transport_hurry(struct fin__py_transport *t)
{
    if (t->delays)
        fin__py_no_delay(t->fd);
    t->delays = false;
}

/* What a coroutine's throw() is given, borrowed. 0, or -1 with TypeError. */
int fin__py_thrown(PyObject *args, PyObject **type, PyObject **value);

PyObject *fin__py_connect(PyObject *object, PyObject *const *args, Py_ssize_t count);
int fin__py_connected(struct fin__py_transport *t);

/* ---- close.c ---- */

PyObject *fin__py_set_close(PyObject *object, PyObject *args);
PyObject *fin__py_close_by(PyObject *object, PyObject *const *args, Py_ssize_t count);
PyObject *fin__py_force_closes(PyObject *object, PyObject *unused);
PyObject *fin__py_records(PyObject *object, PyObject *unused);

/* ---- of the loop ---- */

/* A transport of a socket that the program has, watched; NULL with an exception, and the socket
 * stays the program's. */
struct fin__py_transport *fin__py_transport_of_sock(struct fin__py_loop *loop, PyTypeObject *type,
                                                    PyObject *sock, PyObject *protocol,
                                                    PyObject *extra, PyObject *server);
void fin__py_transport_leave_sock(struct fin__py_transport *t);

PyObject *fin__py_make_transport(PyObject *object, PyObject *args);
PyObject *fin__py_transports(PyObject *object, PyObject *unused);
PyObject *fin__py_transport_of(PyObject *object, PyObject *number);

#endif
