/* SPDX-License-Identifier: MIT */

/* How a transport ends: as asyncio's do. */

#include "transport/close.h"
#include "transport/tls.h"

#include "slots.h"

#include "base/descriptor.h"

#include <errno.h>

/* ---- the descriptor ---- */

static void close_sock(PyObject *sock)
{
    PyObject *done = PyObject_CallMethod(sock, "close", NULL);

    if (!done)
        PyErr_WriteUnraisable(sock);
    Py_XDECREF(done);
}

void fin__py_transport_release(struct fin__py_transport *t)
{
    if (t->fd < 0)
        return;
    fin__py_transport_unwatch(t);
    fin__py_transport_note_names(t);
    fin__py_tls_unplug(t);
    if (t->sock) { /* files that were made of it keep it open, as in asyncio */
        t->fd = -1;
        close_sock(t->sock);
    } else
        fin__drop(&t->fd);
}

/* ---- connection_lost() ---- */

static int queue_loss(struct fin__py_transport *t, PyObject *error)
{
    if (t->losing)
        return 0;
    t->losing = true;
    return fin__py_ring_push(t->loop, fin__py_transport_lose, Py_NewRef(t),
                             Py_NewRef(error ? error : Py_None));
}

static int fail_empty_waiter(struct fin__py_transport *t)
{
    PyObject *waiter = t->empty_waiter, *error;
    int result = -1;

    if (!waiter)
        return 0;
    error = PyObject_CallFunction(PyExc_ConnectionError, "s", "Connection is closed by peer");
    if (error)
        result = fin__py_future_done(&t->loop->module->asyncio, waiter, error);
    Py_XDECREF(error);
    return result;
}

static int tell_protocol(struct fin__py_transport *t, PyObject *error)
{
    PyObject *result;

    if (!t->protocol || !t->made || fin__py_is_handshaking(t))
        return 0;
    result = fin__py_protocol_call(t, t->loop->module->asyncio.name_connection_lost, error);
    if (!result)
        return fin__py_transport_report(t, "Exception in connection_lost()");
    Py_DECREF(result);
    return 0;
}

static int transport_end_finish(struct fin__py_transport *t)
{
    struct fin__py_ending *c = fin__py_ending_of(t);
    int result;

    if (!c)
        fin__py_transport_release(t);
    Py_CLEAR(t->protocol);
    result = t->loop ? fail_empty_waiter(t) : 0;
    if (result == 0 && t->loop && fin__py_transport_detach(t) < 0)
        result = fin__py_transport_report(t, "Exception in Server._detach()");
    if (!c)
        Py_CLEAR(t->loop);
    else if (fin__py_ending_told(c) < 0)
        result = -1;
    return result;
}

int fin__py_transport_lose(struct fin__py_loop *loop, PyObject *self, PyObject *error)
{
    struct fin__py_transport *t = (struct fin__py_transport *) self;
    struct fin__py_aside aside;

    if (!t->loop || t->lost)
        return 0;
    if (fin__py_is_busy(t))
        return fin__py_ring_push(loop, fin__py_transport_lose, Py_NewRef(self), Py_NewRef(error));
    t->losing = t->closing = t->lost = true;
    if (tell_protocol(t, error) == 0 && t->tls)
        (void) fin__py_tls_over(t, error);
    aside = fin__py_set_aside(); /* to leave must wait until all is released */
    (void) transport_end_finish(t);
    return fin__py_raise_again(&aside, self);
}

int fin__py_transport_flushed(struct fin__py_transport *t)
{
    t->losing = true;
    return fin__py_ring_push(t->loop, fin__py_transport_lose, Py_NewRef(t), Py_NewRef(Py_None));
}

/* ---- close() and abort() ---- */

/* 1: the engine closes it; 0: it doesn't, or can't; -1: an exception. */
static int by_engine(struct fin__py_transport *t, PyObject *error, bool aborts)
{
    struct fin_policy policy;
    int result;

    if (!fin__py_closes_by_engine(t))
        return 0;
    policy = t->loop->close_policy;
    if (aborts && t->output.count > 0) /* what was dropped must not end in FIN */
        policy.courtesy = FIN_COURTESY_ABORT;
    result = fin__py_ending_begin(t, &policy, aborts ? FIN__PY_BY_ABORT : FIN__PY_BY_CLOSE, error);
    return result < 0 ? -1 : result == 0;
}

int fin__py_transport_close(struct fin__py_transport *t)
{
    int taken;

    if (t->closing || !t->loop || fin__py_tls_postpones(t, FIN__PY_CLOSE, NULL))
        return 0;
    if (fin__py_is_handshaking(t))
        return fin__py_transport_force(t, NULL);
    taken = by_engine(t, NULL, false);
    if (taken)
        return taken < 0 ? -1 : 0;
    if (t->tls)
        return fin__py_tls_shut(t);
    t->closing = true;
    return t->output.count > 0 ? 0 : queue_loss(t, NULL);
}

/* What was buffered and is not sent must not end in FIN. */
int fin__py_transport_force(struct fin__py_transport *t, PyObject *error)
{
    struct fin__py_ending *c = fin__py_ending_of(t);
    int taken;

    if (fin__py_tls_postpones(t, FIN__PY_ABORT, error))
        return 0;
    if (c)
        return c->told || t->output.count > 0 ? fin__py_ending_abort(c, error) : 0;
    if (t->losing || !t->loop)
        return 0;
    taken = by_engine(t, error, true);
    if (taken > 0 && !error)
        fin__py_ending_aborted(t);
    if (taken)
        return taken < 0 ? -1 : 0;
    fin__py_output_free(t);
    t->closing = true;
    return queue_loss(t, error);
}
