/* SPDX-License-Identifier: MIT */

/* What the program reads and writes through a session. */

#include "transport/tls.h"

#include "slots.h"

#include <errno.h>

#define lib fin__py_openssl

/* CPython makes the exception of what OpenSSL has noted, which another call leaves as it is: a
 * session that has failed does nothing more. */
static void raise_noted(struct fin__py_transport *t)
{
    PyObject *done;

    t->tls->busy = true;
    done = PyObject_CallMethod(t->tls->session, "read", "i", 1);
    fin__py_tls_leave(t);
    if (done)
        PyErr_SetString(PyExc_ConnectionError, "the TLS session has failed");
    Py_XDECREF(done);
}

void fin__py_tls_raise(struct fin__py_transport *t)
{
    PyObject *failure = t->tls->failure;

    t->tls->failure = NULL;
    if (!failure) {
        raise_noted(t);
        return;
    }
    PyErr_SetObject((PyObject *) Py_TYPE(failure), failure);
    Py_DECREF(failure);
}

/* What came before the failure is delivered first. */
static void keep_failure(struct fin__py_transport *t)
{
    if (t->tls->failure)
        return;
    raise_noted(t);
    t->tls->failure = fin__py_take_error();
}

/* What OpenSSL has noted of an error is kept for that. */
static int leave(struct fin__py_transport *t, int why)
{
    int result = fin__py_tls_raised(t->tls, why);

    if (result == FIN_LAYER_BROKEN && !t->tls->failure)
        t->tls->busy = false;
    else
        fin__py_tls_leave(t);
    return result;
}

/* ---- reading ---- */

static bool may_have_more(const struct fin__py_tls *tls)
{
    return !tls->wire->drained || tls->wire->early_count > 0 || lib.SSL_has_pending(tls->ssl);
}

/* Why nothing was read. */
static ssize_t nothing_read(struct fin__py_transport *t, int why)
{
    struct fin__py_tls *tls = t->tls;

    switch (why) {
    case FIN_LAYER_ANSWERED:
    case FIN_LAYER_EOF:
        return 0;
    case FIN_LAYER_WANT_WRITE:
        t->drained = tls->read_waits_for_room = true;
        return -EAGAIN;
    case FIN_LAYER_WANT_READ:
        t->drained = tls->wire->drained;
        return -EAGAIN;
    case FIN_LAYER_BROKEN:
        return -EBADMSG;
    default:
        return why;
    }
}

ssize_t fin__py_tls_read(struct fin__py_transport *t, char *bytes, size_t room)
{
    struct fin__py_tls *tls = t->tls;
    size_t total = 0, got = 0;
    int why = FIN_LAYER_DONE;

    if (tls->busy)
        return -EAGAIN;
    if (tls->failure)
        return -EBADMSG;
    fin__py_tls_enter(tls);
    t->drained = false;
    while (total < room) {
        if (lib.SSL_read_ex(tls->ssl, bytes + total, room - total, &got) <= 0) {
            why = fin__py_tls_why(tls, 0);
            break;
        }
        total += got;
        if (PyErr_Occurred())
            break;
        if (!may_have_more(tls)) {
            t->drained = true;
            break;
        }
    }
    why = leave(t, why);
    if (total == 0)
        return nothing_read(t, why);
    if (why == FIN_LAYER_BROKEN)
        keep_failure(t);
    if (why == FIN_LAYER_WANT_READ)
        t->drained = tls->wire->drained;
    tls->read_waits_for_room = why == FIN_LAYER_WANT_WRITE;
    return (ssize_t) total; /* an end or an error behind it is found again */
}

/* ---- writing ---- */

#define LOWER_HIGH ((size_t) 64 * 1024) /* of asyncio's transport below TLS */
#define LOWER_LOW (LOWER_HIGH / 4)

size_t fin__py_tls_backlog(struct fin__py_transport *t)
{
    struct fin__py_tls *tls = t->tls;
    size_t count = t->output.count, below = count > tls->waiting ? count - tls->waiting : 0;

    if (tls->stopped && below <= LOWER_LOW) {
        tls->stopped = false;
        tls->waiting = 0;
        below = count;
    }
    tls->stopped |= below > LOWER_HIGH;
    return tls->waiting;
}

void fin__py_tls_added(struct fin__py_transport *t, size_t count)
{
    if (t->tls->stopped)
        t->tls->waiting += count;
}

static int nothing_sent(struct fin__py_tls *tls, int why)
{
    tls->write_waits_for_input = why == FIN_LAYER_WANT_READ;
    switch (why) {
    case FIN_LAYER_DONE:
    case FIN_LAYER_WANT_READ:
    case FIN_LAYER_WANT_WRITE:
        return 0;
    case FIN_LAYER_EOF:
        return -EPIPE;
    case FIN_LAYER_BROKEN:
    case FIN_LAYER_ANSWERED:
        return -EBADMSG;
    default:
        return why;
    }
}

/* It counts as sent once the kernel has all of it. */
static int send_record(struct fin__py_tls *tls, const char *bytes, size_t count, size_t *sent)
{
    size_t put = 0;

    if (lib.SSL_write_ex(tls->ssl, bytes, count, &put) <= 0)
        return fin__py_tls_why(tls, 0);
    if (tls->wire->error)
        return -tls->wire->error;
    if (tls->wire->rest_count > 0)
        tls->held = put;
    else
        *sent += put;
    return FIN_LAYER_DONE;
}

int fin__py_tls_send(struct fin__py_transport *t, const char *bytes, size_t count, size_t *sent)
{
    struct fin__py_tls *tls = t->tls;
    int why = FIN_LAYER_DONE;

    *sent = 0;
    if (tls->handshaking || tls->busy)
        return 0;
    if (!fin__py_wire_flush(tls->wire))
        return -tls->wire->error;
    *sent = tls->held;
    tls->held = 0;
    fin__py_tls_enter(tls);
    while (*sent < count && why == FIN_LAYER_DONE && tls->held == 0 && !PyErr_Occurred())
        why = send_record(tls, bytes + *sent, count - *sent, sent);
    return nothing_sent(tls, leave(t, why));
}
