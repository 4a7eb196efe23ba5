/* SPDX-License-Identifier: MIT */

/* What transports of streams and of datagrams have in common: the type
 * finack._core.SocketTransport, and what happens to a transport in a turn of the loop. */

#include "transport/close.h"
#include "transport/datagram.h"
#include "transport/tls.h"

#include "slots.h"

#include "base/clock.h"
#include "base/descriptor.h"

#include <errno.h>
#include <stddef.h>
#include <structmember.h>
#include <sys/epoll.h>

#define HIGH (64 * 1024)
#define HEARD (EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLERR)
#define WRITABLE (EPOLLOUT | EPOLLHUP | EPOLLERR)

/* ---- life ---- */

struct fin__py_transport *fin__py_transport_new(struct fin__py_loop *loop, PyTypeObject *type,
                                                int fd, PyObject *context)
{
    struct fin__py_transport *t =
        type ? (struct fin__py_transport *) type->tp_alloc(type, 0) : NULL;

    if (!t) {
        fin__drop(&fd);
        return NULL;
    }
    if (loop->closes)
        fin__py_need_witness(loop);
    t->fd = fd;
    t->datagram = type == loop->module->asyncio.datagram_type;
    t->loop = (struct fin__py_loop *) Py_NewRef(loop);
    t->high = HIGH;
    t->low = HIGH / 4;
    t->context = context ? PyContext_Copy(context) : PyContext_CopyCurrent();
    if (!t->context)
        Py_CLEAR(t);
    return t;
}

/* Most are a Protocol: for what is none isinstance() looks further. */
static int is_buffered(const struct fin__py_asyncio *a, PyObject *protocol)
{
    if (PyObject_TypeCheck(protocol, (PyTypeObject *) a->protocol)
        && !PyObject_TypeCheck(protocol, (PyTypeObject *) a->buffered_protocol))
        return 0;
    return PyObject_IsInstance(protocol, a->buffered_protocol);
}

int fin__py_transport_set_protocol(struct fin__py_transport *t, PyObject *protocol)
{
    int buffered = is_buffered(&t->loop->module->asyncio, protocol);

    if (buffered < 0)
        return -1;
    t->buffered = buffered;
    Py_XSETREF(t->protocol, Py_NewRef(protocol));
    return 0;
}

int fin__py_transport_traverse(PyObject *object, visitproc visit, void *arg)
{
    struct fin__py_transport *t = (struct fin__py_transport *) object;
    int result = t->datagram ? fin__py_datagram_traverse(object, visit, arg) : 0;

    if (result)
        return result;
    Py_VISIT(Py_TYPE(object));
    Py_VISIT(t->extra);
    Py_VISIT(t->dict);
    Py_VISIT(t->loop);
    Py_VISIT(t->protocol);
    Py_VISIT(t->context);
    Py_VISIT(t->server);
    Py_VISIT(t->sock);
    Py_VISIT(t->shown);
    Py_VISIT(t->waiter);
    Py_VISIT(t->empty_waiter);
    Py_VISIT(t->ending);
    return fin__py_tls_traverse(t->tls, visit, arg);
}

int fin__py_transport_clear(PyObject *object)
{
    struct fin__py_transport *t = (struct fin__py_transport *) object;

    Py_CLEAR(t->extra);
    Py_CLEAR(t->dict);
    Py_CLEAR(t->protocol);
    Py_CLEAR(t->server);
    Py_CLEAR(t->shown);
    Py_CLEAR(t->waiter);
    Py_CLEAR(t->empty_waiter);
    Py_CLEAR(t->ending);
    fin__py_tls_clear(t->tls);
    if (t->datagram)
        fin__py_datagram_clear(object);
    return 0;
}

/* `server` is told, and is dropped by its caller. */
static int tell_server(struct fin__py_transport *t, PyObject *server, PyObject *method)
{
    return fin__py_done(FIN__PY_SERVER_HAS_TRANSPORTS
                            ? PyObject_CallMethodOneArg(server, method, (PyObject *) t)
                            : PyObject_CallMethodNoArgs(server, method));
}

