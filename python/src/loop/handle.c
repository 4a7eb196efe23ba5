/* SPDX-License-Identifier: MIT */

/* Handles: what call_soon() and its sisters return. They are asyncio's own to whoever looks, and
 * keep what they need in C. */

#include "loop/loop.h"
#include "loop/state.h"

#include "slots.h"

#include <stddef.h>
#include <string.h>
#include <structmember.h>

/* ---- life ---- */

static PyTypeObject *type_for(const struct fin__py_loop *loop, const struct fin__py_wish *wish)
{
    const struct fin__py_asyncio *a = &loop->module->asyncio;

    return wish->when ? a->timer_type : a->handle_type;
}

static struct fin__py_handle *allocate(struct fin__py_loop *loop, PyTypeObject *type)
{
    struct fin__py_handle *handle;

    if (loop->free_count > 0 && type == loop->module->asyncio.handle_type) {
        handle = loop->free[--loop->free_count];
        _Py_NewReference((PyObject *) handle);
        return handle;
    }
    if (!type) { /* the module is being collected */
        PyErr_SetString(PyExc_RuntimeError, "the interpreter ends");
        return NULL;
    }
    handle = PyObject_GC_New(struct fin__py_handle, type);
    if (handle)
        memset(handle->asyncio, 0, sizeof *handle - offsetof(struct fin__py_handle, asyncio));
    return handle;
}

static int set_args(struct fin__py_handle *handle, const struct fin__py_wish *wish)
{
    if (wish->count <= FIN__PY_INLINE) {
        for (Py_ssize_t i = 0; i < wish->count; i++)
            handle->inlined[1 + i] = Py_NewRef(wish->args[i]);
        handle->count = (uint8_t) wish->count;
        return 0;
    }
    handle->args = PyTuple_New(wish->count);
    for (Py_ssize_t i = 0; handle->args && i < wish->count; i++)
        PyTuple_SET_ITEM(handle->args, i, Py_NewRef(wish->args[i]));
    return handle->args ? 0 : -1;
}

/* A traceback that ends with who called the loop's method. */
static int note_place(struct fin__py_handle *handle)
{
    PyObject *frame = (PyObject *) PyEval_GetFrame();

    if (!frame)
        return 0;
    handle->trace = PyObject_CallOneArg(handle->loop->module->asyncio.extract_stack, frame);
    return handle->trace ? 0 : -1;
}

struct fin__py_handle *fin__py_handle_new(struct fin__py_loop *loop,
                                          const struct fin__py_wish *wish)
{
    PyObject *context = wish->context && wish->context != Py_None ? Py_NewRef(wish->context)
                                                                  : PyContext_CopyCurrent();
    struct fin__py_handle *handle = context ? allocate(loop, type_for(loop, wish)) : NULL;

    if (!handle) {
        Py_XDECREF(context);
        return NULL;
    }
    handle->callback = Py_NewRef(wish->callback);
    handle->context = context;
    handle->loop = (struct fin__py_loop *) Py_NewRef(loop);
    handle->when = Py_XNewRef(wish->when);
    handle->is_timer = wish->when != NULL;
    handle->due = wish->due;
    handle->place = -1;
    handle->cancelled = false;
    if (set_args(handle, wish) < 0 || (loop->debug && note_place(handle) < 0))
        Py_CLEAR(handle);
    else
        PyObject_GC_Track(handle);
    return handle;
}

static void clear_args(struct fin__py_handle *handle)
{
    int count = handle->count;

    handle->count = 0;
    for (int i = 1; i <= count; i++)
        Py_CLEAR(handle->inlined[i]);
}

static int loop_handle_clear(PyObject *object)
{
    struct fin__py_handle *handle = (struct fin__py_handle *) object;

    Py_CLEAR(handle->callback);
    Py_CLEAR(handle->args);
    clear_args(handle);
    Py_CLEAR(handle->context);
    Py_CLEAR(handle->trace);
    Py_CLEAR(handle->text);
    Py_CLEAR(handle->when);
    return 0;
}

static int loop_handle_traverse(PyObject *object, visitproc visit, void *arg)
{
    struct fin__py_handle *handle = (struct fin__py_handle *) object;

    Py_VISIT(Py_TYPE(object));
    Py_VISIT(handle->callback);
    Py_VISIT(handle->args);
    Py_VISIT(handle->context);
    Py_VISIT(handle->loop);
    Py_VISIT(handle->trace);
    Py_VISIT(handle->text);
    Py_VISIT(handle->when);
    for (int i = 1; i <= handle->count; i++)
        Py_VISIT(handle->inlined[i]);
    return 0;
}

static void loop_handle_release(struct fin__py_handle *handle)
{
    PyTypeObject *type = Py_TYPE(handle);

    PyObject_GC_Del(handle);
    Py_DECREF(type);
}

