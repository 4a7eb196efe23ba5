/* SPDX-License-Identifier: MIT */

#include "trace/loop.h"

#include "common/deadline.h"
#include "common/procfs.h"
#include "trace/after.h"
#include "trace/calls.h"
#include "trace/descriptors.h"
#include "trace/inspect.h"
#include "trace/sink.h"
#include "trace/stack.h"
#include "trace/tell.h"
#include "trace/wake.h"

#include <elf.h>
#include <errno.h>
#include <linux/kcmp.h>
#include <seccomp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <unistd.h>

/* Between two checks of what is released and not over. */
#define LOOK_MS 20
/* By then a close has happened that was about to. */
#define FRESH_MS 1
/* After this nothing will report a new task any more. */
#define EARLY_NS 200000000ull
/* How long a command may take to end after the terminal's signal. */
#define END_SOON_MS 2000
/* Between two comparisons of a table. */
#define COMPARE_NS 10000000ull
#define X32_BIT 0x40000000u
/* How many reports are taken before the first of the tasks goes on. */
#define TURN 256

/* ---- going on ---- */

/* A task that is gone (SIGKILL) fails with ESRCH: its end is reported by wait(2). */
static void go_on(const struct trace *trace, const struct task *task, int signal)
{
    bool stops = task->call || trace->every_call;

    ptrace(stops ? PTRACE_SYSCALL : PTRACE_CONT, task->tid, 0, (unsigned long) signal);
}

static bool is_stop_signal(int signal)
{
    return signal == SIGSTOP || signal == SIGTSTP || signal == SIGTTIN || signal == SIGTTOU;
}

/* ---- who is there ---- */

static bool shares_table(pid_t a, pid_t b, bool same_process)
{
    long result = syscall(SYS_kcmp, a, b, KCMP_FILES, 0, 0);

    return result < 0 ? same_process : result == 0;
}

static bool is_thread_of(pid_t pid, pid_t tid)
{
    char path[64];

    snprintf(path, sizeof path, "/proc/%d/task/%d", (int) pid, (int) tid);
    return access(path, F_OK) == 0;
}

/* What other threads of the parent did since the fork was not in the table that was copied. */
static void give_table(struct trace *trace, struct task *task, struct task *parent)
{
    bool same_process = task->process == parent->process;

    if (shares_table(parent->tid, task->tid, same_process)) {
        task->files = parent->files;
        task->files->users++;
        return;
    }
    task->files = files_copy(parent->files);
    if (!task->files)
        task->files = files_new();
    if (parent->files->users > 1)
        descriptors_compare(trace, task, ORIGIN_INHERITED);
    descriptors_inherited(trace, task);
}

/* ---- births ---- */

/* A new task is known by its own first stop or by its parent's, whichever is reported first. */
static void remember_early(struct trace *trace, pid_t tid)
{
    if (trace->early.count == 0)
        trace->early_ns = fin__now();
    (void) list_add(&trace->early, tid);
}

static bool forget_early(struct trace *trace, pid_t tid)
{
    size_t i;

    for (i = 0; i < trace->early.count; i++)
        if (trace->early.at[i] == tid) {
            trace->early.at[i] = trace->early.at[--trace->early.count];
            return true;
        }
    return false;
}

/* Its end was not reported yet. */
static bool is_traced(pid_t tid)
{
    siginfo_t info;

    return waitid(P_PID, (id_t) tid, &info, WNOHANG | WNOWAIT | WEXITED | WSTOPPED | __WALL) == 0;
}

/* Of many that stop at once the parent may be reported so late that the child was adopted, and has
 * ended. */
