/* SPDX-License-Identifier: MIT */

/* add_reader() and its sisters: a handle each in the selector's key, as asyncio has it, so that
 * get_map() and observers show what they always did. */

#include "loop/loop.h"
#include "loop/state.h"

struct side {
    int event;         /* FIN_READ or FIN_WRITE */
    int at;            /* in the key's data, a pair */
    PyObject *asyncio; /* what to call on a selector of another make */
};

/* ---- the pair of handles ---- */

/* Borrowed; NULL: there is none. */
static PyObject *handle_at(PyObject *key, int at)
{
    PyObject *data = PyTuple_GET_ITEM(key, 3), *handle;

    if (!PyTuple_Check(data) || PyTuple_GET_SIZE(data) != 2)
        return NULL;
    handle = PyTuple_GET_ITEM(data, at);
    return handle == Py_None ? NULL : handle;
}

static PyObject *pair_with(PyObject *key, int at, PyObject *handle)
{
    PyObject *other = key ? handle_at(key, 1 - at) : NULL;
    PyObject *const one = handle ? handle : Py_None, *const two = other ? other : Py_None;

    return at == 0 ? PyTuple_Pack(2, one, two) : PyTuple_Pack(2, two, one);
}

static int cancel(struct fin__py_loop *loop, PyObject *handle)
{
    if (fin__py_is_handle(loop, handle))
        return fin__py_handle_cancel((struct fin__py_handle *) handle);
    return fin__py_done(PyObject_CallMethodNoArgs(handle, loop->module->asyncio.name_cancel));
}

/* ---- the key ---- */

/* New reference, NULL with or without an exception. */
static PyObject *loop_watch_find(struct fin__py_selector *selector, PyObject *fileobj)
{
    int fd;

    if (!fin__py_is_open(selector) || fin__py_lookup(selector, fileobj, &fd) < 0)
        return NULL;
    return Py_XNewRef(fin__py_current(selector, fd));
}

/* Registers `events` with the pair, in place of `key` if there is one. */
static int set(struct fin__py_selector *selector, PyObject *fileobj, PyObject *key, int events,
               PyObject *pair)
{
    PyObject *mask = PyLong_FromLong(events), *result = NULL;
    PyObject *const args[] = { fileobj, mask, pair };

    if (mask && events == 0)
        result = fin__py_unregister((PyObject *) selector, args, 1, NULL);
    else if (mask && key)
        result = fin__py_modify((PyObject *) selector, args, 3, NULL);
    else if (mask)
        result = fin__py_register((PyObject *) selector, args, 3, NULL);
    Py_XDECREF(mask);
    return fin__py_done(result);
}

static int events_of(PyObject *key)
{
    return key ? (int) PyLong_AsLong(PyTuple_GET_ITEM(key, 2)) : 0;
}

/* Puts a handle, or none, in the place of the one that is there, which is cancelled. 1: there was
 * one, 0: there was none, -1: an exception. */
static int replace_in(struct fin__py_loop *loop, struct fin__py_selector *selector,
                      const struct side *side, PyObject *fileobj, PyObject *handle)
{
    PyObject *key = loop_watch_find(selector, fileobj), *was, *pair;
    int events = events_of(key), result = -1;

    if (PyErr_Occurred())
        return -1;
    if (!key && !handle)
        return 0;
    was = key ? Py_XNewRef(handle_at(key, side->at)) : NULL;
    pair = pair_with(key, side->at, handle);
    events = handle ? events | side->event : events & ~side->event;
    if (pair && set(selector, fileobj, key, events, pair) == 0)
        result = was ? 1 : 0;
    if (result > 0 && cancel(loop, was) < 0)
        result = -1;
    Py_XDECREF(key);
    Py_XDECREF(was);
    Py_XDECREF(pair);
    return result;
}

/* The selector is held: while it is asked the program may give the loop another one. */
static int loop_watch_replace(struct fin__py_loop *loop, const struct side *side, PyObject *fileobj,
                              PyObject *handle)
{
    struct fin__py_selector *selector = fin__py_loop_selector(loop);
    int result;

    if (!selector) {
        PyErr_SetString(PyExc_RuntimeError, "the loop's selector was replaced during this call");
        return -1;
    }
    Py_INCREF(selector);
    result = replace_in(loop, selector, side, fileobj, handle);
    Py_DECREF(selector);
    return result;
}

/* ---- the methods ---- */

static PyObject *by_asyncio(PyObject *method, PyObject *object, PyObject *const *args,
                            Py_ssize_t count)
{
    PyObject *all = PyTuple_New(count + 1), *result;

    if (!all)
        return NULL;
    PyTuple_SET_ITEM(all, 0, Py_NewRef(object));
    for (Py_ssize_t i = 0; i < count; i++)
        PyTuple_SET_ITEM(all, i + 1, Py_NewRef(args[i]));
    result = PyObject_Call(method, all, NULL);
    Py_DECREF(all);
    return result;
}

static PyObject *loop_watch_add(const struct side *side, PyObject *object, PyObject *const *args,
                                Py_ssize_t count)
{
    struct fin__py_loop *loop = (struct fin__py_loop *) object;
    struct fin__py_wish wish = { 0 };
    struct fin__py_handle *handle;

    if (fin__py_loop_usable(loop) < 0)
        return NULL;
    if (count < 2)
        return PyErr_Format(PyExc_TypeError, "a file object and a callback are needed");
    if (!fin__py_loop_selector(loop)) /* keys of another one's make aren't ours to read */
        return by_asyncio(side->asyncio, object, args, count);
    wish.callback = args[1];
    wish.args = args + 2;
    wish.count = count - 2;
    handle = fin__py_handle_new(loop, &wish);
    if (handle && loop_watch_replace(loop, side, args[0], (PyObject *) handle) < 0)
        Py_CLEAR(handle);
    return (PyObject *) handle;
}

static PyObject *take_out(const struct side *side, PyObject *object, PyObject *fileobj)
{
    struct fin__py_loop *loop = (struct fin__py_loop *) object;
    int result;

    if (loop->closed)
        Py_RETURN_FALSE;
    if (!fin__py_loop_selector(loop))
        return by_asyncio(side->asyncio, object, &fileobj, 1);
    result = loop_watch_replace(loop, side, fileobj, NULL);
    return result < 0 ? NULL : PyBool_FromLong(result);
}

static struct fin__py_asyncio *asyncio_of(PyObject *object)
{
    return &((struct fin__py_loop *) object)->module->asyncio;
}

PyObject *fin__py_add_reader(PyObject *object, PyObject *const *args, Py_ssize_t count,
                             PyObject *unused)
{
    const struct side side = { FIN_READ, 0, asyncio_of(object)->add_reader };

    (void) unused;
    return loop_watch_add(&side, object, args, count);
}

PyObject *fin__py_add_writer(PyObject *object, PyObject *const *args, Py_ssize_t count,
                             PyObject *unused)
{
    const struct side side = { FIN_WRITE, 1, asyncio_of(object)->add_writer };

    (void) unused;
    return loop_watch_add(&side, object, args, count);
}

PyObject *fin__py_remove_reader(PyObject *object, PyObject *fileobj)
{
    const struct side side = { FIN_READ, 0, asyncio_of(object)->remove_reader };

    return take_out(&side, object, fileobj);
}

PyObject *fin__py_remove_writer(PyObject *object, PyObject *fileobj)
{
    const struct side side = { FIN_WRITE, 1, asyncio_of(object)->remove_writer };

    return take_out(&side, object, fileobj);
}