int fin__py_transport_attach(struct fin__py_transport *t)
{
    if (!t->server)
        return 0;
    t->counted = tell_server(t, t->server, t->loop->module->asyncio.name_attach) == 0;
    return t->counted ? 0 : -1;
}

int fin__py_transport_detach(struct fin__py_transport *t)
{
    PyObject *server = t->server;
    int result = 0;

    t->server = NULL;
    if (server && t->counted)
        result = tell_server(t, server, t->loop->module->asyncio.name_detach);
    Py_XDECREF(server);
    return result;
}

/* Nobody has it any more, and nobody closed it. */
void fin__py_transport_finalize(PyObject *object)
{
    struct fin__py_transport *t = (struct fin__py_transport *) object;
    struct fin__py_aside aside;

    if (t->fd < 0)
        return;
    aside = fin__py_set_aside();
    if (PyErr_ResourceWarning(object, 1, "unclosed transport %R", object) < 0)
        PyErr_WriteUnraisable(object);
    fin__py_transport_release(t);
    if (t->loop && fin__py_transport_detach(t) < 0)
        PyErr_WriteUnraisable(object);
    fin__py_restore(&aside);
}

void fin__py_transport_dealloc(PyObject *object)
{
    struct fin__py_transport *t = (struct fin__py_transport *) object;

    if (t->fd >= 0 && PyObject_CallFinalizerFromDealloc(object) < 0)
        return;
    PyObject_GC_UnTrack(object);
    if (t->weak)
        PyObject_ClearWeakRefs(object);
    (void) fin__py_transport_clear(object);
    Py_CLEAR(t->context);
    Py_CLEAR(t->sock);
    fin__py_tls_free(t);
    fin__drop(&t->fd);
    fin__py_output_free(t);
    Py_CLEAR(t->loop);
    fin__py_free(object);
}

/* ---- the epoll set ---- */

int fin__py_transport_watch(struct fin__py_transport *t)
{
    struct fin__py_selector *selector = fin__py_loop_selector(t->loop);
    int result;

    Py_XINCREF(selector);
    result = selector ? fin__py_edge_add(selector, t->fd, (PyObject *) t) : -EBADF;
    Py_XDECREF(selector);
    if (result < 0) {
        (void) fin__py_os_error(result);
        return -1;
    }
    t->watched = true;
    return 0;
}

void fin__py_transport_unwatch(struct fin__py_transport *t)
{
    struct fin__py_selector *selector = t->loop ? fin__py_loop_selector(t->loop) : NULL;

    if (t->watched && selector && fin__py_is_open(selector))
        fin__py_edge_remove(selector, t->fd, (PyObject *) t);
    t->watched = false;
}

/* ---- steps ---- */

static bool has_news_to_read(const struct fin__py_transport *t)
{
    return t->events & HEARD && !t->drained && fin__py_transport_wants_read(t);
}

static int look_at_data(struct fin__py_transport *t, uint32_t events)
{
    int result = 0;

    t->events &= ~(uint32_t) EPOLLOUT;
    if (events & WRITABLE && t->output.count > 0 && !t->losing)
        result = fin__py_transport_writable(t);
    if (result == 0 && has_news_to_read(t))
        result = fin__py_transport_read(t);
    if (result == 0 && has_news_to_read(t))
        result = fin__py_transport_queue(t);
    return result;
}

static int transport_look(struct fin__py_loop *loop, PyObject *self, PyObject *unused)
{
    struct fin__py_transport *t = (struct fin__py_transport *) self;
    struct fin__py_ending *c = fin__py_ending_of(t);
    uint32_t events = t->events;
    int result = 0;

    (void) loop;
    (void) unused;
    t->queued = false;
    if (t->fd < 0 || !t->loop)
        return 0;
    if (fin__py_is_busy(t)) /* a loop in a callback of OpenSSL */
        return fin__py_transport_queue(t);
    if (c) {
        t->events = 0;
        return fin__py_ending_news(c, events);
    }
    if (t->connecting)
        return fin__py_connected(t);
    if (fin__py_tls_is_concerned(t))
        result = fin__py_tls_look(t);
    else
        result = look_at_data(t, events);
    return result < 0 ? fin__py_transport_left(t) : result;
}