static void parent_tells(struct trace *trace, struct task *parent)
{
    unsigned long message = 0;
    struct task *task;
    pid_t tid, pid;

    if (ptrace(PTRACE_GETEVENTMSG, parent->tid, 0, &message) < 0)
        return;
    tid = (pid_t) message;
    if (tasks_find(&trace->tasks, tid) || !is_traced(tid))
        return;
    pid = is_thread_of(parent->process->pid, tid) ? parent->process->pid : tid;
    task = tasks_add(&trace->tasks, tid, pid);
    if (!task)
        return;
    give_table(trace, task, parent);
    if (forget_early(trace, tid))
        go_on(trace, task, 0);
}

/* Its parent was killed before it could tell. */
static void trace_loop_adopt(struct trace *trace, pid_t tid)
{
    pid_t pid = inspect_process(tid);
    struct task *leader = tasks_find(&trace->tasks, pid);
    struct task *task = tasks_add(&trace->tasks, tid, pid);

    if (!task)
        return;
    if (leader) {
        give_table(trace, task, leader);
    } else {
        task->files = files_new();
        descriptors_found(trace, task, ORIGIN_INHERITED);
    }
    go_on(trace, task, 0);
}

static void adopt_early(struct trace *trace)
{
    if (trace->early.count == 0 || fin__now() - trace->early_ns < EARLY_NS)
        return;
    while (trace->early.count > 0) {
        pid_t tid = trace->early.at[0];

        forget_early(trace, tid);
        trace_loop_adopt(trace, tid);
    }
}

/* ---- calls ---- */

/* The numbers of i386's and x32's calls mean others than ours. What one does is found out from the
 * table, not too often: of a 32-bit program each call is one. */
static bool is_foreign(const struct __ptrace_syscall_info *info)
{
    uint64_t number = info->op == PTRACE_SYSCALL_INFO_EXIT ? 0 : info->entry.nr;

    return info->arch != seccomp_arch_native() || number & X32_BIT;
}

static void compare_suspect(struct trace *trace, struct task *task)
{
    static const struct call unseen = { .name = "unseen", .argument = -1 };

    task->files->suspect = false;
    task->files->compared_ns = fin__now();
    task->call = &unseen;
    descriptors_compare(trace, task, ORIGIN_RECEIVED);
    task->call = NULL;
}

static void on_foreign_call(struct trace *trace, struct task *task, bool ends)
{
    if (!task->process->foreign_told)
        trace_note(
            trace,
            "process %d makes calls of another instruction set, which can't be read: what they "
            "do to sockets is found out later",
            (int) task->process->pid);
    task->process->foreign_told = true;
    task->files->suspect = true;
    if (ends && fin__now() - task->files->compared_ns > COMPARE_NS)
        compare_suspect(trace, task);
}

static void begin_call(struct trace *trace, struct task *task, uint64_t number,
                       const uint64_t args[6])
{
    const struct call *call = call_find(number);

    task->subject = NULL;
    task->call = call && call_matters(call, args) ? call : NULL;
    if (!task->call)
        return;
    memcpy(task->args, args, sizeof task->args);
    if (!call->enter(trace, task))
        task->call = NULL;
}

static void end_call(struct trace *trace, struct task *task, int64_t result)
{
    if (task->call)
        task->call->leave(trace, task, result);
    task->call = NULL;
    task->subject = NULL;
}

/* A task that is killed inside close(2) does not return from it. */
static void finish_close(struct trace *trace, struct task *task)
{
    if (call_is_close(task->call))
        end_call(trace, task, 0);
}

static void on_call(struct trace *trace, struct task *task)
{
    struct __ptrace_syscall_info info;

    if (!trace->began || ptrace(PTRACE_GET_SYSCALL_INFO, task->tid, sizeof info, &info) <= 0)
        return;
    if (is_foreign(&info)) {
        on_foreign_call(trace, task, info.op == PTRACE_SYSCALL_INFO_EXIT);
        return;
    }
    if (task->files->suspect && !task->call)
        compare_suspect(trace, task);
    switch (info.op) {
    case PTRACE_SYSCALL_INFO_SECCOMP:
        begin_call(trace, task, info.seccomp.nr, (const uint64_t *) info.seccomp.args);
        break;
    case PTRACE_SYSCALL_INFO_ENTRY:
        begin_call(trace, task, info.entry.nr, (const uint64_t *) info.entry.args);
        break;
    case PTRACE_SYSCALL_INFO_EXIT:
        end_call(trace, task, info.exit.rval);
        break;
    default:
        break;
    }
}

