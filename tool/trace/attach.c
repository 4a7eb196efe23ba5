/* SPDX-License-Identifier: MIT */

/* A seccomp filter can't be taken off: without a tracer its calls fail,
 * so that somebody has to stay. */

#include "trace/attach.h"

#include "common/deadline.h"
#include "trace/inspect.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/wait.h>

#define FOLLOW                                                                                     \
    (PTRACE_O_TRACESYSGOOD | PTRACE_O_TRACECLONE | PTRACE_O_TRACEFORK | PTRACE_O_TRACEVFORK        \
     | PTRACE_O_TRACEEXEC | PTRACE_O_TRACEEXIT)

/* ---- taking ---- */

/* Another's filter with SECCOMP_RET_TRACE means a tracer of its own: without a filter of ours its
 * calls must go on failing. */
static int seize(pid_t tid, bool filtered)
{
    unsigned long options = FOLLOW | (filtered ? (unsigned long) PTRACE_O_TRACESECCOMP : 0);

    return ptrace(PTRACE_SEIZE, tid, 0, options) < 0 ? -errno : 0;
}

static struct task *attach_take(struct trace *trace, pid_t tid, pid_t pid)
{
    struct task *leader = tasks_find(&trace->tasks, pid);
    struct task *task = tasks_add(&trace->tasks, tid, pid);

    if (!task)
        return NULL;
    task->files = leader ? leader->files : files_new();
    if (leader)
        task->files->users++;
    return task->files ? task : NULL;
}

int attach_command(struct trace *trace, pid_t tid)
{
    int result = seize(tid, true);

    if (result == 0 && !attach_take(trace, tid, tid))
        result = -ENOMEM;
    return result;
}

/* Calls take(tid, arg) for each thread; returns how many there were, or a negative errno. */
static int for_each_thread(pid_t pid, void (*visit)(pid_t tid, void *arg), void *arg)
{
    struct fin__folder tasks;
    char path[64];
    int32_t tid;
    int count = 0, result;

    snprintf(path, sizeof path, "/proc/%d/task", (int) pid);
    result = fin__folder_open(&tasks, AT_FDCWD, path);
    if (result < 0)
        return result == -ENOENT ? -ESRCH : result;
    for (; fin__folder_next(&tasks, &tid) > 0; count++)
        visit(tid, arg);
    fin__folder_close(&tasks);
    return count;
}

struct attaching {
    struct trace *trace;
    pid_t pid;
    unsigned added;
};

static void attach_thread(pid_t tid, void *arg)
{
    struct attaching *a = arg;

    if (tasks_find(&a->trace->tasks, tid) || seize(tid, false) < 0)
        return;
    ptrace(PTRACE_INTERRUPT, tid, 0, 0);
    if (attach_take(a->trace, tid, a->pid))
        a->added++;
}

/* Threads are born while we look: until a look finds no new one. */
int attach_process(struct trace *trace, pid_t pid)
{
    struct attaching a = { trace, pid, 1 };
    int result = seize(pid, false);

    if (result < 0)
        return result;
    ptrace(PTRACE_INTERRUPT, pid, 0, 0);
    if (!attach_take(trace, pid, pid))
        return -ENOMEM;
    while (a.added > 0) {
        a.added = 0;
        result = for_each_thread(pid, attach_thread, &a);
        if (result < 0)
            return result;
    }
    return 0;
}

/* ---- letting go ---- */

static bool is_group_stop(int status)
{
    int signal = WSTOPSIG(status);

    return status >> 16 == PTRACE_EVENT_STOP && signal != SIGTRAP;
}

static int signal_of(int status)
{
    int signal = WSTOPSIG(status);

    return status >> 16 || signal == (SIGTRAP | 0x80) ? 0 : signal;
}

static void interrupt(struct task *task, void *arg)
{
    (void) arg;
    ptrace(PTRACE_INTERRUPT, task->tid, 0, 0);
}

static void detach_one(struct trace *trace, pid_t tid, int status)
{
    struct task *task = tasks_find(&trace->tasks, tid);

    if (WIFSTOPPED(status))
        ptrace(PTRACE_DETACH, tid, 0, (unsigned long) signal_of(status));
    if (!task)
        return;
    files_leave(task->files);
    tasks_remove(&trace->tasks, task);
}

/* A thread in an uninterruptible call is let go by the kernel when we end. */
static void detach_all(struct trace *trace)
{
    uint64_t deadline = deadline_in_ms(1000);
    int status;

    tasks_visit(&trace->tasks, interrupt, NULL);
    while (trace->tasks.count > 0 && deadline_left_ms(deadline) > 0) {
        pid_t tid = waitpid(-1, &status, __WALL | WNOHANG);

        if (tid > 0)
            detach_one(trace, tid, status);
        else if (tid < 0)
            return;
        else
            poll(NULL, 0, 1);
    }
}

void attach_let_go(struct trace *trace)
{
    size_t i;

    for (i = 0; i < trace->early.count; i++)
        ptrace(trace->options->pid ? PTRACE_DETACH : PTRACE_CONT, trace->early.at[i], 0, 0);
    trace->early.count = 0;
    if (trace->options->pid)
        detach_all(trace);
}

/* ---- staying ---- */

void attach_keep(void)
{
    int status;
    pid_t tid;

    while ((tid = waitpid(-1, &status, __WALL)) > 0 || errno == EINTR) {
        if (tid <= 0 || !WIFSTOPPED(status))
            continue;
        if (is_group_stop(status))
            ptrace(PTRACE_LISTEN, tid, 0, 0);
        else
            ptrace(PTRACE_CONT, tid, 0, (unsigned long) signal_of(status));
    }
}

static void seize_thread(pid_t tid, void *arg)
{
    (void) arg;
    (void) seize(tid, true);
}

void attach_take_over(const struct roster *roster)
{
    uint32_t i;

    for (i = 0; i < roster->count && i < ROSTER_MAX; i++) {
        (void) seize(roster->tid[i], true);
        (void) for_each_thread(roster->tid[i], seize_thread, NULL);
    }
}
