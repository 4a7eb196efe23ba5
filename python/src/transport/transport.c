/* SPDX-License-Identifier: MIT */

/* The type finack.Transport, and what happens to a transport in a turn of the loop. */

#include "transport/close.h"
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

struct fin__py_transport *fin__py_transport_new(struct fin__py_loop *loop, int fd,
                                                PyObject *context)
{
    PyTypeObject *type = loop->module->asyncio.transport_type;
    struct fin__py_transport *t =
        type ? (struct fin__py_transport *) type->tp_alloc(type, 0) : NULL;

    if (!t) {
        fin__drop(&fd);
        return NULL;
    }
    if (loop->closes)
        fin__py_need_witness(loop);
    t->fd = fd;
    t->loop = (struct fin__py_loop *) Py_NewRef(loop);
    t->high = HIGH;
    t->low = HIGH / 4;
    t->context = context ? PyContext_Copy(context) : PyContext_CopyCurrent();
    if (!t->context)
        Py_CLEAR(t);
    return t;
}

int fin__py_transport_set_protocol(struct fin__py_transport *t, PyObject *protocol)
{
    int buffered = PyObject_IsInstance(protocol, t->loop->module->asyncio.buffered_protocol);

    if (buffered < 0)
        return -1;
    t->buffered = buffered;
    Py_XSETREF(t->protocol, Py_NewRef(protocol));
    return 0;
}

