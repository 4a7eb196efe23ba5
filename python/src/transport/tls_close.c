/* SPDX-License-Identifier: MIT */

/* The farewell of a session: as the layer of a close by the engine, and as asyncio closes. */

#include "transport/close.h"
#include "transport/tls.h"

#include <errno.h>
#include <sys/epoll.h>

#define RECEIVED 2 /* SSL_RECEIVED_SHUTDOWN */
#define SENT 1
#define WANTS_READ 2 /* SSL_ERROR_WANT_READ */
#define WANTS_WRITE 3
#define ZERO_RETURN 6
#define TLS_1_3 0x0304
#define SCRATCH 4096
#define BURST 64 /* reads in a row, for who sends without end */

/* Of enum OSSL_HANDSHAKE_STATE. */
#define STATE_OK 1
#define STATE_SERVER_TICKET 33
#define STATE_SERVER_KEY_UPDATE 42
#define STATE_CLIENT_KEY_UPDATE 43

#define lib fin__py_openssl

/* A fatal alert sets the flag of close_notify too, and brings the session back into a handshake. */
static bool is_answered(const struct fin__py_tls *tls)
{
    return lib.SSL_get_shutdown(tls->ssl) & RECEIVED && !lib.SSL_in_init(tls->ssl);
}

bool fin__py_tls_has_ended(const struct fin__py_tls *tls)
{
    return is_answered(tls) || tls->wire->eof;
}

/* The wire knows more exactly than OpenSSL. */
int fin__py_tls_why(const struct fin__py_tls *tls, int result)
{
    int error = lib.SSL_get_error(tls->ssl, result);

    if (error == ZERO_RETURN && is_answered(tls))
        return FIN_LAYER_ANSWERED;
    if (error != WANTS_READ && error != WANTS_WRITE)
        return FIN_LAYER_BROKEN;
    if (tls->wire->error)
        return -tls->wire->error;
    if (error == WANTS_WRITE)
        return FIN_LAYER_WANT_WRITE;
    return tls->wire->eof ? FIN_LAYER_EOF : FIN_LAYER_WANT_READ;
}

/* ---- close_notify ---- */

/* A KeyUpdate or a session ticket of TLS 1.3 that is still to be sent makes the session refuse
 * SSL_shutdown() as in a handshake, but it takes nothing from the peer to finish. */
static bool is_only_sending(const struct fin__py_tls *tls)
{
    int state = lib.SSL_get_state(tls->ssl);

    return lib.SSL_version(tls->ssl) == TLS_1_3
        && (state == STATE_OK || state == STATE_SERVER_TICKET || state == STATE_SERVER_KEY_UPDATE
            || state == STATE_CLIENT_KEY_UPDATE);
}

static int leave_handshake(const struct fin__py_tls *tls)
{
    int why;

    if (!lib.SSL_in_init(tls->ssl))
        return FIN_LAYER_DONE;
    if (!is_only_sending(tls))
        return FIN_LAYER_NONE;
    if (lib.SSL_do_handshake(tls->ssl) == 1 && !lib.SSL_in_init(tls->ssl))
        return FIN_LAYER_DONE;
    why = fin__py_tls_why(tls, 0);
    return why == FIN_LAYER_WANT_WRITE || why < 0 ? why : FIN_LAYER_NONE;
}

/* A second SSL_shutdown() reads the answer, and dies of application data that comes before it.
 * Told that the answer is here it only sends: nothing, if its alert is in the kernel already. */
static int shutdown_sending(struct ssl_st *ssl)
{
    int before = lib.SSL_get_shutdown(ssl), result;

    lib.SSL_set_shutdown(ssl, before | RECEIVED);
    result = lib.SSL_shutdown(ssl);
    lib.SSL_set_shutdown(ssl, (lib.SSL_get_shutdown(ssl) & SENT) | (before & RECEIVED));
    return result;
}

