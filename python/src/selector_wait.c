/* SPDX-License-Identifier: MIT */

/* ProxySelector.select() */

#include "arguments.h"
#include "proxy.h"

#include "base/clock.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>

#define ON_STACK 256
#define LOOK_EACH 32

struct wait {
    struct fin__py_selector *self;
    struct epoll_event *events;
    int max;
    int timeout_ms;
    uint64_t until;
    fin__py_ready_fn take;
    void *arg;
    bool stale, taken;
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

/* ---- what was closed while it was registered ---- */

/* The registration of a number that is free stays, since whoever made it may yet unregister it; not
 * in a selector that was given, which might tell of it for ever. */
static void tell_stale(struct fin__py_selector *self, int fd)
{
    bool taken = fcntl(fd, F_GETFD) >= 0;
    const char *now = taken ? "and means another file now" : "and is free";

    if (taken || self->wrapped)
        fin__py_drop(self, fd);
    if (PyErr_ResourceWarning(
            (PyObject *) self, 1,
            "descriptor %d was closed while it was registered, %s; something else "
            "holds the file, whose events are dropped",
            fd, now)
        < 0)
        PyErr_WriteUnraisable((PyObject *) self);
}

/* ---- results ---- */

/* Takes over `key`. An allocation may run the garbage collector, and with it anything, also what
 * unregisters the key or closes the selector. */
static int selector_wait_append(void *list, PyObject *key, int events)
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
    result = PyList_Append(list, pair);
    Py_DECREF(pair);
    return result;
}

static int hand_over(struct wait *w, PyObject *data, int events, uint32_t raw)
{
    int result;

    if (events == 0)
        return 0;
    w->taken = true;
    if (events != FIN__EDGE)
        return w->take(w->arg, Py_NewRef(data), events);
    Py_INCREF(data);
    result = fin__py_edge_news(w->self, data, raw);
    Py_DECREF(data);
    return result;
}

/* An edge comes once, and the exception that is set ends the turn: what is left of a batch is asked
 * for again. Other events come again by themselves. */
static void leave_for_later(struct wait *w, int from, int count)
{
    for (int i = from; i < count && !w->self->closed; i++) {
        int fd, events;
        const struct fin__slot *slot =
            fin__selector_resolve(w->self->selector, &w->events[i], &fd, &events);

        if (slot && slot->events == FIN__EDGE)
            fin__selector_ask_again(w->self->selector, fd);
    }
}

static int selector_wait_collect(struct wait *w, int count)
{
    for (int i = 0; i < count; i++) {
        int fd, events;
        const struct fin__slot *slot =
            fin__selector_resolve(w->self->selector, &w->events[i], &fd, &events);

        if (!slot) {
            w->stale = true;
        } else if (!fin__selector_fits(w->self->selector, slot, fd)) {
            w->stale = true;
            tell_stale(w->self, fd);
        } else if (hand_over(w, slot->data, slot->events == FIN__EDGE ? FIN__EDGE : events,
                             w->events[i].events)
                   < 0) {
            leave_for_later(w, i + 1, count);
            return -1;
        }
    }
    return 0;
}

/* ---- results of a selector that was given ---- */

static int number_in(struct fin__py_selector *self, PyObject *pair, int *fd)
{
    PyObject *number;
    int result;

    if (!PyTuple_Check(pair) || PyTuple_GET_SIZE(pair) != 2)
        return -1;
    number = PyObject_GetAttr(PyTuple_GET_ITEM(pair, 0), self->module->name_fd);
    result = number ? fin__py_descriptor(self->module, number, fd) : -1;
    Py_XDECREF(number);
    return result;
}

/* What has a form that we don't know is as it should be. */
static bool is_stale(struct fin__py_selector *self, PyObject *pair)
{
    const struct fin__slot *slot;
    int fd;

    if (number_in(self, pair, &fd) < 0) {
        PyErr_Clear();
        return false;
    }
    slot = fin__py_find(self, fd);
    if (!slot || fin__slot_is_current(slot, fd))
        return false;
    tell_stale(self, fd);
    return true;
}

#define STALE_MAX 64

