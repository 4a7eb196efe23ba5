/* SPDX-License-Identifier: MIT */

/* The type below finack.EventLoop: attributes that asyncio's code sets and reads, and the methods
 * that are in C. */

#include "loop/loop.h"
#include "loop/state.h"
#include "transport/datagram.h"
#include "transport/tls.h"

#include "slots.h"

#include "base/clock.h"
#include "base/descriptor.h"

#include <stddef.h>
#include <structmember.h>
#include <time.h>

/* ---- life ---- */

/* Whether a subclass has made call_at() its own: 0 or 1, or -1 with an exception. */
static int makes_call_at(PyTypeObject *type, const struct fin__py_asyncio *a)
{
    PyObject *found = PyObject_GetAttr((PyObject *) type, a->name_call_at);
    PyObject *ours = PyObject_GetAttr((PyObject *) a->loop_type, a->name_call_at);
    int result = found && ours ? found != ours : -1;

    Py_XDECREF(found);
    Py_XDECREF(ours);
    return result;
}

/* The same on the loop itself. */
static int set_attribute(PyObject *object, PyObject *name, PyObject *value)
{
    struct fin__py_loop *loop = (struct fin__py_loop *) object;

    if (PyUnicode_Check(name) && PyUnicode_Compare(name, loop->module->asyncio.name_call_at) == 0)
        loop->own_call_at = true;
    return PyObject_GenericSetAttr(object, name, value);
}

static PyObject *new (PyTypeObject *type, PyObject *args, PyObject *keywords)
{
    PyObject *module = PyType_GetModuleByDef(type, fin__py_definition());
    struct fin__py_module *m = module ? PyModule_GetState(module) : NULL;
    int own_call_at = m ? makes_call_at(type, &m->asyncio) : -1;
    struct fin__py_loop *loop;

    (void) args;
    (void) keywords;
    loop = own_call_at < 0 ? NULL : (struct fin__py_loop *) type->tp_alloc(type, 0);
    if (!loop)
        return NULL;
    loop->module = m;
    loop->own_call_at = own_call_at;
    loop->wake = -1;
    loop->closed = true; /* until there is anything to close */
    fin__kernel_begin(&loop->kernel);
    fin__fork_guard_init(&loop->guard);
    loop->context = PyContext_New();
    if (!loop->context)
        Py_CLEAR(loop);
    return (PyObject *) loop;
}

static int loop_traverse(PyObject *object, visitproc visit, void *arg)
{
    struct fin__py_loop *loop = (struct fin__py_loop *) object;

    Py_VISIT(Py_TYPE(object));
    for (size_t i = loop->ring.head; i != loop->ring.tail; i++) {
        Py_VISIT(loop->ring.entries[i & loop->ring.mask].self);
        Py_VISIT(loop->ring.entries[i & loop->ring.mask].arg);
    }
    for (Py_ssize_t i = 0; i < loop->timers.count; i++)
        Py_VISIT(loop->timers.heap[i]);
    Py_VISIT(loop->shown_timers);
    Py_VISIT(loop->timers_before);
    Py_VISIT(loop->selector);
    Py_VISIT(loop->task_factory);
    Py_VISIT(loop->context);
    Py_VISIT(loop->on_closed);
    Py_VISIT(loop->listeners);
    Py_VISIT(loop->note_left);
    Py_VISIT(loop->last_policy.tuple);
    Py_VISIT(loop->placed);
    for (int i = 0; i < FIN__PY_RECORDS; i++)
        Py_VISIT(loop->records[i]);
    for (struct fin__py_ending *c = loop->oldest; c; c = c->newer)
        Py_VISIT(c);
    for (struct fin__py_ending *c = loop->checks; c; c = c->next_check)
        Py_VISIT(c);
    return 0;
}

static void forget_closes(struct fin__py_loop *loop)
{
    while (loop->checks) {
        struct fin__py_ending *c = loop->checks;

        loop->checks = c->next_check;
        c->checking = false;
        Py_DECREF(c);
    }
    while (loop->oldest) {
        struct fin__py_ending *c = loop->oldest;

        loop->oldest = c->newer;
        c->lingering = false;
        Py_DECREF(c);
    }
    loop->newest = NULL;
    for (int i = 0; i < FIN__PY_RECORDS; i++)
        Py_CLEAR(loop->records[i]);
}

