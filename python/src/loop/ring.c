/* SPDX-License-Identifier: MIT */

/* What is to be run, in the order in which it was asked for. */

#include "loop/loop.h"

#define ROOM_MIN 64

static int ring_grow(struct fin__py_ring *ring)
{
    size_t room = ring->mask ? 2 * (ring->mask + 1) : ROOM_MIN, count = fin__py_ring_count(ring);
    struct fin__py_entry *entries = PyMem_RawMalloc(room * sizeof *entries);

    if (!entries) {
        PyErr_NoMemory();
        return -1;
    }
    for (size_t i = 0; i < count; i++)
        entries[i] = ring->entries[(ring->head + i) & ring->mask];
    PyMem_RawFree(ring->entries);
    *ring = (struct fin__py_ring) { entries, room - 1, 0, count };
    return 0;
}

int fin__py_ring_push(struct fin__py_loop *loop, fin__py_step_fn step, PyObject *self,
                      PyObject *arg)
{
    struct fin__py_ring *ring = &loop->ring;

    if ((ring->mask == 0 || fin__py_ring_count(ring) > ring->mask) && ring_grow(ring) < 0) {
        Py_DECREF(self);
        Py_XDECREF(arg);
        return -1;
    }
    ring->entries[ring->tail++ & ring->mask] = (struct fin__py_entry) { step, self, arg };
    return 0;
}

int fin__py_ring_push_look(struct fin__py_loop *loop, fin__py_step_fn step, PyObject *owner, int fd)
{
    struct fin__py_selector *selector = fin__py_loop_selector(loop);
    int result = fin__py_ring_push(loop, step, Py_NewRef(owner), NULL);

    if (result < 0 && selector)
        fin__py_edge_ask_again(selector, fd, owner);
    return result;
}

struct fin__py_entry fin__py_ring_take(struct fin__py_ring *ring)
{
    return ring->entries[ring->head++ & ring->mask];
}

/* What goes may ask for something again: that goes too. */
void fin__py_ring_clear(struct fin__py_ring *ring)
{
    while (fin__py_ring_count(ring) > 0) {
        struct fin__py_entry entry = fin__py_ring_take(ring);

        Py_DECREF(entry.self);
        Py_XDECREF(entry.arg);
    }
    PyMem_RawFree(ring->entries);
    *ring = (struct fin__py_ring) { 0 };
}
