/* SPDX-License-Identifier: MIT */

/* Connecting to an address without a task or a socket object of Python's: a coroutine in C. */

#include "transport/transport.h"

#include "slots.h"

#include "base/descriptor.h"
#include "close/endpoint.h"

#include <errno.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/epoll.h>

#define ASKED_EVERY 256

enum state {
    FRESH,
    CONNECTING,
    OVER
};

struct attempt {
    PyObject ob_base;
    struct fin__py_loop *loop;
    PyObject *factory;
    struct fin__py_transport *transport;
    struct fin__py_address to;
    enum state state;
};

/* ---- the connection ---- */

static void give_up(struct attempt *c)
{
    struct fin__py_transport *t = c->transport;

    c->state = OVER;
    c->transport = NULL;
    if (!t)
        return;
    t->connecting = false;
    fin__py_transport_unwatch(t);
    fin__drop(&t->fd);
    Py_CLEAR(t->waiter);
    Py_CLEAR(t->loop);
    Py_DECREF(t);
}

/* An event of a socket that connects. */
int fin__py_connected(struct fin__py_transport *t)
{
    socklen_t size = sizeof t->error;
    PyObject *waiter;
    int result;

    if (!(t->events & (EPOLLOUT | EPOLLERR | EPOLLHUP)))
        return 0;
    if (t->events & (EPOLLERR | EPOLLHUP))
        (void) getsockopt(t->fd, SOL_SOCKET, SO_ERROR, &t->error, &size);
    t->connecting = false;
    waiter = t->waiter;
    t->waiter = NULL;
    if (!waiter)
        return 0;
    result = fin__py_future_done(&t->loop->module->asyncio, waiter, NULL);
    Py_DECREF(waiter);
    return result;
}

/* As asyncio says it. */
static int refused(const struct attempt *c, int error)
{
    PyObject *address = fin__py_address(&c->to.at.any, fin__py_address_size(&c->to)), *text = NULL,
             *value = NULL;

    if (address)
        text = PyUnicode_FromFormat("Connect call failed %R", address);
    if (text)
        value = PyObject_CallFunction(PyExc_OSError, "iO", error, text);
    if (value)
        PyErr_SetObject((PyObject *) Py_TYPE(value), value);
    Py_XDECREF(address);
    Py_XDECREF(text);
    Py_XDECREF(value);
    return -1;
}

/* A system may make MPTCP sockets when TCP is asked for: all of them or none. So the first is
 * checked, and then one now and then. */
static bool is_tcp(struct fin__py_loop *loop, int fd)
{
    if (loop->closes && loop->connects++ % ASKED_EVERY == 0)
        loop->makes_tcp = fin__endpoint_is_plain_tcp(fd);
    return loop->makes_tcp;
}

