/* SPDX-License-Identifier: MIT */

/* The type finack.DatagramTransport, of a UDP or Unix datagram socket: what it has beside
 * transport.c. What the kernel refuses is told to the protocol by error_received(), and ends
 * nothing. */

#include "transport/datagram.h"

#include "arguments.h"
#include "slots.h"

#include <errno.h>
#include <stddef.h>
#include <string.h>
#include <structmember.h>
#include <sys/epoll.h>

#define ROOM (256 * 1024)
#define AT_ONCE 32 /* as many datagrams a turn keep the other connections waiting */
#define PAUSE_FIRST 0.001
#define PAUSE_LAST 0.032

#define WRITE_ERROR "Fatal write error on datagram transport"

static struct fin__py_datagrams *of(PyObject *object)
{
    return (struct fin__py_datagrams *) object;
}

/* ---- what waits to be sent ---- */

static size_t weight(PyObject *data)
{
    return (size_t) PyBytes_GET_SIZE(data) + FIN__PY_DATAGRAM_HEADER;
}

static int make_room(struct fin__py_datagrams *d)
{
    size_t room = d->count < 8 ? 16 : d->count * 2;
    struct fin__py_datagram *kept;

    if (d->at + d->count < d->room)
        return 0;
    kept = PyMem_New(struct fin__py_datagram, room);
    if (!kept) {
        PyErr_NoMemory();
        return -1;
    }
    for (size_t i = 0; i < d->count; i++)
        kept[i] = d->kept[d->at + i];
    PyMem_Free(d->kept);
    d->kept = kept;
    d->room = room;
    d->at = 0;
    return 0;
}

static int keep(struct fin__py_datagrams *d, const Py_buffer *view, PyObject *to)
{
    PyObject *data = PyBytes_FromStringAndSize(view->buf, view->len);

    if (!data || make_room(d) < 0) {
        Py_XDECREF(data);
        return -1;
    }
    d->kept[d->at + d->count++] = (struct fin__py_datagram) { data, Py_XNewRef(to) };
    d->base.output.count += weight(data);
    return 0;
}

/* The first one, which may have been dropped meanwhile. */
static void take_off(struct fin__py_datagrams *d, const PyObject *data)
{
    struct fin__py_datagram first;

    if (d->count == 0 || d->kept[d->at].data != data)
        return;
    first = d->kept[d->at++];
    d->count--;
    d->base.output.count -= weight(first.data);
    Py_DECREF(first.data);
    Py_XDECREF(first.to);
}

void fin__py_datagram_drop(struct fin__py_transport *t)
{
    struct fin__py_datagrams *d = of((PyObject *) t);
    struct fin__py_datagram *kept = d->kept;
    size_t from = d->at, count = d->count;

    d->kept = NULL; /* an address may be an object of any kind, which may do anything as it goes */
    d->at = d->count = d->room = 0;
    t->output.count = 0;
    fin__py_handle_drop(&d->timer);
    for (size_t i = from; i < from + count; i++) {
        Py_DECREF(kept[i].data);
        Py_XDECREF(kept[i].to);
    }
    PyMem_Free(kept);
}

size_t fin__py_datagram_unsent(const struct fin__py_transport *t)
{
    const struct fin__py_datagrams *d = (const struct fin__py_datagrams *) (const void *) t;

    return t->output.count - d->count * FIN__PY_DATAGRAM_HEADER;
}

int fin__py_datagram_traverse(PyObject *object, visitproc visit, void *arg)
{
    const struct fin__py_datagrams *d = of(object);

    Py_VISIT(d->address);
    Py_VISIT(d->timer);
    for (size_t i = d->at; i < d->at + d->count; i++)
        Py_VISIT(d->kept[i].to);
    return 0;
}

void fin__py_datagram_clear(PyObject *object)
{
    fin__py_datagram_drop(&of(object)->base);
    Py_CLEAR(of(object)->address);
}

/* ---- reading ---- */

