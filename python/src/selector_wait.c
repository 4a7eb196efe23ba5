/* SPDX-License-Identifier: MIT */

/* ProxySelector.select() */

#include "arguments.h"
#include "proxy.h"

#include "base/clock.h"

#include <errno.h>

#define ON_STACK 256

struct wait {
    struct fin__py_selector *self;
    struct epoll_event *events;
    int max;
    int timeout_ms;
    uint64_t until;
    PyObject *ready; /* the list to return */
    bool stale;
};

/* ---- the buffer ---- */

static struct epoll_event *take_buffer(struct fin__py_selector *self, int size)
{
    struct epoll_event *events = self->spare;

    if (events && self->spare_size >= size) {
        self->spare = NULL;
        return events;
    }
    return PyMem_RawMalloc((size_t) size * sizeof *events);
}

static void give_back(struct fin__py_selector *self, struct epoll_event *events, int size)
{
    if (self->spare && self->spare_size >= size) {
        PyMem_RawFree(events);
        return;
    }
    PyMem_RawFree(self->spare);
    self->spare = events;
    self->spare_size = size;
}

/* ---- results ---- */

/* Takes over `key`. An allocation may run the garbage collector, and with it anything, also what
 * unregisters the key or closes the selector. */
static int append(struct wait *w, PyObject *key, int events)
{
    PyObject *mask = PyLong_FromLong(events), *pair = mask ? PyTuple_New(2) : NULL;
    int result;

    if (!pair) {
        Py_DECREF(key);
        Py_XDECREF(mask);
        return -1;
    }
    PyTuple_SET_ITEM(pair, 0, key);
    PyTuple_SET_ITEM(pair, 1, mask);
    result = PyList_Append(w->ready, pair);
    Py_DECREF(pair);
    return result;
}

static int collect(struct wait *w, int count)
{
    for (int i = 0; i < count; i++) {
        int fd, events;
        const struct fin__slot *slot =
            fin__selector_resolve(w->self->selector, &w->events[i], &fd, &events);

        if (!slot)
            w->stale = true;
        else if (events != 0 && append(w, Py_NewRef(slot->data), events) < 0)
            return -1;
    }
    return 0;
}

/* ---- waiting ---- */

static int wait_once(struct wait *w)
{
    int set = w->self->selector->set, count;

    Py_BEGIN_ALLOW_THREADS
    count = fin__selector_wait(set, w->events, w->max, w->timeout_ms);
    Py_END_ALLOW_THREADS
    return count;
}

static void shorten(struct wait *w)
{
    uint64_t now = fin__now();

    if (w->timeout_ms > 0)
        w->timeout_ms =
            now >= w->until ? 0 : (int) ((w->until - now + FIN__NS_PER_MS - 1) / FIN__NS_PER_MS);
}

/* A signal without an exception only interrupts the wait (PEP 475). 1: wait again, 0: done, -1: an
 * exception. */
static int take_turn(struct wait *w)
{
    int count = wait_once(w);

    if (w->self->closed)
        return 0;
    if (count == -EINTR)
        return PyErr_CheckSignals() < 0 ? -1 : !w->self->closed;
    if (count < 0) {
        (void) fin__py_os_error(count);
        return -1;
    }
    w->stale = false;
    if (collect(w, count) < 0)
        return -1;
    if (w->stale && !w->self->closed && fin__selector_renew(w->self->selector) < 0)
        return 0; /* no descriptor to be had: better to return early than to spin here */
    return count > 0 && PyList_GET_SIZE(w->ready) == 0 && w->timeout_ms != 0 && !w->self->closed;
}

static PyObject *wait_and_collect(struct wait *w)
{
    int result;

    w->ready = PyList_New(0);
    if (!w->ready)
        return NULL;
    if (w->timeout_ms > 0)
        w->until = fin__now() + (uint64_t) w->timeout_ms * FIN__NS_PER_MS;
    w->self->waiting++;
    while ((result = take_turn(w)) > 0)
        shorten(w);
    w->self->waiting--;
    fin__py_finish(w->self);
    if (result < 0)
        Py_CLEAR(w->ready);
    return w->ready;
}

static PyObject *select_many(struct wait *w)
{
    PyObject *ready;

    w->events = take_buffer(w->self, w->max);
    if (!w->events)
        return PyErr_NoMemory();
    ready = wait_and_collect(w);
    give_back(w->self, w->events, w->max);
    return ready;
}

static PyObject *select_natively(struct fin__py_selector *self, int timeout_ms)
{
    struct epoll_event events[ON_STACK];
    struct wait w = {
        .self = self,
        .events = events,
        .max = ON_STACK,
        .timeout_ms = timeout_ms,
    };

    if (self->selector->table.count <= ON_STACK)
        return wait_and_collect(&w);
    w.max = self->selector->table.count;
    return select_many(&w);
}

PyObject *fin__py_select(struct fin__py_selector *self, PyObject *const *args, Py_ssize_t count,
                         PyObject *keywords)
{
    static const char *const names[] = { "timeout", NULL };
    static const struct fin__py_call call = { "select", names, 0 };
    PyObject *timeout;
    int timeout_ms;

    if (fin__py_spread(&call, args, count, keywords, &timeout) < 0)
        return NULL;
    if (fin__py_timeout(timeout, &timeout_ms) < 0 || fin__py_usable(self) < 0)
        return NULL;
    if (self->wrapped)
        return PyObject_CallMethodOneArg(self->wrapped, self->module->name_select,
                                         timeout ? timeout : Py_None);
    return select_natively(self, timeout_ms);
}