static int say(struct fin__py_tls *tls)
{
    uint64_t sends = tls->wire->sends;
    int result = leave_handshake(tls);

    if (result != FIN_LAYER_DONE)
        return result;
    result = shutdown_sending(tls->ssl);
    if (result >= 0)
        return FIN_LAYER_DONE;
    if (tls->wire->sends == sends) /* a record of the program's stands in the way */
        return tls->wire->error ? -tls->wire->error : FIN_LAYER_BROKEN;
    result = fin__py_tls_why(tls, result);
    return result == FIN_LAYER_WANT_WRITE || result < 0 ? result : FIN_LAYER_BROKEN;
}

/* What a callback has raised, and CPython has left set, ends nothing that ends anyway. */
static void leave_openssl(struct fin__py_transport *t)
{
    if (PyErr_Occurred())
        PyErr_WriteUnraisable(t->tls->object);
    fin__py_tls_leave(t);
}

static int notify(void *arg)
{
    struct fin__py_tls *tls = ((struct fin__py_transport *) arg)->tls;
    int result = FIN_LAYER_NONE;

    if (!tls->handshaking && !tls->abrupt && !tls->left) {
        fin__py_tls_enter(tls);
        result = tls->said ? FIN_LAYER_DONE : say(tls);
        leave_openssl(arg);
    }
    tls->said |= result == FIN_LAYER_DONE;
    tls->raw = result == FIN_LAYER_NONE || result == FIN_LAYER_BROKEN;
    if (tls->left)
        return FIN_LAYER_DEAD;
    if (result == FIN_LAYER_DONE && !fin__py_wire_flush(tls->wire))
        return tls->wire->error ? -tls->wire->error : FIN_LAYER_WANT_WRITE;
    return result;
}

/* ---- its answer ---- */

static int read_raw(const struct fin__py_transport *t, char *scratch, size_t room, uint64_t *count)
{
    ssize_t got = recv(t->tls->wire->fd, scratch, room, MSG_DONTWAIT);

    if (got < 0)
        return errno == EAGAIN || errno == EINTR ? FIN_LAYER_WANT_READ : -errno;
    *count = (uint64_t) got;
    return got == 0 ? FIN_LAYER_EOF : FIN_LAYER_DONE;
}

static int read_session(struct fin__py_tls *tls, char *scratch, size_t room, uint64_t *count)
{
    size_t got = 0;
    int why;

    if (lib.SSL_read_ex(tls->ssl, scratch, room, &got) > 0) {
        *count = got;
        return FIN_LAYER_DONE;
    }
    why = fin__py_tls_why(tls, 0);
    tls->raw = why == FIN_LAYER_BROKEN || why == FIN_LAYER_EOF;
    return why;
}

/* After close_notify nothing that we send counts (RFC 8446, 6.1), and after FIN it would fail: what
 * the session answers to a KeyUpdate is dropped. */
static int read_layer(void *arg, uint64_t most, uint64_t *count)
{
    struct fin__py_transport *t = arg;
    struct fin__py_tls *tls = t->tls;
    char scratch[SCRATCH];
    size_t room = most < sizeof scratch ? (size_t) most : sizeof scratch;
    int result;

    tls->wire->muted = true;
    if (tls->raw)
        return read_raw(t, scratch, room, count);
    fin__py_tls_enter(tls);
    tls->wire->drained = false; /* bytes that are left unread would make RST of FIN */
    result = read_session(tls, scratch, room, count);
    leave_openssl(t);
    return result;
}

/* ---- the layer ---- */

static int flush(void *arg, uint64_t *unsent)
{
    struct fin__py_transport *t = arg;
    int result = fin__py_output_send(t);

    *unsent = t->output.count;
    if (result == -EBADMSG)
        return FIN_LAYER_BROKEN;
    if (result < 0)
        return result;
    return t->output.count > 0 ? FIN_LAYER_WANT_WRITE : FIN_LAYER_DONE;
}

static uint64_t unsent(void *arg)
{
    return ((struct fin__py_transport *) arg)->output.count;
}