/* What is kept to be used again keeps its type. */
static void loop_handle_dealloc(PyObject *object)
{
    struct fin__py_handle *handle = (struct fin__py_handle *) object;
    struct fin__py_loop *loop = handle->loop;
    const int room = sizeof loop->free / sizeof *loop->free;
    bool is_timer = handle->is_timer;

    if (PyObject_GC_IsTracked(object))
        PyObject_GC_UnTrack(object);
    PyObject_ClearWeakRefs(object);
    (void) loop_handle_clear(object);
    handle->loop = NULL;
    if (loop->free_count < room && !is_timer)
        loop->free[loop->free_count++] = handle;
    else
        loop_handle_release(handle);
    Py_DECREF(loop);
}

void fin__py_handle_free_list(struct fin__py_loop *loop)
{
    while (loop->free_count > 0)
        loop_handle_release(loop->free[--loop->free_count]);
}

bool fin__py_is_handle(const struct fin__py_loop *loop, PyObject *object)
{
    const struct fin__py_asyncio *a = &loop->module->asyncio;

    return Py_IS_TYPE(object, a->handle_type) || Py_IS_TYPE(object, a->timer_type);
}

int fin__py_is_cancelled(const struct fin__py_loop *loop, PyObject *object)
{
    PyObject *cancelled = PyObject_GetAttr(object, loop->module->asyncio.name_cancelled);
    int result = cancelled ? PyObject_IsTrue(cancelled) : -1;

    Py_XDECREF(cancelled);
    return result;
}

/* ---- running ---- */

/* What is called has its arguments from here, so they stay as long as it runs. */
static void drop_call(struct fin__py_handle *handle)
{
    if (handle->runs > 0)
        return;
    Py_XSETREF(handle->callback, Py_NewRef(Py_None));
    clear_args(handle);
    Py_XSETREF(handle->args, Py_NewRef(Py_None));
}

static PyObject *loop_handle_call(struct fin__py_handle *handle)
{
    if (!handle->args)
        return PyObject_Vectorcall(handle->callback, handle->inlined + 1,
                                   handle->count | PY_VECTORCALL_ARGUMENTS_OFFSET, NULL);
    return PyObject_Call(handle->callback, handle->args, NULL);
}

void fin__py_context_leave(PyObject *context)
{
    const struct fin__py_aside aside = fin__py_set_aside();

    if (PyContext_Exit(context) < 0)
        PyErr_WriteUnraisable(context);
    fin__py_restore(&aside);
}

bool fin__py_ends_the_run(void)
{
    return PyErr_ExceptionMatches(PyExc_SystemExit)
        || PyErr_ExceptionMatches(PyExc_KeyboardInterrupt);
}

static int loop_handle_report(struct fin__py_handle *handle)
{
    struct fin__py_loop *loop = handle->loop;
    PyObject *error, *result;

    if (fin__py_ends_the_run())
        return -1;
    error = fin__py_take_error();
    result = PyObject_CallMethodObjArgs((PyObject *) loop, loop->module->asyncio.name_failed,
                                        handle, error, NULL);
    Py_DECREF(error);
    return fin__py_done(result);
}

int fin__py_handle_run(struct fin__py_handle *handle)
{
    PyObject *context = Py_NewRef(handle->context), *result;

    if (PyContext_Enter(context) < 0) {
        Py_DECREF(context);
        return loop_handle_report(handle);
    }
    handle->runs++;
    result = loop_handle_call(handle);
    handle->runs--;
    fin__py_context_leave(context);
    Py_DECREF(context);
    if (handle->cancelled)
        drop_call(handle);
    if (!result)
        return loop_handle_report(handle);
    Py_DECREF(result);
    return 0;
}

/* ---- cancelling ---- */

int fin__py_handle_cancel(struct fin__py_handle *handle)
{
    if (handle->cancelled)
        return 0;
    handle->cancelled = true;
    if (handle->loop->debug) { /* as asyncio: what was called is to be seen later, in a warning */
        Py_XSETREF(handle->text, PyObject_Repr((PyObject *) handle));
        if (!handle->text)
            return -1;
    }
    drop_call(handle);
    if (handle->place >= 0) {
        fin__py_timers_remove(handle->loop, handle);
        Py_DECREF(handle);
    }
    return 0;
}

void fin__py_handle_drop(struct fin__py_handle **at)
{
    struct fin__py_handle *handle = *at;

    *at = NULL;
    if (handle && fin__py_handle_cancel(handle) < 0)
        PyErr_WriteUnraisable((PyObject *) handle);
    Py_XDECREF(handle);
}

static PyObject *cancel(PyObject *object, PyObject *unused)
{
    int result;

    (void) unused;
    Py_INCREF(object);
    result = fin__py_handle_cancel((struct fin__py_handle *) object);
    Py_DECREF(object);
    return fin__py_nothing(result);
}

