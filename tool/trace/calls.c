/* SPDX-License-Identifier: MIT */

#include "trace/calls.h"

#include "common/procfs.h"
#include "trace/descriptors.h"
#include "trace/inspect.h"
#include "trace/tell.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/close_range.h>
#include <sched.h>
#include <seccomp.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

/* The kernel's own ERESTARTSYS and its like, which only a tracer sees. */
#define RESTART 512

static int as_int(uint64_t arg)
{
    return (int) (uint32_t) arg;
}

/* What most calls begin with: the socket that their first argument names. */
static bool enter_subject(struct trace *trace, struct task *task)
{
    task->subject = descriptor_get(trace, task, as_int(task->args[0]));
    return task->subject && task->subject->id;
}

/* A call that failed may matter too, so that the result is awaited in any case. */
static bool enter_always(struct trace *trace, struct task *task)
{
    (void) trace;
    (void) task;
    return true;
}

/* ---- birth ---- */

static void leave_socket(struct trace *trace, struct task *task, int64_t result)
{
    if (result >= 0)
        descriptor_made(trace, task, (int) result, ORIGIN_MADE);
}

static void leave_socketpair(struct trace *trace, struct task *task, int64_t result)
{
    int pair[2];

    if (result < 0 || !memory_read(task->tid, task->args[3], pair, sizeof pair))
        return;
    for (int i = 0; i < 2; i++) {
        struct thing *socket = descriptor_made(trace, task, pair[i], ORIGIN_MADE);

        if (socket)
            socket->connected = true;
    }
}

static void leave_accept(struct trace *trace, struct task *task, int64_t result)
{
    struct thing *socket;

    if (result < 0)
        return;
    socket = descriptor_made(trace, task, (int) result, ORIGIN_ACCEPTED);
    if (socket)
        socket->connected_ns = socket->made.ns;
}

static void read_target(struct task *task)
{
    char address[128];
    size_t size = task->args[2] < sizeof address ? (size_t) task->args[2] : sizeof address;

    if (memory_read(task->tid, task->args[1], address, size))
        inspect_at_target(task->subject, address, size);
}

static void look_at_subject(struct trace *trace, struct task *task)
{
    int borrowed = inspect_borrow(task->process->pidfd, as_int(task->args[0]));

    if (borrowed < 0)
        return;
    inspect_connected(task->subject, borrowed, trace->kernel);
    close(borrowed);
}

static void leave_connect(struct trace *trace, struct task *task, int64_t result)
{
    struct thing *socket = task->subject;
    bool under_way = result == -EINPROGRESS || result == -EINTR;
    struct event event = { .kind = result == 0 ? EVENT_CONNECTED : EVENT_CONNECTING,
                           .socket = socket,
                           .error = result < 0 && !under_way ? (int) -result : 0 };

    if (result <= -RESTART) /* it begins anew, and stops again */
        return;
    look_at_subject(trace, task);
    if (!socket->remote)
        read_target(task);
    if (result == 0 || under_way)
        socket->connected_ns = trace_now(trace);
    trace_tell(trace, task, event, as_int(task->args[0]), NULL);
}

static void leave_listen(struct trace *trace, struct task *task, int64_t result)
{
    struct event event = { .kind = EVENT_LISTENING, .socket = task->subject };

    if (result < 0)
        return;
    look_at_subject(trace, task);
    task->subject->listening = true;
    trace_tell(trace, task, event, as_int(task->args[0]), NULL);
}

/* ---- copies ---- */

static void leave_dup(struct trace *trace, struct task *task, int64_t result)
{
    if (result >= 0)
        descriptor_copied(trace, task, task->subject, as_int(task->args[0]), (int) result);
}

/* dup2(2) closes what the new number was. */
static bool enter_dup2(struct trace *trace, struct task *task)
{
    int from = as_int(task->args[0]), to = as_int(task->args[1]);

    task->subject = descriptor_get(trace, task, from);
    if (from != to)
        descriptor_look(trace, task, to);
    return task->subject || files_get(task->files, to);
}

static void leave_dup2(struct trace *trace, struct task *task, int64_t result)
{
    int from = as_int(task->args[0]), to = as_int(task->args[1]);
    struct thing *before = files_get(task->files, to);

    if (result < 0 || from == to)
        return;
    if (task->subject) {
        descriptor_copied(trace, task, task->subject, from, to);
        return;
    }
    files_drop(task->files, to);
    if (before && before->id)
        descriptor_closed(trace, task, before, to, 0);
}

