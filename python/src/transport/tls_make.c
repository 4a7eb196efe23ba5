/* SPDX-License-Identifier: MIT */

/* Where TLS begins: on a new connection, and on one that was plain. */

#include "transport/tls.h"

static int parse(PyObject *tuple, struct fin__py_wanted *wanted)
{
    int server_side;

    if (!PyArg_ParseTuple(tuple, "OOddp:TLS", &wanted->object, &wanted->context,
                          &wanted->handshake_timeout, &wanted->shutdown_timeout, &server_side))
        return -1;
    wanted->server_side = server_side;
    return 0;
}

static int begin(struct fin__py_transport *t, const struct fin__py_wanted *wanted)
{
    if (fin__py_tls_put(t, wanted) < 0)
        return -1;
    return fin__py_ring_push(t->loop, fin__py_tls_begin, Py_NewRef(t), NULL);
}

/* _make_tls_transport(sock, protocol, waiter, extra, server, (SSLObject, SSLContext, handshake
 * timeout, shutdown timeout, server_side)) */
PyObject *fin__py_make_tls_transport(PyObject *object, PyObject *args)
{
    PyObject *sock, *protocol, *waiter, *extra, *server, *tuple;
    struct fin__py_loop *loop = (struct fin__py_loop *) object;
    struct fin__py_wanted wanted = { 0 };
    struct fin__py_transport *t;

    if (!PyArg_ParseTuple(args, "OOOOOO!", &sock, &protocol, &waiter, &extra, &server,
                          &PyTuple_Type, &tuple)
        || parse(tuple, &wanted) < 0)
        return NULL;
    wanted.waiter = waiter == Py_None ? NULL : waiter;
    t = fin__py_transport_of_sock(loop, loop->module->asyncio.transport_type, sock, protocol, extra,
                                  server);
    if (t && begin(t, &wanted) < 0) {
        fin__py_transport_leave_sock(t);
        return NULL;
    }
    return (PyObject *) t;
}

static int put_layer(struct fin__py_transport *t, PyObject *make_layer)
{
    PyObject *layer = PyObject_CallOneArg(make_layer, t->protocol);
    int result = layer ? fin__py_transport_set_protocol(t, layer) : -1;

    Py_XDECREF(layer);
    return result;
}

int fin__py_tls_accept(struct fin__py_transport *t, PyObject *tuple)
{
    struct fin__py_wanted wanted = { .server_side = true };
    PyObject *wrap, *make_layer;
    int result;

    if (!PyArg_ParseTuple(tuple, "OOOdd:TLS", &wrap, &make_layer, &wanted.context,
                          &wanted.handshake_timeout, &wanted.shutdown_timeout))
        return -1;
    wanted.object = PyObject_CallNoArgs(wrap);
    if (!wanted.object)
        return -1;
    if (Py_IsNone(wanted.object))
        result = put_layer(t, make_layer);
    else
        result = fin__py_tls_put(t, &wanted);
    Py_DECREF(wanted.object);
    return result;
}

/* What a StreamReader has read already belongs to the handshake. */
static int take_early(struct fin__py_transport *t, const Py_buffer *early)
{
    if (fin__py_wire_feed(t->tls->wire, early->buf, (size_t) early->len) == 0)
        return 0;
    PyErr_NoMemory();
    return -1;
}

static bool is_ready(const struct fin__py_transport *t)
{
    return t->loop && t->made && t->watched && !t->tls && !t->connecting && !t->closing
        && !t->losing && !t->eof && !t->ending && !t->plain && !t->empty_waiter
        && t->output.count == 0;
}

static PyObject *start(struct fin__py_transport *t, PyObject *protocol,
                       const struct fin__py_wanted *wanted, const Py_buffer *early)
{
    if (fin__py_transport_set_protocol(t, protocol) < 0)
        return NULL;
    if (!is_ready(t)) /* the protocol's class was asked, and may have done anything */
        Py_RETURN_FALSE;
    if (begin(t, wanted) < 0)
        return NULL;
    if (take_early(t, early) < 0)
        return NULL;
    t->paused = t->reading_over = t->writing_paused = false;
    Py_RETURN_TRUE;
}

/* transport._start_tls(protocol, waiter, early, (...)): False: asyncio's way must be taken. */
PyObject *fin__py_start_tls(PyObject *object, PyObject *args)
{
    struct fin__py_transport *t = (struct fin__py_transport *) object;
    PyObject *protocol, *tuple, *result = NULL;
    struct fin__py_wanted wanted = { 0 };
    Py_buffer early;

    if (!PyArg_ParseTuple(args, "OOy*O!", &protocol, &wanted.waiter, &early, &PyTuple_Type, &tuple))
        return NULL;
    if (parse(tuple, &wanted) == 0)
        result = is_ready(t) ? start(t, protocol, &wanted, &early) : Py_NewRef(Py_False);
    PyBuffer_Release(&early);
    return result;
}

/* ---- without the descriptor ---- */

PyObject *fin__py_tls_feed(PyObject *object, PyObject *bytes)
{
    struct fin__py_transport *t = (struct fin__py_transport *) object;
    Py_buffer view;
    int result;

    if (!t->tls)
        return PyErr_Format(PyExc_RuntimeError, "the transport has no TLS");
    if (fin__py_refuses(t, "_feed") || PyObject_GetBuffer(bytes, &view, PyBUF_SIMPLE) < 0)
        return NULL;
    result = fin__py_wire_feed(t->tls->wire, view.buf, (size_t) view.len);
    PyBuffer_Release(&view);
    return result < 0 ? PyErr_NoMemory() : Py_NewRef(Py_None);
}

PyObject *fin__py_tls_collect(PyObject *object, PyObject *unused)
{
    struct fin__py_transport *t = (struct fin__py_transport *) object;
    struct fin__py_wire *wire;
    PyObject *bytes;

    (void) unused;
    if (!t->tls)
        return PyErr_Format(PyExc_RuntimeError, "the transport has no TLS");
    if (fin__py_refuses(t, "_collect"))
        return NULL;
    wire = t->tls->wire;
    wire->kept = true;
    bytes = PyBytes_FromStringAndSize(wire->late, (Py_ssize_t) wire->late_count);
    if (bytes)
        wire->late_count = 0;
    return bytes;
}