void fin__py_tls_layer(struct fin__py_transport *t)
{
    t->tls->layer = (struct fin_layer) FIN_LAYER_INIT;
    t->tls->layer.arg = t;
    t->tls->layer.flush = flush;
    t->tls->layer.notify = notify;
    t->tls->layer.read = read_layer;
    t->tls->layer.unsent = unsent;
}

/* An unmodified program's close() waits for the answer, as in asyncio, and all of it is bounded by
 * ssl_shutdown_timeout. aclose() has a policy of its own, and abort() says no farewell. */
void fin__py_tls_ends(struct fin__py_transport *t, struct fin__plan *plan, enum fin__py_asked asked)
{
    uint64_t most = (uint64_t) (t->tls->shutdown_timeout * 1e9);

    t->tls->shutting = false;
    t->tls->abrupt |= asked == FIN__PY_BY_ABORT;
    if (asked != FIN__PY_BY_CLOSE)
        return;
    t->tls->left = t->tls->wire->eof && !is_answered(t->tls);
    plan->farewell = most;
    if (plan->flush > most)
        plan->flush = most;
    plan->awaits_answer = plan->courtesy == FIN_COURTESY_PROMPT;
    if (plan->awaits_answer && plan->total > most)
        plan->total = most;
}

/* ---- as asyncio closes ---- */

/* What the peer has sent behind its own farewell would make RST of FIN. */
static void discard(struct fin__py_transport *t)
{
    char scratch[SCRATCH];
    uint64_t count;

    for (int i = 0; i < BURST; i++)
        if (read_raw(t, scratch, sizeof scratch, &count) != FIN_LAYER_DONE)
            break;
}

static int over(struct fin__py_transport *t)
{
    discard(t);
    t->tls->shutting = false;
    fin__py_tls_disarm(t->tls);
    return fin__py_transport_flushed(t);
}

static int await_answer(struct fin__py_transport *t)
{
    uint64_t count;
    int result = FIN_LAYER_DONE;

    for (int i = 0; i < BURST && result == FIN_LAYER_DONE; i++)
        result = read_layer(t, SCRATCH, &count);
    if (result == FIN_LAYER_DONE)
        return fin__py_transport_queue(t);
    return result == FIN_LAYER_WANT_READ ? 0 : over(t);
}

int fin__py_tls_shut_more(struct fin__py_transport *t)
{
    int result = fin__py_output_send(t);

    if (result < 0)
        return fin__py_transport_fail_errno(t, result, "Fatal error on SSL protocol");
    if (fin__py_transport_resume_writing(t) < 0)
        return -1;
    if (t->output.count > 0 || !t->tls->shutting)
        return 0;
    if (t->tls->wire->eof) /* asyncio has nothing to say to who ended without close_notify */
        return over(t);
    result = notify(t);
    if (result == FIN_LAYER_WANT_WRITE)
        return 0;
    return result == FIN_LAYER_DONE ? await_answer(t) : over(t);
}

int fin__py_tls_shut(struct fin__py_transport *t)
{
    if (t->tls->handshaking)
        return fin__py_transport_force(t, NULL);
    t->closing = t->tls->shutting = true;
    if (fin__py_tls_arm(t, t->tls->shutdown_timeout) < 0)
        return -1;
    return fin__py_tls_shut_more(t) < 0 ? fin__py_transport_left(t) : 0;
}

/* Bytes that are lost must not end in FIN. */
int fin__py_tls_shut_too_late(struct fin__py_transport *t)
{
    struct linger reset = { .l_onoff = 1, .l_linger = 0 };
    PyObject *error = PyObject_CallFunction(PyExc_TimeoutError, "s", "SSL shutdown timed out");
    int result = -1;

    if (t->output.count > 0)
        (void) setsockopt(t->fd, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
    if (error)
        result = fin__py_transport_force(t, error);
    Py_XDECREF(error);
    return result;
}