static bool enter_any_descriptor(struct trace *trace, struct task *task)
{
    task->subject = descriptor_get(trace, task, as_int(task->args[0]));
    return task->subject;
}

static void leave_getfd(struct trace *trace, struct task *task, int64_t result)
{
    if (result >= 0)
        (void) descriptor_get(trace, task, (int) result);
}

static void leave_unshare(struct trace *trace, struct task *task, int64_t result)
{
    (void) trace;
    if (result >= 0)
        descriptors_unshare(task);
}

/* ---- epoll ---- */

static void tell_epoll(struct trace *trace, struct task *task, enum event_kind kind)
{
    struct event event = { .kind = kind, .socket = task->subject, .other = as_int(task->args[0]) };

    trace_tell(trace, task, event, as_int(task->args[2]), NULL);
}

static void unregister(struct trace *trace, struct task *task, const struct thing *set)
{
    struct thing *socket = task->subject;

    if (!registration_remove(socket, set, as_int(task->args[2])))
        return;
    if (registration_count(socket) == 0)
        socket->stage_ns[FIN_STAGE_UNWATCHED] = trace_now(trace);
    tell_epoll(trace, task, EVENT_UNREGISTERED);
}

static void register_in(struct trace *trace, struct task *task, struct thing *set)
{
    int set_fd = as_int(task->args[0]), fd = as_int(task->args[2]);

    if (registration_add(task->subject, set, set_fd, fd) < 0)
        return;
    task->subject->stage_ns[FIN_STAGE_UNWATCHED] = NEVER;
    tell_epoll(trace, task, EVENT_REGISTERED);
}

/* A witness waits for nothing: the socket is not watched by it, and its entry is no ghost. */
static bool is_for_witness(const struct task *task)
{
    struct epoll_event entry;

    return memory_read(task->tid, task->args[3], &entry, sizeof entry)
        && fin__witness_owns(entry.events | EPOLLERR | EPOLLHUP);
}

/* What the kernel will say is known: it adds what is not there and deletes what is. So the end need
 * not be awaited, but for what was there before we attached. */
static bool enter_epoll_ctl(struct trace *trace, struct task *task)
{
    bool add = as_int(task->args[1]) == EPOLL_CTL_ADD;
    struct thing *set;

    task->subject = descriptor_get(trace, task, as_int(task->args[2]));
    if (!task->subject || !task->subject->id || (add && is_for_witness(task)))
        return false;
    set = descriptor_get(trace, task, as_int(task->args[0]));
    if (!set || (add && trace->every_call))
        return set;
    if (!add)
        unregister(trace, task, set);
    else if (!registration_find(task->subject, set, as_int(task->args[2])))
        register_in(trace, task, set);
    return false;
}

static void leave_epoll_add(struct trace *trace, struct task *task, int64_t result)
{
    struct thing *set = files_get(task->files, as_int(task->args[0]));

    if (result >= 0 && set)
        register_in(trace, task, set);
}

/* ---- the end ---- */

static void leave_shutdown(struct trace *trace, struct task *task, int64_t result)
{
    struct thing *socket = task->subject;
    int how = as_int(task->args[1]);
    struct event event = {
        .kind = EVENT_SHUT, .socket = socket, .other = how, .error = result < 0 ? (int) -result : 0
    };

    if (result == 0)
        trace_stamp(trace, &socket->stage_ns[FIN_STAGE_REQUESTED]);
    if (result == 0 && how != SHUT_RD)
        trace_stamp(trace, &socket->stage_ns[FIN_STAGE_SHUT]);
    trace_tell(trace, task, event, as_int(task->args[0]), NULL);
}

/* close(2) frees the number whatever it returns, and another thread may get it before we see the
 * call end: it leaves the table at once, and is reported with its result. */
static bool enter_close(struct trace *trace, struct task *task)
{
    task->subject = descriptor_close(trace, task, as_int(task->args[0]));
    if (task->subject)
        task->subject->closing++;
    return task->subject;
}

static void leave_close(struct trace *trace, struct task *task, int64_t result)
{
    int error = result < 0 && result > -RESTART ? (int) -result : 0;

    task->subject->closing--;
    if (error && descriptor_kept(trace, task, task->subject, as_int(task->args[0]), error))
        return;
    descriptor_closed(trace, task, task->subject, as_int(task->args[0]), error);
}