static int loop_clear(PyObject *object)
{
    struct fin__py_loop *loop = (struct fin__py_loop *) object;

    fin__py_ring_clear(&loop->ring);
    fin__py_timers_clear(loop);
    Py_CLEAR(loop->shown_timers);
    Py_CLEAR(loop->timers_before);
    forget_closes(loop);
    Py_CLEAR(loop->on_closed);
    Py_CLEAR(loop->listeners);
    Py_CLEAR(loop->note_left);
    Py_CLEAR(loop->last_policy.tuple);
    Py_CLEAR(loop->placed);
    Py_CLEAR(loop->selector);
    Py_CLEAR(loop->task_factory);
    return 0;
}

static void loop_dealloc(PyObject *object)
{
    struct fin__py_loop *loop = (struct fin__py_loop *) object;

    PyObject_GC_UnTrack(object);
    (void) loop_clear(object);
    fin__drop(&loop->wake);
    fin__py_handle_free_list(loop);
    Py_CLEAR(loop->context);
    fin__kernel_end(&loop->kernel);
    PyMem_RawFree(loop->buffer);
    fin__py_free(object);
}

/* ---- asyncio's attributes ---- */

static bool is_deletion(PyObject *value)
{
    if (!value)
        PyErr_SetString(PyExc_AttributeError, "this attribute can't be deleted");
    return !value;
}

static PyObject *get_ready(PyObject *object, void *unused)
{
    (void) unused;
    return fin__py_ready_new((struct fin__py_loop *) object);
}

/* asyncio's __init__() has queues of its own make, which are empty. */
static int ignore(PyObject *object, PyObject *value, void *unused)
{
    (void) object;
    (void) unused;
    return is_deletion(value) ? -1 : 0;
}

static PyObject *get_closed(PyObject *object, void *unused)
{
    (void) unused;
    return PyBool_FromLong(((struct fin__py_loop *) object)->closed);
}

/* A closed loop runs nothing any more. */
static int set_closed(PyObject *object, PyObject *value, void *unused)
{
    struct fin__py_loop *loop = (struct fin__py_loop *) object;
    int closed = is_deletion(value) ? -1 : PyObject_IsTrue(value);

    (void) unused;
    if (closed < 0)
        return -1;
    loop->closed = closed;
    if (closed) {
        fin__kernel_end(&loop->kernel); /* its descriptors are not for a loop that is over */
        fin__kernel_begin(&loop->kernel);
        fin__py_ring_clear(&loop->ring);
        fin__py_timers_clear(loop);
    } else if (loop->closes)
        fin__py_need_witness(loop); /* what a close needs is there before */
    return 0;
}

static PyObject *get_debug_(PyObject *object, void *unused)
{
    (void) unused;
    return PyBool_FromLong(((struct fin__py_loop *) object)->debug);
}

static int set_debug(PyObject *object, PyObject *value, void *unused)
{
    int debug = is_deletion(value) ? -1 : PyObject_IsTrue(value);

    (void) unused;
    if (debug < 0)
        return -1;
    ((struct fin__py_loop *) object)->debug = debug;
    return 0;
}

struct fin__py_selector *fin__py_loop_selector(const struct fin__py_loop *loop)
{
    struct fin__py_selector *selector = (struct fin__py_selector *) loop->selector;

    if (!selector || !Py_IS_TYPE(selector, loop->module->selector_type) || selector->wrapped)
        return NULL;
    return selector;
}

PyObject *fin__py_loop_edge_at(const struct fin__py_loop *loop, int fd)
{
    const struct fin__py_selector *selector = fin__py_loop_selector(loop);

    return selector && fin__py_is_open(selector) ? fin__py_edge_at(selector, fd) : NULL;
}