/* A sender without a name is None, as the socket module has it. */
static PyObject *sender(const struct sockaddr_storage *from, socklen_t size)
{
    return size == 0 ? Py_NewRef(Py_None) : fin__py_address((const struct sockaddr *) from, size);
}

static int hand_over(struct fin__py_transport *t, const char *bytes, ssize_t count,
                     PyObject *address)
{
    PyObject *data = address ? PyBytes_FromStringAndSize(bytes, count) : NULL, *done = NULL;

    if (data)
        done = fin__py_protocol_pass(t, t->loop->module->asyncio.name_datagram_received, data,
                                     address);
    Py_XDECREF(data);
    Py_XDECREF(address);
    Py_XDECREF(done);
    return done ? 0 : fin__py_transport_report(t, "Exception in datagram_received()");
}

static int receive(struct fin__py_transport *t, int *error)
{
    char *room = fin__py_loop_buffer(t->loop, ROOM);
    struct sockaddr_storage from = { 0 };
    socklen_t size = sizeof from;
    ssize_t got;

    *error = 0;
    if (!room)
        return fin__py_transport_fail(t, "Fatal read error on datagram transport");
    got = recvfrom(t->fd, room, ROOM, MSG_DONTWAIT, (struct sockaddr *) &from, &size);
    if (got < 0) {
        *error = errno;
        return 0;
    }
    if (got == 0 && size == 0 && of((PyObject *) t)->family != AF_UNIX) {
        t->reading_over = true; /* the program has shut it for reading: nothing was received */
        return 0;
    }
    return hand_over(t, room, got, sender(&from, size));
}

static int tell_error(struct fin__py_transport *t, int error)
{
    PyObject *object, *done;

    (void) fin__py_os_error(-error);
    object = fin__py_take_error();
    done = fin__py_protocol_call(t, t->loop->module->asyncio.name_error_received, object);
    Py_DECREF(object);
    Py_XDECREF(done);
    return done ? 0 : fin__py_transport_report(t, "Exception in error_received()");
}

/* The kernel keeps one error of a socket, and announces the next: a second one in a row is no
 * datagram's, and would come for ever. */
int fin__py_datagram_read(struct fin__py_transport *t)
{
    bool failed = false;
    int result = 0;

    for (int i = 0; i < AT_ONCE && result == 0 && !t->drained && fin__py_transport_wants_read(t);
         i++) {
        int error;

        result = receive(t, &error);
        if (result < 0 || error == EINTR)
            continue;
        t->drained |= error == EAGAIN || (error && failed);
        failed = error != 0;
        if (error && error != EAGAIN)
            result = tell_error(t, error);
    }
    return result;
}

/* ---- sending ---- */

static bool number(PyObject *tuple, Py_ssize_t at, long most, long *value)
{
    PyObject *object = PyTuple_GET_ITEM(tuple, at);
    int overflow;

    if (!PyLong_CheckExact(object))
        return false;
    *value = PyLong_AsLongAndOverflow(object, &overflow);
    return overflow == 0 && *value >= 0 && *value <= most;
}

/* An address as it mostly is: numeric, and of the socket's family. */
static bool is_plain(const struct fin__py_datagrams *d, PyObject *to,
                     struct fin__py_address *address)
{
    Py_ssize_t count = to && PyTuple_CheckExact(to) ? PyTuple_GET_SIZE(to) : 0;
    long port, flow = 0, scope = 0;
    Py_ssize_t length;
    const char *host;

    if (count < 2 || count > (d->family == AF_INET6 ? 4 : 2)
        || !PyUnicode_CheckExact(PyTuple_GET_ITEM(to, 0)))
        return false;
    host = PyUnicode_AsUTF8AndSize(PyTuple_GET_ITEM(to, 0), &length);
    if (!host)
        PyErr_Clear();
    if (!host || strlen(host) != (size_t) length || !number(to, 1, UINT16_MAX, &port)
        || !fin__py_address_parse(host, port, address) || address->at.any.sa_family != d->family)
        return false;
    if ((count > 2 && !number(to, 2, 0xfffff, &flow))
        || (count > 3 && !number(to, 3, UINT32_MAX, &scope)))
        return false;
    if (count > 2)
        address->at.in6.sin6_flowinfo = htonl((uint32_t) flow);
    if (count > 3)
        address->at.in6.sin6_scope_id = (uint32_t) scope;
    return true;
}

