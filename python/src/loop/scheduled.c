/* SPDX-License-Identifier: MIT */

/* loop._scheduled: a list of the timers in the heap's order. Code with a turn of its own makes a
 * heap of it with heapq and takes out what is due, so a copy would not do: timers that are
 * missing from the list when the loop next reads it are removed from its heap too. */

#include "loop/loop.h"

static void mark_all(const struct fin__py_loop *loop, PyObject *list, bool mark)
{
    for (Py_ssize_t i = 0; i < PyList_GET_SIZE(list); i++) {
        PyObject *item = PyList_GET_ITEM(list, i);

        if (fin__py_is_handle(loop, item))
            ((struct fin__py_handle *) item)->marked = mark;
    }
}

static void take_out_others(struct fin__py_loop *loop, PyObject *before)
{
    for (Py_ssize_t i = 0; i < PyList_GET_SIZE(before); i++) {
        struct fin__py_handle *handle = (struct fin__py_handle *) PyList_GET_ITEM(before, i);

        if (handle->marked || handle->place < 0)
            continue;
        fin__py_timers_remove(loop, handle);
        Py_DECREF(handle);
    }
}

void fin__py_scheduled_settle(struct fin__py_loop *loop)
{
    PyObject *shown = loop->shown_timers, *before = loop->timers_before;

    if (!shown)
        return;
    loop->shown_timers = loop->timers_before = NULL;
    if (before && PyList_GET_SIZE(shown) != PyList_GET_SIZE(before)) {
        mark_all(loop, shown, true);
        take_out_others(loop, before);
        mark_all(loop, shown, false);
    }
    Py_DECREF(shown);
    Py_XDECREF(before);
}

PyObject *fin__py_scheduled(PyObject *object, void *unused)
{
    struct fin__py_loop *loop = (struct fin__py_loop *) object;
    const struct fin__py_timers *timers = &loop->timers;
    PyObject *list;

    (void) unused;
    fin__py_scheduled_settle(loop);
    list = PyList_New(timers->count);
    for (Py_ssize_t i = 0; list && i < PyList_GET_SIZE(list); i++)
        PyList_SET_ITEM(list, i, Py_NewRef(timers->heap[i]));
    if (!list || timers->count == 0)
        return list;
    loop->timers_before = PyList_GetSlice(list, 0, timers->count);
    if (!loop->timers_before)
        Py_CLEAR(list);
    else
        loop->shown_timers = Py_NewRef(list);
    return list;
}