int fin__py_transport_queue(struct fin__py_transport *t)
{
    if (t->queued || !t->loop)
        return 0;
    t->queued = fin__py_ring_push_look(t->loop, transport_look, (PyObject *) t, t->fd) == 0;
    return t->queued ? 0 : -1;
}

static bool is_of_interest(const struct fin__py_transport *t)
{
    return t->connecting || fin__py_ending_of(t) || fin__py_tls_is_concerned(t)
        || (t->output.count > 0 && t->events & WRITABLE)
        || (t->events & HEARD && fin__py_transport_wants_read(t));
}

/* What the kernel has told of, it does not tell of again. */
int fin__py_transport_left(struct fin__py_transport *t)
{
    const struct fin__py_aside aside = fin__py_set_aside();

    if (t->loop && t->fd >= 0 && is_of_interest(t))
        (void) fin__py_transport_queue(t);
    (void) fin__py_raise_again(&aside, (PyObject *) t);
    return -1;
}

int fin__py_transport_news(PyObject *object, uint32_t events)
{
    struct fin__py_transport *t = (struct fin__py_transport *) object;

    if (t->datagram)
        events = fin__py_datagram_news(t, events);
    t->events |= events;
    if (events & HEARD)
        t->drained = false;
    if (t->tls)
        fin__py_tls_news(t, events);
    return is_of_interest(t) ? fin__py_transport_queue(t) : 0;
}

int fin__py_transport_begin(struct fin__py_loop *loop, PyObject *self, PyObject *waiter)
{
    struct fin__py_transport *t = (struct fin__py_transport *) self;
    struct fin__py_aside aside;
    PyObject *done;

    if (t->lost || !t->protocol)
        return 0;
    t->made = true;
    done = fin__py_protocol_call(t, loop->module->asyncio.name_connection_made, self);
    if (!done)
        (void) fin__py_transport_report(t, "Exception in connection_made()");
    Py_XDECREF(done);
    aside = fin__py_set_aside(); /* who waits is told all the same */
    if (waiter)
        (void) fin__py_future_done(&loop->module->asyncio, waiter, NULL);
    if (fin__py_raise_again(&aside, waiter) < 0)
        return fin__py_transport_left(t);
    return is_of_interest(t) ? fin__py_transport_queue(t) : 0;
}

/* It comes to nothing: with the exception that is set, the server waits for it no more. */
void fin__py_transport_uncount(struct fin__py_transport *t)
{
    const struct fin__py_aside aside = fin__py_set_aside();

    if (fin__py_transport_detach(t) < 0)
        PyErr_WriteUnraisable((PyObject *) t);
    fin__py_restore(&aside);
}

void fin__py_transport_leave_sock(struct fin__py_transport *t)
{
    fin__py_transport_unwatch(t);
    fin__py_tls_unplug(t);
    t->fd = -1;
    fin__py_transport_uncount(t);
    Py_DECREF(t);
}

struct fin__py_transport *fin__py_transport_of_sock(struct fin__py_loop *loop, PyTypeObject *type,
                                                    PyObject *sock, PyObject *protocol,
                                                    PyObject *extra, PyObject *server)
{
    int fd = PyObject_AsFileDescriptor(sock);
    struct fin__py_transport *t = fd < 0 ? NULL : fin__py_transport_new(loop, type, fd, NULL);

    if (!t)
        return NULL;
    t->sock = Py_NewRef(sock);
    t->extra = extra == Py_None ? NULL : Py_NewRef(extra);
    t->server = server == Py_None ? NULL : Py_NewRef(server);
    fin__py_transport_note_peer(t);
    if (t->datagram)
        fin__py_datagram_look(t);
    else
        fin__py_no_delay(fd);
    if (fin__py_transport_set_protocol(t, protocol) < 0 || fin__py_transport_attach(t) < 0
        || fin__py_transport_watch(t) < 0) {
        fin__py_transport_leave_sock(t);
        return NULL;
    }
    return t;
}