/* 1: sent; 0: there is no room; -1: with an exception. */
static int outcome(ssize_t sent)
{
    if (sent >= 0)
        return 1;
    if (errno == EAGAIN || errno == EINTR)
        return 0;
    (void) fin__py_os_error(-errno);
    return -1;
}

/* A method of the program's own make takes what asyncio gives it. */
static PyObject *send_by(PyObject *sock, PyObject *data, PyObject *to)
{
    PyObject *method = PyObject_GetAttrString(sock, "sendto"), *result = NULL;

    if (method && PyCFunction_Check(method))
        result = PyObject_CallFunction(method, "OiO", data, MSG_DONTWAIT, to);
    else if (method)
        result = PyObject_CallFunction(method, "OO", data, to);
    Py_XDECREF(method);
    return result;
}

/* Names, and what is no address, are the socket module's to judge. */
static int put_by_socket(struct fin__py_datagrams *d, const Py_buffer *view, PyObject *to)
{
    PyObject *sock = fin__py_transport_sock(&d->base), *result = NULL;

    if (sock)
        result = send_by(sock, view->obj, to ? to : Py_None);
    Py_XDECREF(sock);
    Py_XDECREF(result);
    if (result)
        return 1;
    if (!PyErr_ExceptionMatches(PyExc_BlockingIOError)
        && !PyErr_ExceptionMatches(PyExc_InterruptedError))
        return -1;
    PyErr_Clear();
    return 0;
}

static int put(struct fin__py_datagrams *d, const Py_buffer *view, PyObject *to)
{
    struct fin__py_address address;
    int fd = d->base.fd;

    if (d->connected || (d->paired && !to))
        return outcome(send(fd, view->buf, (size_t) view->len, FIN__PY_SEND_FLAGS));
    if (!is_plain(d, to, &address))
        return put_by_socket(d, view, to);
    return outcome(sendto(fd, view->buf, (size_t) view->len, FIN__PY_SEND_FLAGS, &address.at.any,
                          fin__py_address_size(&address)));
}

/* An edge tells of room, but for a Unix socket that is not connected: its own poll knows nothing
 * of the peer's queue (unix_dgram_poll()). */
uint32_t fin__py_datagram_news(const struct fin__py_transport *t, uint32_t events)
{
    const struct fin__py_datagrams *d = (const struct fin__py_datagrams *) (const void *) t;

    /* Each try that fails raises one, since it frees what it has allocated. */
    return d->timer ? events & ~(uint32_t) EPOLLOUT : events;
}

static int wait_for_room(struct fin__py_datagrams *d)
{
    if (d->family != AF_UNIX || d->connected || d->timer)
        return 0;
    d->pause = d->moved ? PAUSE_FIRST : d->pause * 2;
    if (d->pause < PAUSE_FIRST)
        d->pause = PAUSE_FIRST;
    if (d->pause > PAUSE_LAST)
        d->pause = PAUSE_LAST;
    d->timer = fin__py_transport_call_later(&d->base, d->pause, "_try_again");
    return d->timer ? 0 : -1;
}

/* The time has come. To a close it is progress only if the last try was. */
static PyObject *try_again(PyObject *object, PyObject *unused)
{
    struct fin__py_datagrams *d = of(object);
    bool closes = d->base.ending != NULL;

    (void) unused;
    fin__py_handle_drop(&d->timer);
    if (d->count > 0 && fin__py_transport_news(object, closes && !d->moved ? 0 : EPOLLOUT) < 0)
        return NULL;
    Py_RETURN_NONE;
}

/* An exception that is set: OSError is the protocol's, who is told in the context that there is.
 * What it raises is raised. 0 or -1. */