/* ---- what it looks like ---- */

static PyObject *is_cancelled(PyObject *object, PyObject *unused)
{
    (void) unused;
    return PyBool_FromLong(((struct fin__py_handle *) object)->cancelled);
}

static PyObject *args_of(PyObject *object, void *unused)
{
    const struct fin__py_handle *handle = (struct fin__py_handle *) object;
    PyObject *args;

    (void) unused;
    if (handle->args)
        return Py_NewRef(handle->args);
    args = PyTuple_New(handle->count);
    for (Py_ssize_t i = 0; args && i < handle->count; i++)
        PyTuple_SET_ITEM(args, i, Py_NewRef(handle->inlined[1 + i]));
    return args;
}

static PyObject *is_scheduled(PyObject *object, void *unused)
{
    (void) unused;
    return PyBool_FromLong(((struct fin__py_handle *) object)->place >= 0);
}

/* What takes timers out of loop._scheduled says so; the heap knows by itself. */
static int ignore_scheduled(PyObject *object, PyObject *value, void *unused)
{
    (void) object;
    (void) value;
    (void) unused;
    return 0;
}

static PyMethodDef methods[] = {
    { "cancel", cancel, METH_NOARGS, "Don't call it." },
    { "cancelled", is_cancelled, METH_NOARGS, "Whether it was cancelled." },
    { NULL, NULL, 0, NULL },
};

static PyGetSetDef properties[] = {
    { "_args", args_of, NULL, NULL, NULL },
    { NULL, NULL, NULL, NULL, NULL },
};

static PyGetSetDef timer_properties[] = {
    { "_args", args_of, NULL, NULL, NULL },
    { "_scheduled", is_scheduled, ignore_scheduled, NULL, NULL },
    { NULL, NULL, NULL, NULL, NULL },
};

#define MEMBER(name, kind, field)                                                                  \
    {                                                                                              \
        name, kind, offsetof(struct fin__py_handle, field), READONLY, NULL                         \
    }

/* Of a timer all, of another one all but the first. */
static PyMemberDef members[] = {
    MEMBER("_when", T_OBJECT, when),         MEMBER("_callback", T_OBJECT, callback),
    MEMBER("_context", T_OBJECT, context),   MEMBER("_loop", T_OBJECT, loop),
    MEMBER("_cancelled", T_BOOL, cancelled), MEMBER("_source_traceback", T_OBJECT, trace),
    MEMBER("_repr", T_OBJECT, text),         { NULL, 0, 0, 0, NULL },
};

/* ---- the types ---- */

static PyType_Slot slots[] = {
    { Py_tp_doc, "What call_soon() returns." },
    { Py_tp_methods, methods },
    { Py_tp_members, members + 1 },
    { Py_tp_getset, properties },
    { Py_tp_traverse, loop_handle_traverse },
    { Py_tp_clear, loop_handle_clear },
    { Py_tp_dealloc, loop_handle_dealloc },
    { 0, NULL },
};

static PyType_Slot timer_slots[] = {
    { Py_tp_doc, "What call_later() and call_at() return." },
    { Py_tp_methods, methods },
    { Py_tp_members, members },
    { Py_tp_getset, timer_properties },
    { Py_tp_traverse, loop_handle_traverse },
    { Py_tp_clear, loop_handle_clear },
    { Py_tp_dealloc, loop_handle_dealloc },
    { 0, NULL },
};

#define FLAGS (Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_DISALLOW_INSTANTIATION)

static PyType_Spec spec = {
    .name = "finack.Handle",
    .basicsize = sizeof(struct fin__py_handle),
    .flags = FLAGS,
    .slots = slots,
};

static PyType_Spec timer_spec = {
    .name = "finack.TimerHandle",
    .basicsize = sizeof(struct fin__py_handle),
    .flags = FLAGS,
    .slots = timer_slots,
};

static PyTypeObject *derive(PyObject *module, PyType_Spec *type, const char *name)
{
    PyObject *base = fin__py_fetch("asyncio.events", name), *made;

    if (!base)
        return NULL;
    if (((PyTypeObject *) base)->tp_basicsize
        > (Py_ssize_t) offsetof(struct fin__py_handle, callback)) {
        PyErr_Format(PyExc_ImportError, "asyncio.%s is greater than it was", name);
        Py_DECREF(base);
        return NULL;
    }
    made = PyType_FromModuleAndSpec(module, type, base);
    Py_DECREF(base);
    return (PyTypeObject *) made;
}

int fin__py_add_handles(PyObject *module, struct fin__py_asyncio *a)
{
    a->handle_type = derive(module, &spec, "Handle");
    a->timer_type = a->handle_type ? derive(module, &timer_spec, "TimerHandle") : NULL;
    return a->timer_type ? 0 : -1;
}
