/* SPDX-License-Identifier: MIT */

/* A session's life on a transport: the handshake, which is CPython's own do_handshake(), so that
 * its callbacks and errors are what they are elsewhere, and the interpreter's lock is given up in
 * it. */

#include "transport/tls.h"

#include "slots.h"

#include <sys/epoll.h>

#define HEARD (EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLERR)
#define ENDED (EPOLLRDHUP | EPOLLHUP | EPOLLERR)
#define CTRL_MODE 33
#define PARTIAL_WRITE 1
#define MOVING_BUFFER 2
#define AUTO_RETRY 4
#define HIGH ((size_t) 512 * 1024) /* asyncio's FLOW_CONTROL_HIGH_WATER_SSL_WRITE */

#define lib fin__py_openssl

/* ---- life ---- */

static struct fin__py_tls *tls_new(const struct fin__py_wanted *wanted)
{
    struct fin__py_tls *tls = PyMem_Calloc(1, sizeof *tls);

    if (!tls) {
        PyErr_NoMemory();
        return NULL;
    }
    tls->object = Py_NewRef(wanted->object);
    tls->waiter = Py_XNewRef(wanted->waiter);
    tls->handshake_timeout = wanted->handshake_timeout;
    tls->shutdown_timeout = wanted->shutdown_timeout;
    tls->server_side = wanted->server_side;
    tls->handshaking = true;
    return tls;
}

/* The session goes last, and with it the wire. */
static void tls_free(struct fin__py_tls *tls)
{
    fin__py_tls_clear(tls);
    Py_CLEAR(tls->info);
    Py_CLEAR(tls->object);
    Py_CLEAR(tls->session);
    PyMem_Free(tls);
}

static int plug(struct fin__py_tls *tls, int fd)
{
    tls->session = PyObject_GetAttrString(tls->object, "_sslobj");
    tls->ssl = tls->session ? fin__py_ssl_of(tls->session, true) : NULL;
    if (!tls->ssl) {
        if (!PyErr_Occurred())
            PyErr_SetString(PyExc_RuntimeError, "the session is of an unknown kind");
        return -1;
    }
    tls->wire = fin__py_wire_put(tls->ssl, fd);
    if (!tls->wire)
        return -1;
    lib.SSL_set_read_ahead(tls->ssl, 1);
    /* Partial writes show how far the write has come. */
    (void) lib.SSL_ctrl(tls->ssl, CTRL_MODE, PARTIAL_WRITE | MOVING_BUFFER | AUTO_RETRY, NULL);
    return 0;
}

/* By what the program has in the SSLObject. */
static bool is_taken(const struct fin__py_transport *t)
{
    if (!t->tls && t->fd >= 0)
        return false;
    PyErr_SetString(PyExc_RuntimeError, "the transport is in use");
    return true;
}

int fin__py_tls_put(struct fin__py_transport *t, const struct fin__py_wanted *wanted)
{
    struct fin__py_tls *tls = tls_new(wanted);

    if (!tls)
        return -1;
    tls->info = PyDict_New();
    if (!tls->info || PyDict_SetItemString(tls->info, "sslcontext", wanted->context) < 0
        || plug(tls, t->fd) < 0 || is_taken(t)) {
        tls_free(tls);
        return -1;
    }
    fin__py_need_witness(t->loop); /* aclose() is the engine's, whatever the loop's policy */
    fin__py_transport_hurry(t);
    t->tls = tls;
    t->high = HIGH;
    t->low = HIGH / 4;
    fin__py_tls_layer(t);
    return 0;
}

int fin__py_tls_traverse(struct fin__py_tls *tls, visitproc visit, void *arg)
{
    if (!tls)
        return 0;
    Py_VISIT(tls->object);
    Py_VISIT(tls->session);
    Py_VISIT(tls->waiter);
    Py_VISIT(tls->timer);
    Py_VISIT(tls->error);
    Py_VISIT(tls->failure);
    Py_VISIT(tls->info);
    return 0;
}

void fin__py_tls_clear(struct fin__py_tls *tls)
{
    if (!tls)
        return;
    Py_CLEAR(tls->waiter);
    Py_CLEAR(tls->timer);
    Py_CLEAR(tls->error);
    Py_CLEAR(tls->failure);
}

void fin__py_tls_free(struct fin__py_transport *t)
{
    struct fin__py_tls *tls = t->tls;

    if (!tls)
        return;
    fin__py_tls_unplug(t);
    t->tls = NULL;
    tls_free(tls);
}

void fin__py_tls_unplug(struct fin__py_transport *t)
{
    if (t->tls)
        fin__py_wire_unplug(t->tls->wire);
}

/* ---- what OpenSSL calls may ask for what must wait ---- */

/* To clear nothing takes longer than to look. */
static void clear_errors(void)
{
    if (lib.ERR_peek_error() != 0)
        lib.ERR_clear_error();
}