/* ---- execve ---- */

static void note_foreign(struct trace *trace, const struct task *task)
{
    struct user_regs_struct registers;
    struct iovec room = { &registers, sizeof registers };

    if (ptrace(PTRACE_GETREGSET, task->tid, NT_PRSTATUS, &room) == 0
        && room.iov_len < sizeof registers)
        trace_note(trace, "process %d runs a 32-bit program, whose calls are not seen",
                   (int) task->process->pid);
}

/* The command begins with its execve(2): what was before is ours. */
static void trace_loop_begin(struct trace *trace, struct task *task)
{
    trace->began = true;
    trace->began_ns = fin__now();
    if (trace->tasks.roster && trace->tasks.roster->unfiltered) {
        trace->every_call = true;
        trace_note(trace, "no seccomp filter could be loaded: every system call is slow");
    }
    descriptors_found(trace, task, ORIGIN_INHERITED);
}

static void leave_table(struct task *task)
{
    if (task->exiting)
        task->files->exiting--;
    files_leave(task->files);
}

/* The thread that called execve(2) is the leader now; its former number is the message. */
static struct task *become_leader(struct trace *trace, struct task *leader)
{
    unsigned long message = 0;
    struct task *former;

    if (ptrace(PTRACE_GETEVENTMSG, leader->tid, 0, &message) < 0)
        return leader;
    former = (pid_t) message == leader->tid ? NULL : tasks_find(&trace->tasks, (pid_t) message);
    if (!former)
        return leader;
    pid_t tid = leader->tid;

    finish_close(trace, leader);
    leave_table(leader);
    tasks_remove(&trace->tasks, leader);
    tasks_rename(&trace->tasks, former, tid);
    return former;
}

static struct task *on_exec(struct trace *trace, struct task *task)
{
    if (trace->began)
        task = become_leader(trace, task);
    task->exiting = false;
    process_command(task->tid, task->command);
    task->named_ns = fin__now();
    task->call = &call_exec;
    descriptors_unshare(task);
    if (!trace->began)
        trace_loop_begin(trace, task);
    else
        descriptors_compare(trace, task, ORIGIN_RECEIVED);
    task->call = NULL;
    note_foreign(trace, task);
    stacks_forget(trace->stacks, task->process->pid);
    return task;
}

/* ---- ends ---- */

static void on_exiting(struct trace *trace, struct task *task)
{
    if (task->exiting)
        return;
    finish_close(trace, task);
    task->exiting = true;
    if (++task->files->exiting == task->files->users && trace->began)
        descriptors_before_exit(trace, task);
}

static void on_end(struct trace *trace, struct task *task, int status)
{
    finish_close(trace, task);
    if (task->tid == trace->main)
        trace->ended = status;
    if (task->files->users == 1)
        descriptors_exit(trace, task, WIFSIGNALED(status));
    if (task->process->tasks == 1)
        stacks_forget(trace->stacks, task->process->pid);
    leave_table(task);
    tasks_remove(&trace->tasks, task);
}

/* ---- stops ---- */

static void on_event(struct trace *trace, struct task *task, int event, int signal)
{
    switch (event) {
    case PTRACE_EVENT_SECCOMP:
        on_call(trace, task);
        break;
    case PTRACE_EVENT_FORK:
    case PTRACE_EVENT_VFORK:
    case PTRACE_EVENT_CLONE:
        parent_tells(trace, task);
        break;
    case PTRACE_EVENT_EXEC:
        task = on_exec(trace, task);
        break;
    case PTRACE_EVENT_EXIT:
        on_exiting(trace, task);
        break;
    default:
        break;
    }
    if (event == PTRACE_EVENT_STOP && is_stop_signal(signal))
        ptrace(PTRACE_LISTEN, task->tid, 0, 0);
    else
        go_on(trace, task, 0);
}