PyObject *fin__py_transport_begin_soon(struct fin__py_transport *t, PyObject *waiter)
{
    if (fin__py_ring_push(t->loop, fin__py_transport_begin, Py_NewRef(t),
                          waiter == Py_None ? NULL : Py_NewRef(waiter))
        < 0) {
        fin__py_transport_leave_sock(t);
        return NULL;
    }
    return (PyObject *) t;
}

struct fin__py_handle *fin__py_transport_call_later(struct fin__py_transport *t, double seconds,
                                                    const char *method)
{
    struct fin__py_wish wish = { .context = t->context };
    struct fin__py_handle *timer = NULL;

    if (fin__py_loop_time(t->loop, &wish.due) < 0)
        return NULL;
    wish.due += seconds;
    wish.callback = PyObject_GetAttrString((PyObject *) t, method);
    wish.when = PyFloat_FromDouble(wish.due);
    if (wish.callback && wish.when)
        timer = fin__py_handle_new(t->loop, &wish);
    if (timer && fin__py_timers_add(t->loop, timer) < 0)
        Py_CLEAR(timer);
    Py_XDECREF(wish.callback);
    Py_XDECREF(wish.when);
    return timer;
}

/* ---- methods ---- */

static struct fin__py_transport *of(PyObject *object)
{
    return (struct fin__py_transport *) object;
}

static PyObject *transport_close(PyObject *object, PyObject *unused)
{
    (void) unused;
    return fin__py_nothing(fin__py_transport_close(of(object)));
}

static PyObject *abort_(PyObject *object, PyObject *unused)
{
    (void) unused;
    return fin__py_nothing(fin__py_transport_force(of(object), NULL));
}

static PyObject *force_close(PyObject *object, PyObject *error)
{
    return fin__py_nothing(fin__py_transport_force(of(object), error == Py_None ? NULL : error));
}

static PyObject *call_connection_lost(PyObject *object, PyObject *error)
{
    struct fin__py_transport *t = of(object);

    return fin__py_nothing(t->loop ? fin__py_transport_lose(t->loop, object, error) : 0);
}

static PyObject *is_closing(PyObject *object, PyObject *unused)
{
    (void) unused;
    return PyBool_FromLong(of(object)->closing);
}

static bool reads(const struct fin__py_transport *t)
{
    return !t->closing && !t->paused;
}

static PyObject *is_reading(PyObject *object, PyObject *unused)
{
    (void) unused;
    return PyBool_FromLong(reads(of(object)));
}

static PyObject *pause_reading(PyObject *object, PyObject *unused)
{
    (void) unused;
    if (reads(of(object)))
        of(object)->paused = true;
    Py_RETURN_NONE;
}

static PyObject *resume_reading(PyObject *object, PyObject *unused)
{
    struct fin__py_transport *t = of(object);

    (void) unused;
    if (t->closing || !t->paused)
        Py_RETURN_NONE;
    t->paused = false;
    return fin__py_nothing(is_of_interest(t) && !t->drained ? fin__py_transport_queue(t) : 0);
}

static PyObject *get_protocol(PyObject *object, PyObject *unused)
{
    (void) unused;
    return Py_NewRef(of(object)->protocol ? of(object)->protocol : Py_None);
}

static PyObject *set_protocol(PyObject *object, PyObject *protocol)
{
    if (!of(object)->loop) /* as asyncio: a closed transport takes anything */
        Py_RETURN_NONE;
    return fin__py_nothing(fin__py_transport_set_protocol(of(object), protocol));
}

static PyObject *get_size(PyObject *object, PyObject *unused)
{
    (void) unused; /* what was dropped is kept until the receipt has its count */
    return PyLong_FromSize_t(of(object)->losing ? 0 : of(object)->output.count);
}

static PyObject *get_limits(PyObject *object, PyObject *unused)
{
    (void) unused;
    return Py_BuildValue("nn", (Py_ssize_t) of(object)->low, (Py_ssize_t) of(object)->high);
}

