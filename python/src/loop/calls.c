/* SPDX-License-Identifier: MIT */

/* call_soon() and its sisters. */

#include "loop/loop.h"
#include "loop/state.h"

/* ---- arguments ---- */

static bool are_same(PyObject *one, PyObject *other)
{
    return one == other || PyUnicode_Compare(one, other) == 0;
}

struct form {
    const char *function;
    PyObject *const *names; /* of what must be given, the callback last */
    int required;
};

static int keyword(const struct form *form, PyObject *context_name, PyObject *name, PyObject *value,
                   PyObject **values, struct fin__py_wish *wish)
{
    if (are_same(name, context_name)) {
        wish->context = value;
        return 0;
    }
    for (int i = 0; i < form->required; i++)
        if (!values[i] && are_same(name, form->names[i])) {
            values[i] = value;
            return 0;
        }
    PyErr_Format(PyExc_TypeError, "%s() got an unexpected keyword argument %R", form->function,
                 name);
    return -1;
}

/* values[]: what is required, borrowed. Everything behind it are the callback's arguments. */
static int spread(const struct form *form, const struct fin__py_asyncio *a, PyObject *const *args,
                  Py_ssize_t count, PyObject *keywords, PyObject **values,
                  struct fin__py_wish *wish)
{
    Py_ssize_t named = keywords ? PyTuple_GET_SIZE(keywords) : 0;

    for (int i = 0; i < form->required; i++)
        values[i] = i < count ? args[i] : NULL;
    for (Py_ssize_t i = 0; i < named; i++)
        if (keyword(form, a->name_context, PyTuple_GET_ITEM(keywords, i), args[count + i], values,
                    wish)
            < 0)
            return -1;
    for (int i = 0; i < form->required; i++)
        if (!values[i]) {
            PyErr_Format(PyExc_TypeError, "%s() needs an argument %R", form->function,
                         form->names[i]);
            return -1;
        }
    wish->callback = values[form->required - 1];
    wish->args = count > form->required ? args + form->required : NULL;
    wish->count = count > form->required ? count - form->required : 0;
    return 0;
}

/* ---- checks ---- */

int fin__py_loop_usable(const struct fin__py_loop *loop)
{
    if (!loop->closed)
        return 0;
    PyErr_SetString(PyExc_RuntimeError, "Event loop is closed");
    return -1;
}

static int check_callback(struct fin__py_loop *loop, PyObject *callback, const char *function)
{
    PyObject *name = PyUnicode_FromString(function), *result = NULL;

    if (name)
        result = PyObject_CallMethodObjArgs(
            (PyObject *) loop, loop->module->asyncio.name_check_callback, callback, name, NULL);
    Py_XDECREF(name);
    return fin__py_done(result);
}

static int loop_calls_check(struct fin__py_loop *loop, PyObject *callback, const char *function,
                            bool thread)
{
    if (fin__py_loop_usable(loop) < 0)
        return -1;
    if (!loop->debug)
        return 0;
    if (thread
        && fin__py_done(PyObject_CallMethodNoArgs((PyObject *) loop,
                                                  loop->module->asyncio.name_check_thread))
            < 0)
        return -1;
    return check_callback(loop, callback, function);
}

/* ---- soon ---- */

static PyObject *soon(const char *function, PyObject *object, PyObject *const *args,
                      Py_ssize_t count, PyObject *keywords, bool thread)
{
    struct fin__py_loop *loop = (struct fin__py_loop *) object;
    const struct fin__py_asyncio *a = &loop->module->asyncio;
    const struct form form = { function, &a->name_callback, 1 };
    struct fin__py_wish wish = { 0 };
    struct fin__py_handle *handle;
    PyObject *callback;

    if (spread(&form, a, args, count, keywords, &callback, &wish) < 0
        || loop_calls_check(loop, callback, function, thread) < 0)
        return NULL;
    handle = fin__py_handle_new(loop, &wish);
    if (!handle)
        return NULL;
    if (fin__py_ring_push(loop, NULL, Py_NewRef(handle), NULL) < 0)
        Py_CLEAR(handle);
    return (PyObject *) handle;
}

PyObject *fin__py_call_soon(PyObject *object, PyObject *const *args, Py_ssize_t count,
                            PyObject *keywords)
{
    return soon("call_soon", object, args, count, keywords, true);
}

PyObject *fin__py_call_soon_threadsafe(PyObject *object, PyObject *const *args, Py_ssize_t count,
                                       PyObject *keywords)
{
    PyObject *handle = soon("call_soon_threadsafe", object, args, count, keywords, false);

    if (handle)
        fin__py_wake((struct fin__py_loop *) object);
    return handle;
}

