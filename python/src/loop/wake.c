/* SPDX-License-Identifier: MIT */

/* How another thread, or a signal's handler, wakes the loop: an eventfd. */

#include "loop/loop.h"

#include "base/descriptor.h"

#include <errno.h>
#include <sys/eventfd.h>
#include <unistd.h>

PyObject *fin__py_open_wake(PyObject *object, PyObject *unused)
{
    struct fin__py_loop *loop = (struct fin__py_loop *) object;

    (void) unused;
    if (loop->wake < 0)
        loop->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (loop->wake < 0)
        return fin__py_os_error(-errno);
    return PyLong_FromLong(loop->wake);
}

PyObject *fin__py_close_wake(PyObject *object, PyObject *unused)
{
    struct fin__py_loop *loop = (struct fin__py_loop *) object;

    (void) unused;
    fin__drop(&loop->wake);
    loop->woken = false;
    Py_RETURN_NONE;
}

/* In a forked child it is the parent's too. */
static bool is_ours(const struct fin__py_loop *loop)
{
    const struct fin__py_selector *selector = fin__py_loop_selector(loop);

    return loop->wake >= 0 && !(selector && fin__py_is_child(selector));
}

void fin__py_wake(struct fin__py_loop *loop)
{
    const uint64_t one = 1;

    if (loop->woken || !is_ours(loop))
        return;
    /* It never waits, and so is not interrupted. EAGAIN: it is full, and wakes. */
    loop->woken = write(loop->wake, &one, sizeof one) > 0 || errno == EAGAIN;
}

PyObject *fin__py_write_to_self(PyObject *object, PyObject *unused)
{
    (void) unused;
    fin__py_wake((struct fin__py_loop *) object);
    Py_RETURN_NONE;
}

PyObject *fin__py_drain_wake(PyObject *object, PyObject *unused)
{
    struct fin__py_loop *loop = (struct fin__py_loop *) object;
    uint64_t count;

    (void) unused;
    loop->woken = false;
    if (is_ours(loop) && read(loop->wake, &count, sizeof count) < 0 && errno != EAGAIN)
        return fin__py_os_error(-errno);
    Py_RETURN_NONE;
}