static int datagram_refused(struct fin__py_datagrams *d)
{
    struct fin__py_transport *t = &d->base;
    PyObject *protocol, *error, *done;

    if (!PyErr_ExceptionMatches(PyExc_OSError) || !t->protocol || !t->loop)
        return t->loop ? fin__py_transport_fail(t, WRITE_ERROR) : -1;
    error = fin__py_take_error();
    protocol = Py_NewRef(t->protocol);
    done = PyObject_CallMethodOneArg(protocol, t->loop->module->asyncio.name_error_received, error);
    Py_DECREF(protocol);
    Py_DECREF(error);
    return fin__py_done(done);
}

/* What follows the one that was refused is tried in the next turn: no event would tell. */
static int go_on_later(struct fin__py_datagrams *d)
{
    struct fin__py_transport *t = &d->base;
    int result = datagram_refused(d);

    if (result < 0)
        result = fin__py_transport_report(t, "Exception in error_received()");
    if (d->count == 0 || t->fd < 0)
        return result;
    t->events |= EPOLLOUT;
    return result < 0 ? fin__py_transport_left(t) : fin__py_transport_queue(t);
}

/* Holds on to the first one, which a socket of the program's own make may have dropped. */
static int put_first(struct fin__py_datagrams *d)
{
    PyObject *data = Py_NewRef(d->kept[d->at].data), *to = Py_XNewRef(d->kept[d->at].to);
    Py_buffer view;
    int sent = PyObject_GetBuffer(data, &view, PyBUF_SIMPLE);

    if (sent == 0) {
        sent = put(d, &view, to);
        PyBuffer_Release(&view);
    }
    if (sent != 0)
        take_off(d, data);
    Py_DECREF(data);
    Py_XDECREF(to);
    return sent;
}

int fin__py_datagram_send(struct fin__py_transport *t)
{
    struct fin__py_datagrams *d = of((PyObject *) t);

    if (d->timer) /* its time has not come */
        return 0;
    d->moved = false;
    while (d->count > 0 && t->fd >= 0) { /* each is taken off, or the last */
        int sent = put_first(d);

        if (sent == 0)
            return t->loop ? wait_for_room(d) : 0;
        d->moved = true;
        if (sent < 0)
            return go_on_later(d);
    }
    return 0;
}

/* ---- sendto() ---- */

/* The address that it goes to, borrowed; it may be NULL. 0, or -1 with an exception. */
static int choose_address(const struct fin__py_datagrams *d, PyObject **to)
{
    PyObject *address = d->address;
    int same = 1;

    if (*to == Py_None)
        *to = NULL;
    if (!address)
        return 0;
    Py_INCREF(address);
    if (*to)
        same = PyObject_RichCompareBool(*to, address, Py_EQ);
    if (same == 0)
        PyErr_Format(PyExc_ValueError, "Invalid address: must be None or %S", address);
    Py_DECREF(address);
    *to = d->address;
    return same > 0 ? 0 : -1;
}

static bool is_lost(const struct fin__py_datagrams *d)
{
    const struct fin__py_transport *t = &d->base;

    return t->fd < 0 || !t->loop || (t->losing && d->address);
}

static int send_or_keep(struct fin__py_datagrams *d, const Py_buffer *view, PyObject *to)
{
    struct fin__py_transport *t = &d->base;
    int sent = 0;

    if (is_lost(d))
        return fin__py_transport_write_lost(t);
    if (d->count == 0) {
        d->moved = false;
        d->pause = 0;
        sent = put(d, view, to);
    }
    if (sent != 0)
        return sent < 0 ? datagram_refused(d) : 0;
    if (is_lost(d) || t->losing) /* nobody will send it any more */
        return fin__py_transport_write_lost(t);
    if (keep(d, view, to) < 0 || wait_for_room(d) < 0)
        return -1;
    return fin__py_transport_pause_writing(t);
}

