/* SPDX-License-Identifier: MIT */

/* The type finack.Transport, of a TCP or Unix stream: what it has beside transport.c. */

#include "transport/tls.h"

#include "slots.h"

static struct fin__py_transport *stream(PyObject *object)
{
    return (struct fin__py_transport *) object;
}

/* _make_transport(sock, protocol, waiter, extra, server): of a socket that the program has, or
 * asyncio made. */
PyObject *fin__py_make_transport(PyObject *object, PyObject *args)
{
    PyObject *sock, *protocol, *waiter, *extra, *server;
    struct fin__py_loop *loop = (struct fin__py_loop *) object;
    struct fin__py_transport *t;

    if (!PyArg_ParseTuple(args, "OOOOO", &sock, &protocol, &waiter, &extra, &server))
        return NULL;
    t = fin__py_transport_of_sock(loop, loop->module->asyncio.transport_type, sock, protocol, extra,
                                  server);
    return t ? fin__py_transport_begin_soon(t, waiter) : NULL;
}

/* ---- methods ---- */

static PyObject *can_write_eof(PyObject *object, PyObject *unused)
{
    (void) unused;
    return PyBool_FromLong(!stream(object)->tls);
}

/* What sendfile() needs: the buffer empty, and the epoll entry out of the way of its own. */
static PyObject *make_empty_waiter(PyObject *object, PyObject *unused)
{
    struct fin__py_transport *t = stream(object);

    (void) unused;
    if (t->empty_waiter)
        return PyErr_Format(PyExc_RuntimeError, "Empty waiter is already set");
    if (!t->loop)
        return PyErr_Format(PyExc_RuntimeError, "Transport is closing");
    t->empty_waiter = fin__py_create_future((PyObject *) t->loop, NULL);
    if (!t->empty_waiter
        || (t->output.count == 0
            && fin__py_future_done(&t->loop->module->asyncio, t->empty_waiter, NULL) < 0))
        return NULL;
    return Py_NewRef(t->empty_waiter);
}

static PyObject *reset_empty_waiter(PyObject *object, PyObject *unused)
{
    (void) unused;
    Py_CLEAR(stream(object)->empty_waiter);
    Py_RETURN_NONE;
}

static PyObject *lend(PyObject *object, PyObject *unused)
{
    (void) unused;
    fin__py_transport_unwatch(stream(object));
    Py_RETURN_NONE;
}

static PyObject *take_back(PyObject *object, PyObject *unused)
{
    struct fin__py_transport *t = stream(object);

    (void) unused;
    if (t->fd >= 0 && !t->watched && fin__py_transport_watch(t) < 0)
        return NULL;
    Py_RETURN_NONE;
}

static PyObject *get_yes(PyObject *object, void *unused)
{
    (void) object;
    (void) unused;
    Py_RETURN_TRUE;
}

static PyObject *get_sendfile_mode(PyObject *object, void *unused)
{
    const struct fin__py_loop *loop = stream(object)->loop;

    (void) unused;
    if (!loop)
        Py_RETURN_NONE;
    return Py_NewRef(stream(object)->tls ? loop->module->asyncio.fall_back
                                         : loop->module->asyncio.try_native);
}

/* ---- the type ---- */

static PyMethodDef methods[] = {
    { "write", fin__py_transport_write, METH_O, "As in asyncio." },
    { "writelines", fin__py_transport_writelines, METH_O, "As in asyncio." },
    { "write_eof", fin__py_transport_write_eof, METH_NOARGS, "As in asyncio." },
    { "can_write_eof", can_write_eof, METH_NOARGS, "As in asyncio." },
    { "_make_empty_waiter", make_empty_waiter, METH_NOARGS, NULL },
    { "_reset_empty_waiter", reset_empty_waiter, METH_NOARGS, NULL },
    { "_deadline", fin__py_tls_deadline, METH_NOARGS, NULL },
    { "_feed", fin__py_tls_feed, METH_O, NULL },
    { "_collect", fin__py_tls_collect, METH_NOARGS, NULL },
    { "_start_tls", fin__py_start_tls, METH_VARARGS, NULL },
    { "_lend", lend, METH_NOARGS, NULL },
    { "_take_back", take_back, METH_NOARGS, NULL },
    { NULL, NULL, 0, NULL },
};

static PyGetSetDef properties[] = {
    { "_start_tls_compatible", get_yes, NULL, NULL, NULL },
    { "_sendfile_compatible", get_sendfile_mode, NULL, NULL, NULL },
    { NULL, NULL, NULL, NULL, NULL },
};

static PyType_Slot slots[] = {
    { Py_tp_doc, "The transport of a connection: an asyncio.Transport." },
    { Py_tp_methods, methods },
    { Py_tp_getset, properties },
    FIN__PY_TRANSPORT_LIFE,
    { 0, NULL },
};

static PyType_Spec spec = {
    .name = "finack.Transport",
    .basicsize = sizeof(struct fin__py_transport),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = slots,
};

int fin__py_add_stream(PyObject *module, struct fin__py_asyncio *a)
{
    a->transport_type = fin__py_transport_kind(module, a, &spec, "Transport");
    return a->transport_type ? 0 : -1;
}