static int transport_traverse(PyObject *object, visitproc visit, void *arg)
{
    struct fin__py_transport *t = (struct fin__py_transport *) object;

    Py_VISIT(Py_TYPE(object));
    Py_VISIT(t->extra);
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

static int transport_clear(PyObject *object)
{
    struct fin__py_transport *t = (struct fin__py_transport *) object;

    Py_CLEAR(t->extra);
    Py_CLEAR(t->protocol);
    Py_CLEAR(t->server);
    Py_CLEAR(t->shown);
    Py_CLEAR(t->waiter);
    Py_CLEAR(t->empty_waiter);
    Py_CLEAR(t->ending);
    fin__py_tls_clear(t->tls);
    return 0;
}

int fin__py_transport_detach(struct fin__py_transport *t)
{
    const struct fin__py_asyncio *a = &t->loop->module->asyncio;
    PyObject *server = t->server, *result;

    t->server = NULL;
    if (!server)
        return 0;
    result = a->attach_takes_transport
        ? PyObject_CallMethodOneArg(server, a->name_detach, (PyObject *) t)
        : PyObject_CallMethodNoArgs(server, a->name_detach);
    Py_DECREF(server);
    Py_XDECREF(result);
    return result ? 0 : -1;
}

/* Nobody has it any more, and nobody closed it. */
static void finalize(PyObject *object)
{
    struct fin__py_transport *t = (struct fin__py_transport *) object;
    PyObject *type, *value, *trace;

    if (t->fd < 0)
        return;
    PyErr_Fetch(&type, &value, &trace);
    if (PyErr_ResourceWarning(object, 1, "unclosed transport %R", object) < 0)
        PyErr_WriteUnraisable(object);
    fin__py_transport_release(t);
    if (t->loop && fin__py_transport_detach(t) < 0)
        PyErr_WriteUnraisable(object);
    PyErr_Restore(type, value, trace);
}

static void transport_dealloc(PyObject *object)
{
    struct fin__py_transport *t = (struct fin__py_transport *) object;
    PyTypeObject *type = Py_TYPE(object);

    if (PyObject_CallFinalizerFromDealloc(object) < 0)
        return;
    PyObject_GC_UnTrack(object);
    if (t->weak)
        PyObject_ClearWeakRefs(object);
    (void) transport_clear(object);
    Py_CLEAR(t->context);
    Py_CLEAR(t->sock);
    fin__py_tls_free(t);
    fin__drop(&t->fd);
    fin__py_output_free(&t->output);
    Py_CLEAR(t->loop);
    type->tp_free(object);
    Py_DECREF(type);
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
        return fin__py_tls_look(t);
    if (t->events & WRITABLE && t->output.count > 0 && !t->losing)
        result = fin__py_transport_writable(t);
    t->events &= ~(uint32_t) EPOLLOUT;
    if (result == 0 && t->events & HEARD && !t->drained && fin__py_transport_wants_read(t))
        result = fin__py_transport_read(t);
    if (result == 0 && t->events & HEARD && !t->drained && fin__py_transport_wants_read(t))
        result = fin__py_transport_queue(t);
    return result;
}

int fin__py_transport_queue(struct fin__py_transport *t)
{
    if (t->queued || !t->loop)
        return 0;
    t->queued = true;
    return fin__py_ring_push(t->loop, transport_look, Py_NewRef(t), NULL);
}

static bool is_of_interest(const struct fin__py_transport *t)
{
    return t->connecting || fin__py_ending_of(t) || fin__py_tls_is_concerned(t)
        || (t->output.count > 0 && t->events & WRITABLE)
        || (t->events & HEARD && fin__py_transport_wants_read(t));
}

int fin__py_transport_news(PyObject *object, uint32_t events)
{
    struct fin__py_transport *t = (struct fin__py_transport *) object;

    t->events |= events;
    if (events & HEARD)
        t->drained = false;
    if (t->tls)
        fin__py_tls_news(t, events);
    return is_of_interest(t) ? fin__py_transport_queue(t) : 0;
}

int fin__py_transport_attach(struct fin__py_transport *t)
{
    const struct fin__py_asyncio *a = &t->loop->module->asyncio;
    PyObject *result;

    if (!t->server)
        return 0;
    result = a->attach_takes_transport
        ? PyObject_CallMethodOneArg(t->server, a->name_attach, (PyObject *) t)
        : PyObject_CallMethodNoArgs(t->server, a->name_attach);
    Py_XDECREF(result);
    return result ? 0 : -1;
}

int fin__py_transport_begin(struct fin__py_loop *loop, PyObject *self, PyObject *waiter)
{
    struct fin__py_transport *t = (struct fin__py_transport *) self;
    PyObject *done;

    if (t->lost || !t->protocol)
        return 0;
    t->made = true;
    done = fin__py_protocol_call(t, loop->module->asyncio.name_connection_made, self);
    if (!done && fin__py_transport_report(t, "Exception in connection_made()") < 0)
        return -1;
    Py_XDECREF(done);
    if (waiter && fin__py_future_done(&loop->module->asyncio, waiter, NULL) < 0)
        return -1;
    return is_of_interest(t) ? fin__py_transport_queue(t) : 0;
}

void fin__py_transport_leave_sock(struct fin__py_transport *t)
{
    fin__py_transport_unwatch(t);
    fin__py_tls_unplug(t);
    t->fd = -1;
    Py_CLEAR(t->server);
    Py_DECREF(t);
}

struct fin__py_transport *fin__py_transport_of_sock(struct fin__py_loop *loop, PyObject *sock,
                                                    PyObject *protocol, PyObject *extra,
                                                    PyObject *server)
{
    int fd = PyObject_AsFileDescriptor(sock);
    struct fin__py_transport *t = fd < 0 ? NULL : fin__py_transport_new(loop, fd, NULL);

    if (!t)
        return NULL;
    t->sock = Py_NewRef(sock);
    t->extra = extra == Py_None ? NULL : Py_NewRef(extra);
    t->server = server == Py_None ? NULL : Py_NewRef(server);
    fin__py_transport_note_peer(t);
    fin__py_no_delay(fd);
    if (fin__py_transport_set_protocol(t, protocol) < 0 || fin__py_transport_attach(t) < 0
        || fin__py_transport_watch(t) < 0) {
        fin__py_transport_leave_sock(t);
        return NULL;
    }
    return t;
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
    t = fin__py_transport_of_sock(loop, sock, protocol, extra, server);
    if (t
        && fin__py_ring_push(loop, fin__py_transport_begin, Py_NewRef(t),
                             waiter == Py_None ? NULL : Py_NewRef(waiter))
            < 0) {
        fin__py_transport_leave_sock(t);
        return NULL;
    }
    return (PyObject *) t;
}

/* ---- methods ---- */

static struct fin__py_transport *of(PyObject *object)
{
    return (struct fin__py_transport *) object;
}

static PyObject *nothing(int result)
{
    return result < 0 ? NULL : Py_NewRef(Py_None);
}

static PyObject *transport_close(PyObject *object, PyObject *unused)
{
    (void) unused;
    return nothing(fin__py_transport_close(of(object)));
}

static PyObject *abort_(PyObject *object, PyObject *unused)
{
    (void) unused;
    return nothing(fin__py_transport_force(of(object), NULL));
}

static PyObject *force_close(PyObject *object, PyObject *error)
{
    return nothing(fin__py_transport_force(of(object), error == Py_None ? NULL : error));
}

static PyObject *call_connection_lost(PyObject *object, PyObject *error)
{
    struct fin__py_transport *t = of(object);

    return nothing(t->loop ? fin__py_transport_lose(t->loop, object, error) : 0);
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
    return nothing(is_of_interest(t) && !t->drained ? fin__py_transport_queue(t) : 0);
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
    return nothing(fin__py_transport_set_protocol(of(object), protocol));
}

static PyObject *can_write_eof(PyObject *object, PyObject *unused)
{
    (void) unused;
    return PyBool_FromLong(!of(object)->tls);
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

/* What sendfile() needs: the buffer empty, and the epoll entry out of the way of its own. */
static PyObject *make_empty_waiter(PyObject *object, PyObject *unused)
{
    struct fin__py_transport *t = of(object);

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
    Py_CLEAR(of(object)->empty_waiter);
    Py_RETURN_NONE;
}

static PyObject *lend(PyObject *object, PyObject *unused)
{
    (void) unused;
    fin__py_transport_unwatch(of(object));
    Py_RETURN_NONE;
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

static PyObject *take_back(PyObject *object, PyObject *unused)
{
    struct fin__py_transport *t = of(object);

    (void) unused;
    return nothing(t->fd < 0 || t->watched ? 0 : fin__py_transport_watch(t));
}

/* ---- what it looks like ---- */

static PyObject *repr(PyObject *object)
{
    const struct fin__py_transport *t = of(object);
    const char *state = t->fd < 0 ? "closed " : t->closing ? "closing " : "";

    return PyUnicode_FromFormat("<Transport %sfd=%d read=%s write=<%s, bufsize=%zu>>", state, t->fd,
                                fin__py_transport_wants_read(t) ? "polling" : "idle",
                                t->output.count > 0 ? "polling" : "idle", t->output.count);
}

static PyObject *get_yes(PyObject *object, void *unused)
{
    (void) object;
    (void) unused;
    Py_RETURN_TRUE;
}

static PyObject *get_sendfile_mode(PyObject *object, void *unused)
{
    const struct fin__py_loop *loop = of(object)->loop;

    (void) unused;
    if (!loop)
        Py_RETURN_NONE;
    return Py_NewRef(of(object)->tls ? loop->module->asyncio.fall_back
                                     : loop->module->asyncio.try_native);
}

static PyObject *get_sock(PyObject *object, void *unused)
{
    (void) unused;
    if (of(object)->fd < 0)
        Py_RETURN_NONE;
    return fin__py_transport_sock(of(object));
}

static PyObject *get_losing(PyObject *object, void *unused)
{
    (void) unused;
    return PyLong_FromLong(of(object)->losing);
}

#define VECTOR(function) (PyCFunction)(void (*)(void))(function)

static PyMethodDef methods[] = {
    { "write", fin__py_transport_write, METH_O, "As in asyncio." },
    { "writelines", fin__py_transport_writelines, METH_O, "As in asyncio." },
    { "write_eof", fin__py_transport_write_eof, METH_NOARGS, "As in asyncio." },
    { "can_write_eof", can_write_eof, METH_NOARGS, "As in asyncio." },
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
    { "set_write_buffer_limits", VECTOR(fin__py_transport_set_limits), METH_VARARGS | METH_KEYWORDS,
      "As in asyncio." },
    { "get_extra_info", VECTOR(fin__py_transport_info), METH_FASTCALL | METH_KEYWORDS,
      "As in asyncio." },
    { "_force_close", force_close, METH_O, NULL },
    { "_call_connection_lost", call_connection_lost, METH_O, NULL },
    { "_make_empty_waiter", make_empty_waiter, METH_NOARGS, NULL },
    { "_reset_empty_waiter", reset_empty_waiter, METH_NOARGS, NULL },
    { "_close_plainly", close_plainly, METH_NOARGS, NULL },
    { "_begin", begin, METH_NOARGS, NULL },
    { "_close_by", fin__py_close_by, METH_O, NULL },
    { "_deadline", fin__py_tls_deadline, METH_NOARGS, NULL },
    { "_feed", fin__py_tls_feed, METH_O, NULL },
    { "_collect", fin__py_tls_collect, METH_NOARGS, NULL },
    { "_start_tls", fin__py_start_tls, METH_VARARGS, NULL },
    { "_lend", lend, METH_NOARGS, NULL },
    { "_take_back", take_back, METH_NOARGS, NULL },
    { NULL, NULL, 0, NULL },
};

static PyObject *get_paused(PyObject *object, void *unused)
{
    (void) unused;
    return PyBool_FromLong(of(object)->paused);
}

static PyObject *get_writing_paused(PyObject *object, void *unused)
{
    (void) unused;
    return PyBool_FromLong(of(object)->writing_paused);
}

static PyObject *get_is_tls(PyObject *object, void *unused)
{
    (void) unused;
    return PyBool_FromLong(of(object)->tls != NULL);
}

static PyGetSetDef properties[] = {
    { "_start_tls_compatible", get_yes, NULL, NULL, NULL },
    { "_sendfile_compatible", get_sendfile_mode, NULL, NULL, NULL },
    { "_sock", get_sock, NULL, NULL, NULL },
    { "_conn_lost", get_losing, NULL, NULL, NULL },
    { "_paused", get_paused, NULL, NULL, NULL },
    { "_protocol_paused", get_writing_paused, NULL, NULL, NULL },
    { "_is_tls", get_is_tls, NULL, NULL, NULL },
    { NULL, NULL, NULL, NULL, NULL },
};

static PyMemberDef members[] = {
    { "__weaklistoffset__", T_PYSSIZET, offsetof(struct fin__py_transport, weak), READONLY, NULL },
    { "_loop", T_OBJECT, offsetof(struct fin__py_transport, loop), READONLY, NULL },
    { "_ending", T_OBJECT, offsetof(struct fin__py_transport, ending), READONLY, NULL },
    { "_server", T_OBJECT, offsetof(struct fin__py_transport, server), READONLY, NULL },
    { "_sock_fd", T_INT, offsetof(struct fin__py_transport, fd), READONLY, NULL },
    { NULL, 0, 0, 0, NULL },
};

static PyType_Slot slots[] = {
    { Py_tp_doc, "The transport of a connection: an asyncio.Transport." },
    { Py_tp_methods, methods },
    { Py_tp_getset, properties },
    { Py_tp_members, members },
    { Py_tp_repr, repr },
    { Py_tp_traverse, transport_traverse },
    { Py_tp_clear, transport_clear },
    { Py_tp_finalize, finalize },
    { Py_tp_dealloc, transport_dealloc },
    { 0, NULL },
};

static PyType_Spec spec = {
    .name = "finack.Transport",
    .basicsize = sizeof(struct fin__py_transport),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = slots,
};

int fin__py_add_transport(PyObject *module, struct fin__py_asyncio *a)
{
    PyObject *base = fin__py_fetch("asyncio.transports", "Transport");

    if (!base)
        return -1;
    if (((PyTypeObject *) base)->tp_basicsize
        != (Py_ssize_t) offsetof(struct fin__py_transport, loop))
        PyErr_SetString(PyExc_ImportError, "asyncio.Transport is not as it was");
    else
        a->transport_type = (PyTypeObject *) PyType_FromModuleAndSpec(module, &spec, base);
    Py_DECREF(base);
    return a->transport_type ? PyModule_AddType(module, a->transport_type) : -1;
}

/* ---- of the loop ---- */

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

        if (found && Py_IS_TYPE(found, loop->module->asyncio.transport_type)
            && PyList_Append(list, found) < 0)
            Py_CLEAR(list);
    }
    Py_XDECREF(selector);
    return list;
}

PyObject *fin__py_transport_of(PyObject *object, PyObject *number)
{
    struct fin__py_loop *loop = (struct fin__py_loop *) object;
    int fd = PyObject_AsFileDescriptor(number);
    struct fin__py_selector *selector = fin__py_loop_selector(loop);
    PyObject *found;

    if (fd < 0)
        return NULL;
    found = selector && fin__py_is_open(selector) ? fin__py_edge_at(selector, fd) : NULL;
    return Py_NewRef(found && Py_IS_TYPE(found, loop->module->asyncio.transport_type) ? found
                                                                                      : Py_None);
}
