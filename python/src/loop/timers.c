/* SPDX-License-Identifier: MIT */

/* Timers: a binary heap in which every handle knows its place, so that a cancelled one is
 * removed at once. */

#include "loop/loop.h"

#define ROOM_MIN 64

static void timers_put(struct fin__py_timers *timers, Py_ssize_t place,
                       struct fin__py_handle *handle)
{
    timers->heap[place] = handle;
    handle->place = place;
}

static void rise(struct fin__py_timers *timers, Py_ssize_t place, struct fin__py_handle *handle)
{
    while (place > 0 && handle->due < timers->heap[(place - 1) / 2]->due) {
        timers_put(timers, place, timers->heap[(place - 1) / 2]);
        place = (place - 1) / 2;
    }
    timers_put(timers, place, handle);
}

static Py_ssize_t earlier_child(const struct fin__py_timers *timers, Py_ssize_t place)
{
    Py_ssize_t child = 2 * place + 1;

    if (child + 1 < timers->count && timers->heap[child + 1]->due < timers->heap[child]->due)
        child++;
    return child;
}

static void sink(struct fin__py_timers *timers, Py_ssize_t place, struct fin__py_handle *handle)
{
    for (Py_ssize_t child; (child = earlier_child(timers, place)) < timers->count; place = child) {
        if (!(timers->heap[child]->due < handle->due))
            break;
        timers_put(timers, place, timers->heap[child]);
    }
    timers_put(timers, place, handle);
}

static int timers_grow(struct fin__py_timers *timers)
{
    Py_ssize_t room = timers->room ? 2 * timers->room : ROOM_MIN;
    struct fin__py_handle **heap =
        PyMem_RawRealloc(timers->heap, (size_t) room * sizeof(struct fin__py_handle *));

    if (!heap) {
        PyErr_NoMemory();
        return -1;
    }
    timers->heap = heap;
    timers->room = room;
    return 0;
}

int fin__py_timers_add(struct fin__py_loop *loop, struct fin__py_handle *handle)
{
    struct fin__py_timers *timers = &loop->timers;

    if (timers->count == timers->room && timers_grow(timers) < 0)
        return -1;
    Py_INCREF(handle);
    rise(timers, timers->count++, handle);
    return 0;
}

void fin__py_timers_remove(struct fin__py_loop *loop, struct fin__py_handle *handle)
{
    struct fin__py_timers *timers = &loop->timers;
    struct fin__py_handle *last = timers->heap[--timers->count];
    Py_ssize_t place = handle->place;

    handle->place = -1;
    if (last == handle)
        return;
    if (place > 0 && last->due < timers->heap[(place - 1) / 2]->due)
        rise(timers, place, last);
    else
        sink(timers, place, last);
}

void fin__py_timers_clear(struct fin__py_loop *loop)
{
    struct fin__py_timers *timers = &loop->timers;

    while (timers->count > 0) {
        struct fin__py_handle *handle = timers->heap[timers->count - 1];

        fin__py_timers_remove(loop, handle);
        Py_DECREF(handle);
    }
    PyMem_RawFree(timers->heap);
    *timers = (struct fin__py_timers) { 0 };
}

int fin__py_timers_expire(struct fin__py_loop *loop)
{
    struct fin__py_timers *timers = &loop->timers;
    double now;

    fin__py_scheduled_settle(loop);
    if (timers->count == 0)
        return 0;
    if (fin__py_loop_time(loop, &now) < 0)
        return -1;
    now += loop->resolution;
    while (timers->count > 0 && !(timers->heap[0]->due >= now)) {
        struct fin__py_handle *handle = timers->heap[0];

        fin__py_timers_remove(loop, handle);
        if (fin__py_ring_push(loop, NULL, (PyObject *) handle, NULL) < 0)
            return -1;
    }
    return 0;
}
