/* SPDX-License-Identifier: MIT */

/* A turn of the loop: what can be waited for, then the timers that are due, then all that was
 * queued by now. */

#include "loop/loop.h"
#include "loop/state.h"
#include "transport/close.h"

#include "base/clock.h"

#include <math.h>

#define LONGEST_MS (24 * 3600 * 1000)
#define READ_AT 0
#define WRITE_AT 1

/* ---- waiting ---- */

static int milliseconds(double seconds)
{
    if (!(seconds > 0))
        return 0;
    return seconds * 1e3 >= LONGEST_MS ? LONGEST_MS : (int) ceil(seconds * 1e3);
}

/* How long may be waited, -1: until something happens. */
static int find_timeout(struct fin__py_loop *loop, int *timeout_ms)
{
    double now;

    fin__py_scheduled_settle(loop);
    *timeout_ms = 0;
    if (fin__py_ring_count(&loop->ring) > 0 || loop->stopping)
        return 0;
    *timeout_ms = -1;
    if (loop->timers.count == 0)
        return 0;
    if (fin__py_loop_time(loop, &now) < 0)
        return -1;
    if (loop->timers.count > 0)
        *timeout_ms = milliseconds(loop->timers.heap[0]->due - now);
    return 0;
}

/* A handle that was cancelled stays registered in asyncio until it would have been called. */
static int turn_queue(struct fin__py_loop *loop, PyObject *key, int at)
{
    PyObject *data = PyTuple_GET_ITEM(key, 3), *handle, *done;

    if (!PyTuple_Check(data) || PyTuple_GET_SIZE(data) != 2)
        return 0;
    handle = PyTuple_GET_ITEM(data, at);
    if (handle == Py_None)
        return 0;
    if (!fin__py_is_handle(loop, handle) || !((struct fin__py_handle *) handle)->cancelled)
        return fin__py_ring_push(loop, NULL, Py_NewRef(handle), NULL);
    done = at == READ_AT ? fin__py_remove_reader((PyObject *) loop, PyTuple_GET_ITEM(key, 0))
                         : fin__py_remove_writer((PyObject *) loop, PyTuple_GET_ITEM(key, 0));
    return fin__py_done(done);
}

static int turn_take(void *arg, PyObject *key, int events)
{
    int result = 0;

    if (events & FIN_READ)
        result = turn_queue(arg, key, READ_AT);
    if (result == 0 && events & FIN_WRITE)
        result = turn_queue(arg, key, WRITE_AT);
    Py_DECREF(key);
    return result;
}

static PyObject *seconds(int timeout_ms)
{
    return timeout_ms < 0 ? Py_NewRef(Py_None) : PyFloat_FromDouble(timeout_ms / 1e3);
}

/* By a selector of another make. */
static int poll_other(struct fin__py_loop *loop, int timeout_ms)
{
    const struct fin__py_asyncio *a = &loop->module->asyncio;
    PyObject *timeout = seconds(timeout_ms), *events = NULL, *done = NULL;
    PyObject *selector = Py_XNewRef(loop->selector);

    if (timeout && selector && !Py_IsNone(selector))
        events = PyObject_CallMethodOneArg(selector, loop->module->name_select, timeout);
    else if (timeout)
        PyErr_SetString(PyExc_RuntimeError, "the loop has no selector");
    if (events)
        done = PyObject_CallMethodOneArg((PyObject *) loop, a->name_process_events, events);
    Py_XDECREF(selector);
    Py_XDECREF(timeout);
    Py_XDECREF(events);
    return fin__py_done(done);
}

static int poll_for_events(struct fin__py_loop *loop)
{
    struct fin__py_selector *selector = fin__py_loop_selector(loop);
    int timeout_ms, result;

    if (find_timeout(loop, &timeout_ms) < 0)
        return -1;
    if (!selector)
        return poll_other(loop, timeout_ms);
    if (fin__py_usable(selector) < 0)
        return -1;
    Py_INCREF(selector);
    result = fin__py_wait(selector, timeout_ms, turn_take, loop);
    Py_DECREF(selector);
    return result;
}

/* ---- running ---- */

static int run_other(struct fin__py_loop *loop, PyObject *handle, PyObject *method)
{
    return fin__py_done(method ? PyObject_CallMethodOneArg((PyObject *) loop, method, handle)
                               : PyObject_CallMethodNoArgs(handle, loop->module->asyncio.name_run));
}

static int run_handle(struct fin__py_loop *loop, PyObject *handle)
{
    bool ours = fin__py_is_handle(loop, handle);
    int cancelled =
        ours ? ((struct fin__py_handle *) handle)->cancelled : fin__py_is_cancelled(loop, handle);

    if (cancelled)
        return cancelled < 0 ? -1 : 0;
    if (loop->debug)
        return run_other(loop, handle, loop->module->asyncio.name_run_watched);
    return ours ? fin__py_handle_run((struct fin__py_handle *) handle)
                : run_other(loop, handle, NULL);
}

/* A step of the loop's own, which may call the program: debug mode reports what takes long. */
static int run_step(struct fin__py_loop *loop, const struct fin__py_entry *entry)
{
    uint64_t begun = loop->debug ? fin__now() : 0;
    int result = entry->step(loop, entry->self, entry->arg);
    PyObject *done;

    if (begun == 0 || result < 0)
        return result;
    done = PyObject_CallMethod((PyObject *) loop, "_step_took", "Od", entry->self,
                               (double) (fin__now() - begun) / 1e9);
    return fin__py_done(done);
}

/* Those that were queued when it began: what they queue waits for the next turn. */
static int run_queued(struct fin__py_loop *loop)
{
    int result = 0;

    for (size_t count = fin__py_ring_count(&loop->ring);
         result == 0 && count > 0 && fin__py_ring_count(&loop->ring) > 0; count--) {
        struct fin__py_entry entry = fin__py_ring_take(&loop->ring);

        result = entry.step ? run_step(loop, &entry) : run_handle(loop, entry.self);
        Py_DECREF(entry.self);
        Py_XDECREF(entry.arg);
    }
    return result;
}

PyObject *fin__py_run_once(PyObject *object, PyObject *unused)
{
    struct fin__py_loop *loop = (struct fin__py_loop *) object;
    bool before = loop->turning;
    int result;

    (void) unused;
    loop->turning = true;
    result = poll_for_events(loop) < 0 || fin__py_timers_expire(loop) < 0 || run_queued(loop) < 0
            || fin__py_endings_check(loop) < 0
        ? -1
        : 0;
    loop->turning = before;
    return fin__py_nothing(result);
}

/* While only C runs, nothing else checks for signals or releases the interpreter's lock. */
static int give_way(struct fin__py_loop *loop)
{
    if (PyErr_CheckSignals() < 0)
        return -1;
    if (++loop->turns % 64 == 0) {
        Py_BEGIN_ALLOW_THREADS
        Py_END_ALLOW_THREADS
    }
    return 0;
}

PyObject *fin__py_run(PyObject *object, PyObject *unused)
{
    struct fin__py_loop *loop = (struct fin__py_loop *) object;

    (void) unused;
    do {
        PyObject *done = PyObject_CallMethodNoArgs(object, loop->module->asyncio.name_run_once);

        if (!done || give_way(loop) < 0) {
            Py_XDECREF(done);
            return NULL;
        }
        Py_DECREF(done);
    } while (!loop->stopping);
    Py_RETURN_NONE;
}
