/* SPDX-License-Identifier: MIT */

#include "attach/order.h"

#include "common/deadline.h"
#include "common/procfs.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/wait.h>

enum {
    STOP_MS = 500,
    PLEASE_STOP = 1 << 5 /* _PY_EVAL_PLEASE_STOP_BIT */
};

/* ---- stopping it for a moment ---- */

/* Until it stops; what waitpid(2) says, or 0. */
static int wait_for_stop(int32_t tid)
{
    uint64_t deadline = deadline_in_ms(STOP_MS);
    int status;

    do {
        if (waitpid(tid, &status, __WALL | WNOHANG) == tid)
            return WIFSTOPPED(status) ? status : 0;
        (void) poll(NULL, 0, 1);
    } while (deadline_left_ms(deadline) > 0);
    return 0;
}

/* Where it did not stop in time, on a busy machine, it is ours already, and may have stopped
 * since. */
static int stop(int32_t tid, int *ret_status)
{
    *ret_status = 0;
    if (tid == 0)
        return -ENODATA;
    if (ptrace(PTRACE_SEIZE, tid, 0, 0) < 0 && errno != EPERM)
        return -errno;
    if (ptrace(PTRACE_INTERRUPT, tid, 0, 0) < 0)
        return -EPERM;
    *ret_status = wait_for_stop(tid);
    return *ret_status ? 0 : -ETIMEDOUT;
}

/* A signal that was on its way is delivered. */
static void let_go(int32_t tid, int status)
{
    if (status)
        ptrace(PTRACE_DETACH, tid, 0, (unsigned long) (status >> 16 ? 0 : WSTOPSIG(status)));
}

/* While it stands still it does not end. False: it has ended. */
static bool hold(const struct interpreter *in, const struct python_thread *thread, int *ret_status)
{
    (void) stop(thread->tid, ret_status);
    if (interpreter_has(in, thread))
        return true;
    let_go(thread->tid, *ret_status);
    return false;
}

/* ---- what it is told ---- */

int order_give(const struct interpreter *in, const struct python_thread *thread, const char *path)
{
    int32_t pending = 1;
    int status, result = 0;

    if (!hold(in, thread, &status))
        return -ESRCH;
    if (!memory_write(in->pid, thread->state + in->path, path, strlen(path) + 1)
        || !memory_write(in->pid, thread->state + in->pending, &pending, sizeof pending))
        result = -errno;
    let_go(thread->tid, status);
    return result;
}

bool order_taken(const struct interpreter *in, const struct python_thread *thread)
{
    int32_t pending = 0;

    return memory_read(in->pid, thread->state + in->pending, &pending, sizeof pending)
        && pending == 0;
}

int order_wake(const struct python_thread *thread)
{
    int status, result = stop(thread->tid, &status);

    let_go(thread->tid, status);
    return result;
}

/* As CPython does it: a bit that another thread sets at this moment may be lost, which asks again
 * (who waits for the GIL) or is looked at with ours. */
void order_press(const struct interpreter *in, const struct python_thread *thread)
{
    uint64_t bits;
    int status;

    if (!hold(in, thread, &status))
        return;
    if (memory_read(in->pid, thread->state + in->breaker, &bits, sizeof bits)) {
        bits |= PLEASE_STOP;
        (void) memory_write(in->pid, thread->state + in->breaker, &bits, sizeof bits);
    }
    let_go(thread->tid, status);
}

/* ---- what is left of it ---- */

static void wipe(const struct interpreter *in, const struct python_thread *thread)
{
    static const char nothing[SCRIPT_PATH];

    (void) memory_write(in->pid, thread->state + in->path, nothing, sizeof nothing);
}

void order_forget(const struct interpreter *in, const struct python_thread *thread)
{
    int status;

    if (!hold(in, thread, &status))
        return;
    wipe(in, thread);
    let_go(thread->tid, status);
}

bool order_withdraw(const struct interpreter *in, const struct python_thread *thread)
{
    int32_t pending = 0;
    int status;
    bool taken;

    if (!hold(in, thread, &status))
        return true;
    taken = order_taken(in, thread);
    if (!taken) {
        (void) memory_write(in->pid, thread->state + in->pending, &pending, sizeof pending);
        wipe(in, thread);
    }
    let_go(thread->tid, status);
    return !taken;
}