void fin__py_tls_enter(struct fin__py_tls *tls)
{
    clear_errors();
    tls->busy = true;
}

static int do_later(struct fin__py_loop *loop, PyObject *self, PyObject *unused)
{
    struct fin__py_transport *t = (struct fin__py_transport *) self;
    enum fin__py_later later = t->tls->later;
    PyObject *error = t->tls->error;
    int result = 0;

    (void) loop;
    (void) unused;
    t->tls->later = FIN__PY_NOTHING;
    t->tls->error = NULL;
    if (later == FIN__PY_CLOSE)
        result = fin__py_transport_close(t);
    if (later == FIN__PY_ABORT)
        result = fin__py_transport_force(t, error);
    Py_XDECREF(error);
    return result;
}

void fin__py_tls_leave(struct fin__py_transport *t)
{
    struct fin__py_tls *tls = t->tls;

    tls->busy = false;
    clear_errors();
    if (tls->later != FIN__PY_NOTHING && t->loop
        && fin__py_ring_push(t->loop, do_later, Py_NewRef(t), NULL) < 0)
        PyErr_WriteUnraisable((PyObject *) t);
}

int fin__py_tls_raised(struct fin__py_tls *tls, int why)
{
    if (!PyErr_Occurred())
        return why;
    Py_XSETREF(tls->failure, fin__py_take_error());
    return FIN_LAYER_BROKEN;
}

bool fin__py_tls_postpones(struct fin__py_transport *t, enum fin__py_later what, PyObject *error)
{
    struct fin__py_tls *tls = t->tls;

    if (!tls || !tls->busy)
        return false;
    if (tls->later < what) {
        tls->later = what;
        Py_XSETREF(tls->error, Py_XNewRef(error));
    }
    return true;
}

bool fin__py_refuses(const struct fin__py_transport *t, const char *method)
{
    if (!fin__py_is_busy(t))
        return false;
    PyErr_Format(PyExc_RuntimeError, "Cannot call %s() in a callback of the session", method);
    return true;
}

/* ---- timers ---- */

int fin__py_tls_arm(struct fin__py_transport *t, double seconds)
{
    fin__py_tls_disarm(t->tls);
    t->tls->timer = fin__py_transport_call_later(t, seconds, "_deadline");
    return t->tls->timer ? 0 : -1;
}

static int too_slow(struct fin__py_transport *t)
{
    PyObject *seconds = PyFloat_FromDouble(t->tls->handshake_timeout), *text = NULL, *error = NULL;
    int result = -1;

    if (seconds)
        text = PyUnicode_FromFormat(
            "SSL handshake is taking longer than %S seconds: aborting the connection", seconds);
    if (text)
        error = PyObject_CallOneArg(PyExc_ConnectionAbortedError, text);
    if (error)
        result = fin__py_transport_force(t, error);
    Py_XDECREF(seconds);
    Py_XDECREF(text);
    Py_XDECREF(error);
    return result;
}

PyObject *fin__py_tls_deadline(PyObject *object, PyObject *unused)
{
    struct fin__py_transport *t = (struct fin__py_transport *) object;
    int result = 0;

    (void) unused;
    if (!t->tls || t->fd < 0 || !t->loop || t->losing)
        Py_RETURN_NONE;
    Py_CLEAR(t->tls->timer);
    if (t->tls->handshaking)
        result = too_slow(t);
    else if (t->tls->shutting)
        result = fin__py_tls_shut_too_late(t);
    return fin__py_nothing(result);
}

/* ---- the handshake ---- */

static int wake(struct fin__py_transport *t, PyObject *error)
{
    PyObject *waiter = t->tls->waiter;
    int result;

    t->tls->waiter = NULL;
    if (!waiter)
        return 0;
    result = fin__py_future_done(&t->loop->module->asyncio, waiter, error);
    Py_DECREF(waiter);
    return result;
}

int fin__py_tls_over(struct fin__py_transport *t, PyObject *error)
{
    fin__py_tls_disarm(t->tls);
    t->tls->shutting = false;
    return t->loop ? wake(t, error == Py_None ? NULL : error) : 0;
}

/* What is raised of others than OSError is reported. */
static int failed(struct fin__py_transport *t)
{
    PyObject *error;
    int result = 0;

    if (fin__py_ends_the_run())
        return -1;
    error = fin__py_take_error();
    t->tls->handshaking = false;
    t->tls->abrupt = true; /* the session can say nothing */
    if (!PyErr_GivenExceptionMatches(error, PyExc_OSError)) {
        PyErr_SetObject((PyObject *) Py_TYPE(error), error);
        result = fin__py_transport_report(t, "SSL handshake failed");
    }
    if (result == 0 && t->loop)
        result = fin__py_transport_force(t, error);
    if (result == 0 && t->loop)
        result = wake(t, error);
    Py_DECREF(error);
    return result;
}