static PyObject *send_to(PyObject *object, PyObject *const *args, Py_ssize_t count,
                         PyObject *keywords)
{
    static const char *const names[] = { "data", "addr", NULL };
    static const struct fin__py_call call = { "sendto", names, 1 };
    PyObject *values[2], *to;
    Py_buffer view;
    int result = 0;

    if (fin__py_spread(&call, args, count, keywords, values) < 0
        || fin__py_transport_refuse(values[0]) < 0
        || PyObject_GetBuffer(values[0], &view, PyBUF_SIMPLE) < 0)
        return NULL;
    to = values[1] ? values[1] : Py_None;
    if (view.len > 0 || FIN__PY_DATAGRAM_EMPTY) {
        result = choose_address(of(object), &to);
        Py_XINCREF(to);
        if (result == 0)
            result = send_or_keep(of(object), &view, to);
        Py_XDECREF(to);
    }
    PyBuffer_Release(&view);
    return fin__py_nothing(result);
}

/* ---- making ---- */

/* A name that the kernel has given. */
static bool is_named(PyObject *peer)
{
    return (PyUnicode_CheckExact(peer) && PyUnicode_GET_LENGTH(peer) > 0)
        || (PyBytes_CheckExact(peer) && PyBytes_GET_SIZE(peer) > 0);
}

void fin__py_datagram_look(struct fin__py_transport *t)
{
    struct fin__py_datagrams *d = of((PyObject *) t);
    PyObject *peer = fin__py_kept_name(&t->theirs, t->extra, "peername");
    socklen_t size = sizeof d->family;

    (void) getsockopt(t->fd, SOL_SOCKET, SO_DOMAIN, &d->family, &size);
    d->connected = t->theirs.known || (peer && is_named(peer));
    d->paired = peer != Py_None;
    if (!peer)
        PyErr_Clear();
    Py_XDECREF(peer);
}

/* _make_datagram(sock, protocol, address, waiter, extra) */
PyObject *fin__py_make_datagram_transport(PyObject *object, PyObject *args)
{
    PyObject *sock, *protocol, *address, *waiter, *extra;
    struct fin__py_loop *loop = (struct fin__py_loop *) object;
    struct fin__py_transport *t;
    int alone;

    if (!PyArg_ParseTuple(args, "OOOOO", &sock, &protocol, &address, &waiter, &extra))
        return NULL;
    alone = PyObject_IsTrue(address);
    if (alone < 0)
        return NULL;
    t = fin__py_transport_of_sock(loop, loop->module->asyncio.datagram_type, sock, protocol, extra,
                                  Py_None);
    if (!t)
        return NULL;
    of((PyObject *) t)->address = alone ? Py_NewRef(address) : NULL;
    return fin__py_transport_begin_soon(t, waiter);
}

/* ---- the type ---- */

static PyMethodDef methods[] = {
    { "sendto", FIN__PY_VECTOR(send_to), METH_FASTCALL | METH_KEYWORDS, "As in asyncio." },
    { "_try_again", try_again, METH_NOARGS, NULL },
    { NULL, NULL, 0, NULL },
};

static PyMemberDef members[] = {
    { "_address", T_OBJECT, offsetof(struct fin__py_datagrams, address), READONLY, NULL },
    { NULL, 0, 0, 0, NULL },
};

static PyObject *get_unsent(PyObject *object, void *unused)
{
    (void) unused;
    return PyLong_FromSize_t(fin__py_datagram_unsent(&of(object)->base));
}

static PyGetSetDef getset[] = {
    { "_unsent", get_unsent, NULL, NULL, NULL },
    { NULL, NULL, NULL, NULL, NULL },
};

static PyType_Slot slots[] = {
    { Py_tp_doc, "The transport of a datagram socket: an asyncio.DatagramTransport." },
    { Py_tp_methods, methods },
    { Py_tp_members, members },
    { Py_tp_getset, getset },
    FIN__PY_TRANSPORT_LIFE,
    { 0, NULL },
};

static PyType_Spec spec = {
    .name = "finack.DatagramTransport",
    .basicsize = sizeof(struct fin__py_datagrams),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = slots,
};

int fin__py_add_datagram(PyObject *module, struct fin__py_asyncio *a)
{
    a->datagram_type = fin__py_transport_kind(module, a, &spec, "DatagramTransport");
    return a->datagram_type ? 0 : -1;
}