/* Somebody has a dup, which he closes: the connection is to stay as it is. */
static PyObject *close_plainly(PyObject *object, PyObject *unused)
{
    (void) unused;
    of(object)->plain = true;
    fin__py_ending_undo(of(object));
    Py_RETURN_NONE;
}

/* The close began in the layer above, which has something to say first. */
static PyObject *begin(PyObject *object, PyObject *unused)
{
    (void) unused;
    if (!of(object)->requested)
        of(object)->requested = fin__now();
    Py_RETURN_NONE;
}

/* ---- what it looks like ---- */

static PyObject *repr(PyObject *object)
{
    const struct fin__py_transport *t = of(object);
    const char *state = t->fd < 0 ? "closed " : t->closing ? "closing " : "";
    size_t count = t->losing ? 0 : t->output.count; /* see get_size() */

    return PyUnicode_FromFormat("<%s %sfd=%d read=%s write=<%s, bufsize=%zu>>",
                                t->datagram ? "DatagramTransport" : "Transport", state, t->fd,
                                fin__py_transport_wants_read(t) ? "polling" : "idle",
                                count > 0 ? "polling" : "idle", count);
}

static PyObject *get_sock(PyObject *object, void *unused)
{
    (void) unused;
    if (of(object)->fd < 0)
        Py_RETURN_NONE;
    return fin__py_transport_sock(of(object));
}

static PyMethodDef methods[] = {
    { "close", transport_close, METH_NOARGS, "As in asyncio." },
    { "abort", abort_, METH_NOARGS, "As in asyncio." },
    { "is_closing", is_closing, METH_NOARGS, "As in asyncio." },
    { "is_reading", is_reading, METH_NOARGS, "As in asyncio." },
    { "pause_reading", pause_reading, METH_NOARGS, "As in asyncio." },
    { "resume_reading", resume_reading, METH_NOARGS, "As in asyncio." },
    { "get_protocol", get_protocol, METH_NOARGS, "As in asyncio." },
    { "set_protocol", set_protocol, METH_O, "As in asyncio." },
    { "get_write_buffer_size", get_size, METH_NOARGS, "As in asyncio." },
    { "get_write_buffer_limits", get_limits, METH_NOARGS, "As in asyncio." },
    { "set_write_buffer_limits", FIN__PY_VECTOR(fin__py_transport_set_limits),
      METH_VARARGS | METH_KEYWORDS, "As in asyncio." },
    { "get_extra_info", FIN__PY_VECTOR(fin__py_transport_info), METH_FASTCALL | METH_KEYWORDS,
      "As in asyncio." },
    { "_force_close", force_close, METH_O, NULL },
    { "_call_connection_lost", call_connection_lost, METH_O, NULL },
    { "_close_plainly", close_plainly, METH_NOARGS, NULL },
    { "_begin", begin, METH_NOARGS, NULL },
    { "_close_by", FIN__PY_VECTOR(fin__py_close_by), METH_FASTCALL, NULL },
    { NULL, NULL, 0, NULL },
};

static PyObject *get_is_tls(PyObject *object, void *unused)
{
    (void) unused;
    return PyBool_FromLong(of(object)->tls != NULL);
}

static PyGetSetDef properties[] = {
    { "__dict__", PyObject_GenericGetDict, PyObject_GenericSetDict, NULL, NULL },
    { "_sock", get_sock, NULL, NULL, NULL },
    { "_is_tls", get_is_tls, NULL, NULL, NULL },
    { NULL, NULL, NULL, NULL, NULL },
};

static PyMemberDef members[] = {
    { "__weaklistoffset__", T_PYSSIZET, offsetof(struct fin__py_transport, weak), READONLY, NULL },
    { "__dictoffset__", T_PYSSIZET, offsetof(struct fin__py_transport, dict), READONLY, NULL },
    { "_loop", T_OBJECT, offsetof(struct fin__py_transport, loop), READONLY, NULL },
    { "_ending", T_OBJECT, offsetof(struct fin__py_transport, ending), READONLY, NULL },
    { "_server", T_OBJECT, offsetof(struct fin__py_transport, server), READONLY, NULL },
    { "_conn_lost", T_BOOL, offsetof(struct fin__py_transport, losing), READONLY, NULL },
    { "_paused", T_BOOL, offsetof(struct fin__py_transport, paused), READONLY, NULL },
    { "_protocol_paused", T_BOOL, offsetof(struct fin__py_transport, writing_paused), READONLY,
      NULL },
    { "_sock_fd", T_INT, offsetof(struct fin__py_transport, fd), READONLY, NULL },
    { NULL, 0, 0, 0, NULL },
};