/* The numbers are known only before, the result only afterwards. */
static bool enter_close_range(struct trace *trace, struct task *task)
{
    uint32_t last = (uint32_t) task->args[1];
    size_t fd;

    descriptors_found(trace, task, ORIGIN_RECEIVED);
    for (fd = (uint32_t) task->args[0]; fd < task->files->size && fd <= last; fd++)
        if (!(task->args[2] & CLOSE_RANGE_CLOEXEC))
            descriptor_look(trace, task, (int) fd);
    return true;
}

static void leave_close_range(struct trace *trace, struct task *task, int64_t result)
{
    uint32_t last = (uint32_t) task->args[1];
    size_t fd;

    if (result < 0)
        return;
    if (task->args[2] & CLOSE_RANGE_UNSHARE)
        descriptors_unshare(task);
    if (task->args[2] & CLOSE_RANGE_CLOEXEC)
        return;
    for (fd = (uint32_t) task->args[0]; fd < task->files->size && fd <= last; fd++) {
        struct thing *thing = task->files->slot[fd];
        struct fin__link link;

        if (!thing || inspect_at(task->tid, (int) fd, &link) == 0)
            continue;
        files_drop(task->files, (int) fd);
        if (thing->id)
            descriptor_closed(trace, task, thing, (int) fd, 0);
    }
}

/* ---- what goes past us ---- */

static bool enter_io_uring(struct trace *trace, struct task *task)
{
    if (!task->process->ring_told)
        trace_note(trace, "process %d uses io_uring: what that does to sockets is seen late or not",
                   (int) task->process->pid);
    task->process->ring_told = true;
    return false;
}

/* ---- the table ---- */

#define ANY                                                                                        \
    -1, 0,                                                                                         \
    {                                                                                              \
        0, 0                                                                                       \
    }
#define ALL UINT32_MAX

const struct call calls[] = {
    { "socket", ANY, enter_always, leave_socket },
    { "socketpair", ANY, enter_always, leave_socketpair },
    { "accept", ANY, enter_always, leave_accept },
    { "accept4", ANY, enter_always, leave_accept },
    { "connect", ANY, enter_subject, leave_connect },
    { "listen", ANY, enter_subject, leave_listen },
    { "shutdown", ANY, enter_subject, leave_shutdown },
    { "close", ANY, enter_close, leave_close },
    { "close_range", ANY, enter_close_range, leave_close_range },
    { "dup", ANY, enter_any_descriptor, leave_dup },
    { "dup2", ANY, enter_dup2, leave_dup2 },
    { "dup3", ANY, enter_dup2, leave_dup2 },
    { "fcntl", 1, ALL, { F_DUPFD, F_DUPFD_CLOEXEC }, enter_any_descriptor, leave_dup },
    { "epoll_ctl", 1, ALL, { EPOLL_CTL_ADD, EPOLL_CTL_DEL }, enter_epoll_ctl, leave_epoll_add },
    { "unshare", 0, CLONE_FILES, { CLONE_FILES, CLONE_FILES }, enter_always, leave_unshare },
    { "pidfd_getfd", ANY, enter_always, leave_getfd },
    { "io_uring_setup", ANY, enter_io_uring, NULL },
};
const size_t call_count = sizeof calls / sizeof *calls;

const struct call call_exec = { "execve", ANY, NULL, NULL };

bool call_is_close(const struct call *call)
{
    return call && call->leave == leave_close;
}

int call_number(const struct call *call)
{
    return seccomp_syscall_resolve_name(call->name);
}

const struct call *call_find(uint64_t number)
{
    static const struct call *by_number[1024];
    static bool filled;
    size_t i;

    for (i = 0; !filled && i < call_count; i++) {
        int at = call_number(&calls[i]);

        if (at >= 0 && at < 1024)
            by_number[at] = &calls[i];
    }
    filled = true;
    return number < 1024 ? by_number[number] : NULL;
}

bool call_matters(const struct call *call, const uint64_t args[6])
{
    uint32_t value;
    size_t i;

    if (call->argument < 0)
        return true;
    value = (uint32_t) args[call->argument] & call->mask;
    for (i = 0; i < CALL_VALUES; i++)
        if (value == call->values[i])
            return true;
    return false;
}