PyObject *fin__py_add_callback(PyObject *object, PyObject *handle)
{
    struct fin__py_loop *loop = (struct fin__py_loop *) object;
    int cancelled = fin__py_is_cancelled(loop, handle);

    if (cancelled < 0 || (!cancelled && fin__py_ring_push(loop, NULL, Py_NewRef(handle), NULL) < 0))
        return NULL;
    Py_RETURN_NONE;
}

/* ---- later ---- */

int fin__py_loop_time(struct fin__py_loop *loop, double *now)
{
    PyObject *time = PyObject_CallMethodNoArgs((PyObject *) loop, loop->module->asyncio.name_time);

    if (!time)
        return -1;
    *now = PyFloat_AsDouble(time);
    Py_DECREF(time);
    return *now == -1.0 && PyErr_Occurred() ? -1 : 0;
}

static PyObject *at(struct fin__py_loop *loop, struct fin__py_wish *wish)
{
    struct fin__py_handle *handle;

    if (loop_calls_check(loop, wish->callback, "call_at", true) < 0)
        return NULL;
    wish->due = PyFloat_AsDouble(wish->when);
    if (wish->due == -1.0 && PyErr_Occurred())
        return NULL;
    handle = fin__py_handle_new(loop, wish);
    if (!handle)
        return NULL;
    if (fin__py_timers_add(loop, handle) < 0)
        Py_CLEAR(handle);
    return (PyObject *) handle;
}

PyObject *fin__py_call_at(PyObject *object, PyObject *const *args, Py_ssize_t count,
                          PyObject *keywords)
{
    struct fin__py_loop *loop = (struct fin__py_loop *) object;
    const struct fin__py_asyncio *a = &loop->module->asyncio;
    PyObject *const names[] = { a->name_when, a->name_callback };
    const struct form form = { "call_at", names, 2 };
    struct fin__py_wish wish = { 0 };
    PyObject *values[2];

    if (spread(&form, a, args, count, keywords, values, &wish) < 0)
        return NULL;
    if (values[0] == Py_None) {
        PyErr_SetString(PyExc_TypeError, "when cannot be None");
        return NULL;
    }
    wish.when = values[0];
    return at(loop, &wish);
}

/* New reference: when it will be then. */
static PyObject *when_after(struct fin__py_loop *loop, PyObject *delay)
{
    PyObject *now, *when;

    if (delay == Py_None) {
        PyErr_SetString(PyExc_TypeError, "delay must not be None");
        return NULL;
    }
    now = PyObject_CallMethodNoArgs((PyObject *) loop, loop->module->asyncio.name_time);
    when = now ? PyNumber_Add(now, delay) : NULL;
    Py_XDECREF(now);
    return when;
}

/* By self.call_at(), which the program has made its own. */
static PyObject *at_by_method(struct fin__py_loop *loop, const struct fin__py_wish *wish)
{
    const struct fin__py_asyncio *a = &loop->module->asyncio;
    PyObject *few[3 + FIN__PY_INLINE + 1], **all = few, *handle;
    size_t count = 3 + (size_t) wish->count;

    if (wish->count > FIN__PY_INLINE && !(all = PyMem_New(PyObject *, count + 1)))
        return PyErr_NoMemory();
    all[0] = (PyObject *) loop;
    all[1] = wish->when;
    all[2] = wish->callback;
    for (Py_ssize_t i = 0; i < wish->count; i++)
        all[3 + i] = wish->args[i];
    all[count] = wish->context;
    handle = PyObject_VectorcallMethod(a->name_call_at, all, count,
                                       wish->context ? a->with_context : NULL);
    if (all != few)
        PyMem_Free(all);
    return handle;
}

PyObject *fin__py_call_later(PyObject *object, PyObject *const *args, Py_ssize_t count,
                             PyObject *keywords)
{
    struct fin__py_loop *loop = (struct fin__py_loop *) object;
    const struct fin__py_asyncio *a = &loop->module->asyncio;
    PyObject *const names[] = { a->name_delay, a->name_callback };
    const struct form form = { "call_later", names, 2 };
    struct fin__py_wish wish = { 0 };
    PyObject *values[2], *handle;

    if (spread(&form, a, args, count, keywords, values, &wish) < 0)
        return NULL;
    wish.when = when_after(loop, values[0]);
    if (!wish.when)
        return NULL;
    handle = loop->own_call_at ? at_by_method(loop, &wish) : at(loop, &wish);
    Py_DECREF(wish.when);
    return handle;
}