static int connect_begin(struct attempt *c)
{
    int fd = socket(c->to.at.any.sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    struct fin__py_transport *t;

    if (fd < 0) {
        (void) fin__py_os_error(-errno);
        return -1;
    }
    t = c->transport =
        fin__py_transport_new(c->loop, c->loop->module->asyncio.transport_type, fd, NULL);
    if (!t)
        return -1;
    t->delays = true;
    t->connecting = true;
    t->no_linger = true;
    t->tcp = is_tcp(c->loop, fd);
    t->theirs = c->to;
    if (connect(fd, &c->to.at.any, fin__py_address_size(&c->to)) < 0 && errno != EINPROGRESS)
        return refused(c, errno);
    if (fin__py_transport_watch(t) < 0)
        return -1;
    t->waiter = fin__py_create_future((PyObject *) c->loop, NULL);
    return t->waiter ? 0 : -1;
}

/* Its protocol has begun, and is to hear of the end. */
static void end_of_one_made(struct fin__py_transport *t)
{
    const struct fin__py_aside aside = fin__py_set_aside();

    (void) fin__py_transport_force(t, NULL);
    (void) fin__py_raise_again(&aside, (PyObject *) t);
}

/* The pair that create_connection() returns. */
static PyObject *connect_finish(struct attempt *c)
{
    struct fin__py_transport *t = c->transport;
    PyObject *protocol, *pair = NULL;

    if (t->connecting || t->error != 0) {
        if (t->connecting)
            PyErr_SetString(PyExc_RuntimeError, "nothing has connected yet");
        else
            (void) refused(c, t->error);
        return NULL;
    }
    Py_INCREF(t); /* what the program is asked for may end this coroutine */
    protocol = PyObject_CallNoArgs(c->factory);
    if (protocol && c->transport != t)
        PyErr_SetString(PyExc_RuntimeError, "the coroutine was closed while it made the protocol");
    else if (protocol && fin__py_transport_set_protocol(t, protocol) == 0
             && fin__py_transport_begin(c->loop, (PyObject *) t, NULL) == 0)
        pair = PyTuple_Pack(2, (PyObject *) t, protocol);
    Py_XDECREF(protocol);
    if (pair || t->made) {
        c->state = OVER;
        Py_CLEAR(c->transport);
    }
    if (!pair && t->made)
        end_of_one_made(t);
    Py_DECREF(t);
    return pair;
}

/* ---- the coroutine ---- */

static PySendResult wait_for(struct attempt *c, PyObject **result)
{
    c->state = CONNECTING;
    if (connect_begin(c) < 0
        || PyObject_SetAttr(c->transport->waiter, c->loop->module->asyncio.name_blocking, Py_True)
            < 0) {
        give_up(c);
        return PYGEN_ERROR;
    }
    *result = Py_NewRef(c->transport->waiter);
    return PYGEN_NEXT;
}

static PySendResult send_(PyObject *object, PyObject *value, PyObject **result)
{
    struct attempt *c = (struct attempt *) object;

    (void) value;
    *result = NULL;
    if (c->state == OVER) {
        PyErr_SetString(PyExc_RuntimeError, "cannot reuse already awaited coroutine");
        return PYGEN_ERROR;
    }
    if (c->state == FRESH)
        return wait_for(c, result);
    *result = connect_finish(c);
    if (*result)
        return PYGEN_RETURN;
    give_up(c);
    return PYGEN_ERROR;
}

static PyObject *next(PyObject *object)
{
    PyObject *value, *stop;

    switch (send_(object, Py_None, &value)) {
    case PYGEN_NEXT:
        return value;
    case PYGEN_RETURN:
        stop = PyObject_CallOneArg(PyExc_StopIteration, value);
        Py_DECREF(value);
        if (stop)
            PyErr_SetObject(PyExc_StopIteration, stop);
        Py_XDECREF(stop);
        return NULL;
    default:
        return NULL;
    }
}

static PyObject *send_method(PyObject *object, PyObject *value)
{
    (void) value;
    return next(object);
}

int fin__py_thrown(PyObject *args, PyObject **type, PyObject **value)
{
    PyObject *trace;

    *value = NULL;
    if (!PyArg_ParseTuple(args, "O|OO:throw", type, value, &trace))
        return -1;
    if (PyExceptionInstance_Check(*type)) {
        *value = *type;
        *type = (PyObject *) Py_TYPE(*value);
    }
    return 0;
}

static PyObject *throw_(PyObject *object, PyObject *args)
{
    PyObject *type, *value;

    if (fin__py_thrown(args, &type, &value) == 0) {
        give_up((struct attempt *) object);
        PyErr_SetObject(type, value);
    }
    return NULL;
}

static PyObject *connect_close(PyObject *object, PyObject *unused)
{
    (void) unused;
    give_up((struct attempt *) object);
    Py_RETURN_NONE;
}

/* ---- the type ---- */

static int connect_traverse(PyObject *object, visitproc visit, void *arg)
{
    const struct attempt *c = (struct attempt *) object;

    Py_VISIT(Py_TYPE(object));
    Py_VISIT(c->loop);
    Py_VISIT(c->factory);
    Py_VISIT(c->transport);
    return 0;
}

static void finalize(PyObject *object)
{
    const struct attempt *c = (struct attempt *) object;
    struct fin__py_aside aside;

    if (c->state != FRESH)
        return;
    aside = fin__py_set_aside();
    if (PyErr_WarnFormat(PyExc_RuntimeWarning, 1, "coroutine 'create_connection' was never awaited")
        < 0)
        PyErr_WriteUnraisable(object);
    fin__py_restore(&aside);
}

static void connect_dealloc(PyObject *object)
{
    struct attempt *c = (struct attempt *) object;

    if (PyObject_CallFinalizerFromDealloc(object) < 0)
        return;
    PyObject_GC_UnTrack(object);
    give_up(c);
    Py_CLEAR(c->factory);
    Py_CLEAR(c->loop);
    fin__py_free(object);
}

static PyMethodDef methods[] = {
    { "send", send_method, METH_O, NULL },
    { "throw", throw_, METH_VARARGS, NULL },
    { "close", connect_close, METH_NOARGS, NULL },
    { NULL, NULL, 0, NULL },
};

static PyType_Slot slots[] = {
    { Py_tp_doc, "A connection in the making." },
    { Py_tp_methods, methods },
    { Py_tp_traverse, connect_traverse },
    { Py_tp_finalize, finalize },
    { Py_tp_dealloc, connect_dealloc },
    { Py_tp_iter, PyObject_SelfIter },
    { Py_tp_iternext, next },
    { Py_am_await, PyObject_SelfIter },
    { Py_am_send, send_ },
    { 0, NULL },
};

static PyType_Spec spec = {
    .name = "finack._core.Connect",
    .basicsize = sizeof(struct attempt),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = slots,
};

/* asyncio.iscoroutine() asks collections.abc. */
int fin__py_add_connect(PyObject *module, struct fin__py_asyncio *a)
{
    a->connect_type = (PyTypeObject *) PyType_FromModuleAndSpec(module, &spec, NULL);
    return a->connect_type ? fin__py_enlist("Coroutine", a->connect_type) : -1;
}

/* ---- of the loop ---- */

/* Is asyncio's way to connect the class's and the loop's own, and does nobody want to know where
 * sockets are made? 0, 1, or -1 with an exception. */
static int may_be_quick(PyObject *object)
{
    const struct fin__py_loop *loop = (struct fin__py_loop *) object;
    const struct fin__py_asyncio *a = &loop->module->asyncio;
    PyObject *const ways[] = { a->name_sock_connect, a->name_resolved, a->name_make_transport };
    PyObject *plain, *dict = NULL;
    int own = 0, result = 0;

    if (!fin__py_loop_selector(loop) || fin__py_is_filled(loop->placed) || !a->connect_type)
        return 0;
    plain = PyObject_GetAttr(object, a->name_plain);
    if (plain)
        dict = PyObject_GenericGetDict(object, NULL);
    for (size_t i = 0; dict && own == 0 && i < sizeof ways / sizeof *ways; i++)
        own = PyDict_Contains(dict, ways[i]);
    result = !dict || own < 0 ? -1 : own ? 0 : PyObject_IsTrue(plain);
    Py_XDECREF(plain);
    Py_XDECREF(dict);
    return result;
}

static bool connect_parse(PyObject *const *args, struct fin__py_address *to)
{
    Py_ssize_t size;
    const char *host;
    int overflow;
    long port;

    if (!PyUnicode_CheckExact(args[1]) || !PyLong_CheckExact(args[2]))
        return false;
    port = PyLong_AsLongAndOverflow(args[2], &overflow);
    host = PyUnicode_AsUTF8AndSize(args[1], &size);
    if (!host)
        PyErr_Clear();
    return host && !overflow && strlen(host) == (size_t) size
        && fin__py_address_parse(host, port, to);
}

static PyObject *make_attempt(PyObject *object, PyObject *factory, const struct fin__py_address *to)
{
    struct fin__py_loop *loop = (struct fin__py_loop *) object;
    PyTypeObject *type = loop->module->asyncio.connect_type;
    struct attempt *c = (struct attempt *) type->tp_alloc(type, 0);

    if (!c)
        return NULL;
    c->loop = (struct fin__py_loop *) Py_NewRef(loop);
    c->factory = Py_NewRef(factory);
    c->to = *to;
    return (PyObject *) c;
}

/* _connect(factory, host, port): None if asyncio's way has to be taken. */
PyObject *fin__py_connect(PyObject *object, PyObject *const *args, Py_ssize_t count)
{
    struct fin__py_address to;
    int quick;

    if (count != 3) {
        PyErr_BadArgument();
        return NULL;
    }
    quick = connect_parse(args, &to) ? may_be_quick(object) : 0;
    if (quick < 0)
        return NULL;
    return quick ? make_attempt(object, args[0], &to) : Py_NewRef(Py_None);
}