char *fin__py_loop_buffer(struct fin__py_loop *loop, size_t room)
{
    if (!loop->buffer)
        loop->buffer = PyMem_RawMalloc(room);
    if (!loop->buffer)
        PyErr_NoMemory();
    return loop->buffer;
}

/* Closes that go on behind connection_lost(). */
static PyObject *get_lingering(PyObject *object, void *unused)
{
    const struct fin__py_loop *loop = (struct fin__py_loop *) object;

    (void) unused;
    return PyLong_FromLong(loop->lingering + (loop->checks != NULL));
}

static PyObject *get_native(PyObject *object, void *unused)
{
    (void) unused;
    return PyBool_FromLong(fin__py_loop_selector((struct fin__py_loop *) object) != NULL);
}

/* ---- small methods ---- */

/* time.monotonic()'s clock. */
static PyObject *get_time(PyObject *object, PyObject *unused)
{
    (void) object;
    (void) unused;
    return PyFloat_FromDouble((double) fin__now() / 1e9);
}

static PyObject *get_debug(PyObject *object, PyObject *unused)
{
    (void) unused;
    return PyBool_FromLong(((struct fin__py_loop *) object)->debug);
}

static PyObject *is_closed(PyObject *object, PyObject *unused)
{
    (void) unused;
    return PyBool_FromLong(((struct fin__py_loop *) object)->closed);
}

static PyObject *stop(PyObject *object, PyObject *unused)
{
    (void) unused;
    ((struct fin__py_loop *) object)->stopping = true;
    Py_RETURN_NONE;
}

/* ---- the type ---- */

PyDoc_STRVAR(call_soon_doc,
             "call_soon($self, callback, /, *args, context=None)\n--\n\n"
             "As in asyncio: call it in the next turn of the loop; returns a Handle.");
PyDoc_STRVAR(threadsafe_doc,
             "call_soon_threadsafe($self, callback, /, *args, context=None)\n--\n\n"
             "As in asyncio: the same from any thread, or from a signal's handler.");
PyDoc_STRVAR(call_later_doc,
             "call_later($self, delay, callback, /, *args, context=None)\n--\n\n"
             "As in asyncio: call it in `delay` seconds; returns a TimerHandle.");
PyDoc_STRVAR(call_at_doc,
             "call_at($self, when, callback, /, *args, context=None)\n--\n\n"
             "As in asyncio: call it when self.time() is `when`; returns a TimerHandle.");
PyDoc_STRVAR(create_task_doc,
             "create_task($self, coro, /, **kwargs)\n--\n\n"
             "As in asyncio: run a coroutine; returns a Task.");

#define MANY (METH_FASTCALL | METH_KEYWORDS)