/* do_handshake() has raised something: it may only have to wait. */
static int not_yet(struct fin__py_transport *t)
{
    const struct fin__py_asyncio *a = &t->loop->module->asyncio;
    const struct fin__py_wire *wire = t->tls->wire;

    if (!PyErr_ExceptionMatches(a->ssl_want_read) && !PyErr_ExceptionMatches(a->ssl_want_write))
        return failed(t);
    PyErr_Clear();
    if (!wire->error && !wire->eof)
        return 0;
    if (wire->error)
        (void) fin__py_os_error(-wire->error);
    else
        PyErr_SetNone(PyExc_ConnectionResetError);
    return failed(t);
}

/* What came behind the handshake is read at once, and what was written meanwhile is sent. */
static int established(struct fin__py_transport *t)
{
    struct fin__py_tls *tls = t->tls;
    PyObject *waiter = tls->waiter;
    int result;

    fin__py_tls_disarm(tls);
    tls->handshaking = false;
    if (PyDict_SetItemString(tls->info, "ssl_object", tls->object) < 0)
        return failed(t);
    tls->waiter = NULL;
    if (t->made)
        result = waiter ? fin__py_future_done(&t->loop->module->asyncio, waiter, NULL) : 0;
    else
        result = fin__py_transport_begin(t->loop, (PyObject *) t, waiter);
    Py_XDECREF(waiter);
    t->events |= EPOLLIN | EPOLLOUT;
    t->drained = false;
    if (result == 0 && t->output.count > 0 && t->fd >= 0 && !t->losing && !t->ending)
        result = fin__py_transport_writable(t);
    if (result == 0 && fin__py_transport_wants_read(t))
        result = fin__py_transport_read(t);
    if (result == 0 && !t->drained && fin__py_transport_wants_read(t))
        result = fin__py_transport_queue(t);
    return result;
}

static PyObject *shake_in_context(struct fin__py_transport *t)
{
    PyObject *context = Py_NewRef(t->context), *done = NULL;

    if (PyContext_Enter(context) == 0) {
        done = PyObject_CallMethod(t->tls->object, "do_handshake", NULL);
        fin__py_context_leave(context);
    }
    Py_DECREF(context);
    return done;
}

static int shake(struct fin__py_transport *t)
{
    struct fin__py_tls *tls = t->tls;
    PyObject *done;

    fin__py_tls_enter(tls);
    done = shake_in_context(t);
    fin__py_tls_leave(t);
    if (tls->later != FIN__PY_NOTHING || !t->loop) { /* it won't come to anything */
        Py_XDECREF(done);
        PyErr_Clear();
        return 0;
    }
    if (!done)
        return not_yet(t);
    Py_DECREF(done);
    return established(t);
}

/* A server has nothing to do before something came. */
int fin__py_tls_begin(struct fin__py_loop *loop, PyObject *self, PyObject *unused)
{
    struct fin__py_transport *t = (struct fin__py_transport *) self;

    (void) loop;
    (void) unused;
    if (!t->loop || t->losing || t->closing || t->fd < 0)
        return 0;
    if (fin__py_tls_arm(t, t->tls->handshake_timeout) < 0)
        return -1;
    if (t->tls->server_side && !(t->events & HEARD) && t->tls->wire->early_count == 0)
        return 0;
    return shake(t) < 0 ? fin__py_transport_left(t) : 0;
}

/* ---- events ---- */

/* A read may have to write first, in which case room for bytes is what it waits for, and a write to
 * read. Either goes on where it always does. */
static void cross(struct fin__py_transport *t, uint32_t events)
{
    struct fin__py_tls *tls = t->tls;

    if (tls->read_waits_for_room && events & EPOLLOUT) {
        tls->read_waits_for_room = t->drained = false;
        t->events |= EPOLLIN;
    }
    if (tls->write_waits_for_input && events & HEARD) {
        tls->write_waits_for_input = false;
        t->events |= EPOLLOUT;
    }
}

void fin__py_tls_news(struct fin__py_transport *t, uint32_t events)
{
    struct fin__py_wire *wire = t->tls->wire;

    if (events & HEARD)
        wire->drained = false;
    if (events & ENDED)
        wire->ending = true;
    if (events & EPOLLOUT)
        wire->full = false;
    if (wire->rest_count > 0 && !t->losing && !t->tls->busy)
        (void) fin__py_wire_flush(wire);
    cross(t, events);
}

bool fin__py_tls_is_concerned(const struct fin__py_transport *t)
{
    const struct fin__py_tls *tls = t->tls;

    if (!tls || t->losing || t->ending || tls->busy)
        return false;
    return tls->handshaking ? t->made || !t->closing : tls->shutting;
}

int fin__py_tls_look(struct fin__py_transport *t)
{
    struct fin__py_tls *tls = t->tls;

    t->events &= ~(uint32_t) EPOLLOUT;
    if (tls->handshaking)
        return tls->timer ? shake(t) : 0; /* else it has not begun */
    return fin__py_tls_shut_more(t);
}