static void on_stop(struct trace *trace, struct task *task, int status)
{
    int event = status >> 16, signal = WSTOPSIG(status);

    if (trace->every_call && !trace->began && trace->options->pid) {
        trace->began = true;
        descriptors_found(trace, task, ORIGIN_FOUND);
    }
    if (event) {
        on_event(trace, task, event, signal);
    } else if (signal == (SIGTRAP | 0x80)) {
        on_call(trace, task);
        go_on(trace, task, 0);
    } else {
        go_on(trace, task, signal);
    }
}

static void on_report(struct trace *trace, pid_t tid, int status)
{
    struct task *task = tasks_find(&trace->tasks, tid);

    if (task && WIFSTOPPED(status))
        on_stop(trace, task, status);
    else if (task)
        on_end(trace, task, status);
    else if (WIFSTOPPED(status))
        remember_early(trace, tid);
    else
        forget_early(trace, tid);
}

/* ---- the loop ---- */

struct loop {
    uint64_t looked_ns;
    uint64_t deadline; /* of ORDER_END_SOON, 0: none */
};

/* How long we may wait without checking anything, in ms; 0: for ever. */
static unsigned patience(const struct trace *trace, const struct loop *loop)
{
    if (trace->fresh)
        return FRESH_MS;
    return trace->pending || trace->early.count || loop->deadline ? LOOK_MS : 0;
}

static void look_around(struct trace *trace, struct loop *loop)
{
    if (fin__now() - loop->looked_ns < LOOK_MS * 1000000ull)
        return;
    loop->looked_ns = fin__now();
    adopt_early(trace);
    if (trace->pending)
        after_look(trace);
}

static enum order take_order(struct loop *loop)
{
    enum order order = wake_order();

    if (order == ORDER_END_SOON && loop->deadline == 0)
        loop->deadline = deadline_in_ms(END_SOON_MS);
    else if (order)
        return order;
    return loop->deadline && fin__now() >= loop->deadline ? ORDER_END_NOW : ORDER_NONE;
}

struct report {
    pid_t tid;
    int status;
};

/* Blocking in wait(2) and nowhere else makes the trace a third faster than waiting for SIGCHLD.
 * wait(2) looks at the youngest first: all that stand still are taken before any goes on, so that
 * those who come back at once don't keep the elder waiting. Returns how many, or a negative
 * errno. */
static int take_reports(struct report reports[TURN])
{
    int count = 0;
    pid_t tid;

    while (count < TURN) {
        tid = waitpid(-1, &reports[count].status, __WALL | (count ? WNOHANG : 0));
        if (tid <= 0)
            return count || tid == 0 ? count : -errno;
        reports[count++].tid = tid;
    }
    return count;
}

static void finish_close_of(struct task *task, void *arg)
{
    finish_close(arg, task);
}

enum loop_end loop_run(struct trace *trace)
{
    struct loop loop = { fin__now(), 0 };
    struct report reports[TURN];
    enum order order = ORDER_NONE;

    while ((trace->tasks.count > 0 || trace->early.count > 0) && order == ORDER_NONE) {
        int count;

        sink_pause(trace->sink);
        wake_in(patience(trace, &loop));
        count = take_reports(reports);
        if (count == -ECHILD)
            break;
        if (trace->fresh)
            after_look_fresh(trace);
        for (int i = 0; i < count; i++)
            on_report(trace, reports[i].tid, reports[i].status);
        look_around(trace, &loop);
        order = take_order(&loop);
    }
    if (order == ORDER_NONE)
        return LOOP_OVER;
    tasks_visit(&trace->tasks, finish_close_of, trace);
    return order == ORDER_FRONT_IS_DEAD ? LOOP_ORPHANED : LOOP_DETACHED;
}