static PyMethodDef methods[] = {
    { "call_soon", FIN__PY_VECTOR(fin__py_call_soon), MANY, call_soon_doc },
    { "call_soon_threadsafe", FIN__PY_VECTOR(fin__py_call_soon_threadsafe), MANY, threadsafe_doc },
    { "call_later", FIN__PY_VECTOR(fin__py_call_later), MANY, call_later_doc },
    { "call_at", FIN__PY_VECTOR(fin__py_call_at), MANY, call_at_doc },
    { "create_future", fin__py_create_future, METH_NOARGS,
      "As in asyncio: a Future of this loop." },
    { "create_task", FIN__PY_VECTOR(fin__py_create_task), MANY, create_task_doc },
    { "time", get_time, METH_NOARGS, "As in asyncio: seconds of a clock that never goes back." },
    { "get_debug", get_debug, METH_NOARGS, "As in asyncio." },
    { "is_closed", is_closed, METH_NOARGS, "As in asyncio." },
    { "stop", stop, METH_NOARGS, "As in asyncio: end run_forever() after this turn." },
    { "_add_callback", fin__py_add_callback, METH_O, NULL },
    { "_add_reader", FIN__PY_VECTOR(fin__py_add_reader), MANY, NULL },
    { "_add_writer", FIN__PY_VECTOR(fin__py_add_writer), MANY, NULL },
    { "_remove_reader", fin__py_remove_reader, METH_O, NULL },
    { "_remove_writer", fin__py_remove_writer, METH_O, NULL },
    { "_open_wake", fin__py_open_wake, METH_NOARGS, NULL },
    { "_close_wake", fin__py_close_wake, METH_NOARGS, NULL },
    { "_drain_wake", fin__py_drain_wake, METH_NOARGS, NULL },
    { "_write_to_self", fin__py_write_to_self, METH_NOARGS, NULL },
    { "_make_tls_transport", fin__py_make_tls_transport, METH_VARARGS, NULL },
    { "_make_transport", fin__py_make_transport, METH_VARARGS, NULL },
    { "_make_datagram", fin__py_make_datagram_transport, METH_VARARGS, NULL },
    { "_connect", FIN__PY_VECTOR(fin__py_connect), METH_FASTCALL, NULL },
    { "_serve", fin__py_serve, METH_VARARGS, NULL },
    { "_unserve", fin__py_unserve, METH_O, NULL },
    { "_set_close", fin__py_set_close, METH_VARARGS, NULL },
    { "_force_closes", fin__py_force_closes, METH_NOARGS, NULL },
    { "_records", fin__py_records, METH_NOARGS, NULL },
    { "_own_transports", fin__py_transports, METH_NOARGS, NULL },
    { "_transport_of", fin__py_transport_of, METH_O, NULL },
    { "_run_once", fin__py_run_once, METH_NOARGS, "One turn." },
    { "_run", fin__py_run, METH_NOARGS, "Turns until stop()." },
    { NULL, NULL, 0, NULL },
};

static PyGetSetDef properties[] = {
    { "_ready", get_ready, ignore, NULL, NULL },
    { "_scheduled", fin__py_scheduled, ignore, NULL, NULL },
    { "_closed", get_closed, set_closed, NULL, NULL },
    { "_debug", get_debug_, set_debug, NULL, NULL },
    { "_lingering", get_lingering, NULL, NULL, NULL },
    { "_native", get_native, NULL, "Whether it polls by itself.", NULL },
    { NULL, NULL, NULL, NULL, NULL },
};

static PyMemberDef members[] = {
    { "_selector", T_OBJECT, offsetof(struct fin__py_loop, selector), 0, NULL },
    { "_task_factory", T_OBJECT, offsetof(struct fin__py_loop, task_factory), 0, NULL },
    { "_stopping", T_BOOL, offsetof(struct fin__py_loop, stopping), 0, NULL },
    { "_on_closed", T_OBJECT, offsetof(struct fin__py_loop, on_closed), 0, NULL },
    { "_listeners", T_OBJECT, offsetof(struct fin__py_loop, listeners), 0, NULL },
    { "_note_left", T_OBJECT, offsetof(struct fin__py_loop, note_left), 0, NULL },
    { "_placed", T_OBJECT, offsetof(struct fin__py_loop, placed), 0, NULL },
    { "_by_policy", T_BOOL, offsetof(struct fin__py_loop, closes), READONLY, NULL },
    { "_clock_resolution", T_DOUBLE, offsetof(struct fin__py_loop, resolution), 0, NULL },
    { NULL, 0, 0, 0, NULL },
};

static PyType_Slot slots[] = {
    { Py_tp_doc, "The part of finack.EventLoop that is in C." },
    { Py_tp_new, new },
    { Py_tp_methods, methods },
    { Py_tp_getset, properties },
    { Py_tp_members, members },
    { Py_tp_setattro, set_attribute },
    { Py_tp_traverse, loop_traverse },
    { Py_tp_clear, loop_clear },
    { Py_tp_dealloc, loop_dealloc },
    { 0, NULL },
};

static PyType_Spec spec = {
    .name = "finack._core.Loop",
    .basicsize = sizeof(struct fin__py_loop),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC,
    .slots = slots,
};

int fin__py_add_loop(PyObject *module, struct fin__py_asyncio *a)
{
    a->loop_type = (PyTypeObject *) PyType_FromModuleAndSpec(module, &spec, NULL);
    return a->loop_type ? PyModule_AddType(module, a->loop_type) : -1;
}