static PyType_Slot slots[] = {
    { Py_tp_doc, "What transports in C have in common: each owns a socket." },
    { Py_tp_methods, methods },
    { Py_tp_getset, properties },
    { Py_tp_members, members },
    { Py_tp_repr, repr },
    FIN__PY_TRANSPORT_LIFE,
    { 0, NULL },
};

static PyType_Spec spec = {
    .name = "finack._core.SocketTransport",
    .basicsize = sizeof(struct fin__py_transport),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_DISALLOW_INSTANTIATION
        | Py_TPFLAGS_BASETYPE,
    .slots = slots,
};

/* asyncio's own class; its one slot is the struct's `extra`. */
static PyObject *asyncios(const char *name)
{
    PyObject *base = fin__py_fetch("asyncio.transports", name);

    if (base
        && ((PyTypeObject *) base)->tp_basicsize
            != (Py_ssize_t) offsetof(struct fin__py_transport, loop)) {
        PyErr_Format(PyExc_ImportError, "asyncio.%s is not as it was", name);
        Py_CLEAR(base);
    }
    return base;
}

int fin__py_add_transport(PyObject *module, struct fin__py_asyncio *a)
{
    PyObject *base = asyncios("BaseTransport");

    if (!base)
        return -1;
    a->socket_transport_type = (PyTypeObject *) PyType_FromModuleAndSpec(module, &spec, base);
    Py_DECREF(base);
    return a->socket_transport_type ? PyModule_AddType(module, a->socket_transport_type) : -1;
}

PyTypeObject *fin__py_transport_kind(PyObject *module, struct fin__py_asyncio *a, PyType_Spec *kind,
                                     const char *base_name)
{
    PyObject *base = asyncios(base_name), *bases = NULL, *type = NULL;

    if (base)
        bases = PyTuple_Pack(2, a->socket_transport_type, base);
    if (bases)
        type = PyType_FromModuleAndSpec(module, kind, bases);
    if (type && PyModule_AddType(module, (PyTypeObject *) type) < 0)
        Py_CLEAR(type);
    Py_XDECREF(base);
    Py_XDECREF(bases);
    return (PyTypeObject *) type;
}

/* ---- of the loop ---- */

static bool is_transport(const struct fin__py_loop *loop, PyObject *found)
{
    const struct fin__py_asyncio *a = &loop->module->asyncio;

    return found && (Py_IS_TYPE(found, a->transport_type) || Py_IS_TYPE(found, a->datagram_type));
}

PyObject *fin__py_transports(PyObject *object, PyObject *unused)
{
    struct fin__py_loop *loop = (struct fin__py_loop *) object;
    PyObject *list = PyList_New(0);
    struct fin__py_selector *selector = fin__py_loop_selector(loop);

    (void) unused;
    Py_XINCREF(selector);
    for (int fd = 0;
         list && selector && fin__py_is_open(selector) && fd < selector->selector->table.size;
         fd++) {
        PyObject *found = fin__py_edge_at(selector, fd);

        if (is_transport(loop, found) && PyList_Append(list, found) < 0)
            Py_CLEAR(list);
    }
    Py_XDECREF(selector);
    return list;
}

PyObject *fin__py_transport_of(PyObject *object, PyObject *number)
{
    struct fin__py_loop *loop = (struct fin__py_loop *) object;
    int fd = PyObject_AsFileDescriptor(number);
    PyObject *found;

    if (fd < 0)
        return NULL;
    found = fin__py_loop_edge_at(loop, fd);
    return Py_NewRef(is_transport(loop, found) ? found : Py_None);
}