/* Its epoll set can't be replaced: the entries are taken out one by one. */
static void heal(struct fin__py_selector *self)
{
    PyObject *number = fin__py_call_wrapped(self, self->module->name_fileno, NULL);
    int set = number ? (int) PyLong_AsLong(number) : -1;
    struct fin_stale found[STALE_MAX];
    int count;

    Py_XDECREF(number);
    PyErr_Clear();
    if (set < 0)
        return; /* no epoll: it knows nothing but numbers */
    Py_BEGIN_ALLOW_THREADS
    count = fin_epoll_audit(0, found, STALE_MAX);
    for (int i = 0; i < count && i < STALE_MAX; i++)
        if (found[i].epoll_fd == set)
            (void) fin_epoll_heal(&found[i]);
    Py_END_ALLOW_THREADS
}

/* Takes over `ready`, NULL: an exception. Looking may run anything, which may change the list. */
static PyObject *filter(struct fin__py_selector *self, PyObject *ready)
{
    bool stale = false;

    if (!ready || !PyList_CheckExact(ready))
        return ready;
    for (Py_ssize_t i = PyList_GET_SIZE(ready); i-- > 0;) {
        PyObject *pair = PySequence_GetItem(ready, i);

        if (pair && is_stale(self, pair)) {
            stale = true;
            (void) PySequence_DelItem(ready, i);
        }
        Py_XDECREF(pair);
        PyErr_Clear(); /* it is shorter by now */
    }
    if (stale)
        heal(self);
    return ready;
}

/* ---- waiting ---- */

/* To give the interpreter's lock up for a look that does not wait costs more than it gives: other
 * threads get it from the code in Python that the events lead to, and from the loop now and then
 * (give_way()). Before a wait such a look is worth its system call where the last one found
 * something; else it is tried now and then. */
static bool may_look_first(struct fin__py_selector *self)
{
    return self->busy || ++self->waits % LOOK_EACH == 0;
}

static int wait_once(struct wait *w)
{
    int set = w->self->selector->set, count;

    if (w->timeout_ms == 0)
        return fin__selector_wait(set, w->events, w->max, 0);
    if (may_look_first(w->self)) {
        count = fin__selector_wait(set, w->events, w->max, 0);
        w->self->busy = count > 0;
        if (count != 0)
            return count;
    }
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

#define PAUSE_MS 10

/* There is no descriptor to be had for a new set, so the old one is ready all the time: better to
 * return early than to spin here, and not at once, since the caller would spin. */
static int pause_if_idle(struct wait *w)
{
    if (!w->taken && w->timeout_ms != 0) {
        Py_BEGIN_ALLOW_THREADS(void)
        poll(NULL, 0, w->timeout_ms > 0 && w->timeout_ms < PAUSE_MS ? w->timeout_ms : PAUSE_MS);
        Py_END_ALLOW_THREADS
    }
    return 0;
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
    if (selector_wait_collect(w, count) < 0)
        return -1;
    if (w->stale && !w->self->closed && fin__selector_renew(w->self->selector) < 0)
        return pause_if_idle(w);
    return count > 0 && !w->taken && w->timeout_ms != 0 && !w->self->closed;
}

/* It ends by its time, if it has one: each turn has what is left of it. */
static int wait_and_collect(struct wait *w)
{
    int result;

    if (w->timeout_ms > 0)
        w->until = fin__now() + (uint64_t) w->timeout_ms * FIN__NS_PER_MS;
    w->self->waiting++;
    while ((result = take_turn(w)) > 0)
        shorten(w);
    w->self->waiting--;
    fin__py_finish(w->self);
    return result;
}

static int wait_for_many(struct wait *w)
{
    int result;

    w->events = take_buffer(w->self, w->max);
    if (!w->events) {
        PyErr_NoMemory();
        return -1;
    }
    result = wait_and_collect(w);
    give_back(w->self, w->events, w->max);
    return result;
}

int fin__py_wait(struct fin__py_selector *self, int timeout_ms, fin__py_ready_fn take, void *arg)
{
    struct epoll_event events[ON_STACK];
    struct wait w = {
        .self = self,
        .events = events,
        .max = ON_STACK,
        .timeout_ms = timeout_ms,
        .take = take,
        .arg = arg,
    };

    if (self->selector->table.count <= ON_STACK)
        return wait_and_collect(&w);
    w.max = self->selector->table.count;
    return wait_for_many(&w);
}

static PyObject *select_natively(struct fin__py_selector *self, int timeout_ms)
{
    PyObject *ready = PyList_New(0);

    if (ready && fin__py_wait(self, timeout_ms, selector_wait_append, ready) < 0)
        Py_CLEAR(ready);
    return ready;
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
        return filter(
            self,
            fin__py_call_wrapped(self, self->module->name_select, timeout ? timeout : Py_None));
    return select_natively(self, timeout_ms);
}
