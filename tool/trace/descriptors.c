/* SPDX-License-Identifier: MIT */

#include "trace/descriptors.h"

#include "trace/after.h"
#include "trace/call.h"
#include "trace/inspect.h"
#include "trace/tell.h"

#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static void descriptors_tell(struct trace *trace, struct task *task, enum event_kind kind,
                             const struct thing *socket, int fd, int other)
{
    struct event event = { .kind = kind, .socket = socket, .other = other };

    trace_tell(trace, task, event, fd, NULL);
}

/* socket(2) and socketpair(2) begin with the same arguments. */
static void identify_new(struct thing *socket, const uint64_t args[6])
{
    bool inet = args[0] == AF_INET || args[0] == AF_INET6;

    socket->family = (int) args[0];
    socket->type = (int) args[1] & ~(SOCK_CLOEXEC | SOCK_NONBLOCK);
    socket->protocol = (int) args[2];
    if (inet && socket->protocol == 0 && socket->type == SOCK_STREAM)
        socket->protocol = IPPROTO_TCP;
    if (inet && socket->protocol == 0 && socket->type == SOCK_DGRAM)
        socket->protocol = IPPROTO_UDP;
}

/* ---- numbers that come ---- */

/* No traced process had it, but it was in a message, or in a process that is not traced. */
static void revive(struct thing *socket)
{
    int stage;

    for (stage = FIN_STAGE_RELEASED; stage < FIN_STAGES; stage++)
        socket->stage_ns[stage] = NEVER;
    socket->proof = PROOF_NONE;
    socket->left_open = socket->killed = false;
}

static enum event_kind event_of(enum origin origin)
{
    static const enum event_kind kinds[] = { EVENT_MADE, EVENT_ACCEPTED, EVENT_INHERITED,
                                             EVENT_FOUND, EVENT_RECEIVED };

    return kinds[origin];
}

static void descriptors_put(struct trace *trace, struct task *task, int fd, struct thing *thing)
{
    struct thing *before = files_get(task->files, fd);

    if (before && before->id && before != thing) { /* closed in a way that was not seen */
        files_drop(task->files, fd);
        descriptor_closed(trace, task, before, fd, 0);
    }
    if (thing->id && thing->refs == 0 && thing->stage_ns[FIN_STAGE_RELEASED] != NEVER)
        revive(thing);
    if (files_put(task->files, fd, thing) < 0)
        trace_note(trace, "memory is out: the trace is not complete");
}

/* A child that was forked meanwhile may have shown it before the call that made it returned. */
static struct thing *seen_too_early(const struct trace *trace, uint64_t inode, enum origin origin)
{
    struct thing *socket = book_find(&trace->book, inode);
    bool born = origin == ORIGIN_MADE || origin == ORIGIN_ACCEPTED;

    return born && socket && socket->proof != PROOF_WITNESS && socket->origin == ORIGIN_INHERITED
        ? socket
        : NULL;
}

static struct thing *put_new(struct trace *trace, struct task *task, int fd, int borrowed,
                             uint64_t inode, enum origin origin)
{
    struct thing *early = seen_too_early(trace, inode, origin);
    struct thing *socket = early ? early : book_new_socket(&trace->book, inode);
    struct event event = { .kind = event_of(origin), .socket = socket };

    if (!socket) {
        trace_note(trace, "memory is out: the trace is not complete");
        return NULL;
    }
    socket->origin = origin;
    descriptors_put(trace, task, fd, socket);
    if (origin == ORIGIN_MADE)
        identify_new(socket, task->args);
    else if (borrowed >= 0)
        inspect_connected(socket, borrowed, trace->kernel);
    trace_tell(trace, task, event, fd, &socket->made);
    return socket;
}

/* A thread may have a table of its own; what is borrowed is of the leader's. */
static bool has_leaders_table(const struct trace *trace, const struct task *task)
{
    const struct task *leader = tasks_find(&trace->tasks, task->process->pid);

    return leader && leader->files == task->files;
}

/* 0 if it is no socket. A link of /proc tells it too, in thrice the time. */
static uint64_t inode_of(const struct trace *trace, const struct task *task, int fd, int borrowed)
{
    struct fin__link link;

    if (borrowed >= 0 && has_leaders_table(trace, task))
        return inspect_socket_inode(borrowed);
    return inspect_at(task->tid, fd, &link) == 0 && link.kind == FIN__LINK_SOCKET ? link.inode : 0;
}

struct thing *descriptor_made(struct trace *trace, struct task *task, int fd, enum origin origin)
{
    int borrowed = inspect_borrow(task->process->pidfd, fd);
    uint64_t inode = inode_of(trace, task, fd, borrowed);
    struct thing *made = inode ? put_new(trace, task, fd, borrowed, inode, origin) : NULL;

    if (borrowed >= 0)
        close(borrowed);
    return made;
}

/* The socket with this inode, if it is one that lives still. */
static struct thing *known(const struct trace *trace, uint64_t inode)
{
    struct thing *socket = book_find(&trace->book, inode);

    return socket && socket->proof != PROOF_WITNESS ? socket : NULL;
}

/* What /proc shows and the table lacks. */
static struct thing *discover(struct trace *trace, struct task *task, int fd, uint64_t inode,
                              enum origin origin)
{
    struct thing *socket = known(trace, inode);
    int borrowed;

    if (!socket) {
        borrowed = inspect_borrow(task->process->pidfd, fd);
        socket = put_new(trace, task, fd, borrowed, inode, origin);
        if (borrowed >= 0)
            close(borrowed);
        return socket;
    }
    descriptors_put(trace, task, fd, socket);
    descriptors_tell(trace, task, event_of(origin), socket, fd, -1);
    return socket;
}

static struct thing *discover_set(struct trace *trace, struct task *task, int fd)
{
    struct thing *set = book_new_set(&trace->book);

    if (set)
        descriptors_put(trace, task, fd, set);
    return set;
}

struct thing *descriptor_get(struct trace *trace, struct task *task, int fd)
{
    struct thing *thing = files_get(task->files, fd);
    struct fin__link link;

    if (thing || fd < 0 || inspect_at(task->tid, fd, &link) < 0)
        return thing;
    switch (link.kind) {
    case FIN__LINK_SOCKET:
        return discover(trace, task, fd, link.inode, ORIGIN_RECEIVED);
    case FIN__LINK_EPOLL:
        return discover_set(trace, task, fd);
    default:
        return NULL;
    }
}

void descriptor_copied(struct trace *trace, struct task *task, struct thing *thing, int from,
                       int to)
{
    descriptors_put(trace, task, to, thing);
    if (thing->id)
        descriptors_tell(trace, task, EVENT_DUPLICATED, thing, to, from);
}

/* ---- numbers that go ---- */

/* Who is killed meanwhile has no descriptors any more. */
static void note_refusal(struct trace *trace, int error)
{
    if (error != -ESRCH && error != -EBADF)
        trace_note(trace,
                   "sockets could not be looked at (%s): that one is unreferenced is counted, "
                   "not proved",
                   strerror(-error));
}

static void look_last(struct trace *trace, struct task *task, struct thing *socket, int fd)
{
    int borrowed = inspect_borrow(task->process->pidfd, fd);

    if (borrowed < 0) {
        note_refusal(trace, borrowed);
        return;
    }
    inspect_before_close(socket, borrowed, trace->kernel);
    if (socket->looked)
        after_witness(trace, socket, borrowed);
    close(borrowed);
}

void descriptor_look(struct trace *trace, struct task *task, int fd)
{
    struct thing *thing = descriptor_get(trace, task, fd);

    if (thing && thing->id && thing->refs - thing->leaving == 1)
        look_last(trace, task, thing, fd);
}

struct thing *descriptor_close(struct trace *trace, struct task *task, int fd)
{
    struct thing *thing;

    descriptor_look(trace, task, fd);
    thing = files_get(task->files, fd);
    if (!thing)
        return NULL;
    if (thing->id)
        trace_stamp(trace, &thing->stage_ns[FIN_STAGE_REQUESTED]);
    files_drop(task->files, fd);
    return thing->id ? thing : NULL;
}

/* epoll(7): an entry goes with the description, not with the number that it was made under. */
static void mark_stale(struct trace *trace, struct thing *socket, int fd)
{
    struct registration *r;

    for (r = socket->registrations; r; r = r->next) {
        if (r->fd != fd || r->set->refs == 0 || r->stale_ns != NEVER)
            continue;
        r->stale_ns = trace_now(trace);
        if (socket->stale_ns == NEVER)
            socket->stale_ns = r->stale_ns;
    }
}

void descriptor_closed(struct trace *trace, struct task *task, struct thing *socket, int fd,
                       int error)
{
    struct event event = {
        .kind = EVENT_CLOSED, .socket = socket, .call = task->call ? NULL : "unseen", .error = error
    };

    trace_stamp(trace, &socket->stage_ns[FIN_STAGE_REQUESTED]);
    trace_tell(trace, task, event, fd, &socket->closed);
    if (!socket->first_closed.call) {
        socket->first_closed = socket->closed;
        socket->first_closed.stack = socket->closed.stack ? strdup(socket->closed.stack) : NULL;
    }
    mark_stale(trace, socket, fd);
    if (socket->refs == 0 && socket->closing == 0)
        after_release(trace, socket);
}

bool descriptor_kept(struct trace *trace, struct task *task, struct thing *socket, int fd,
                     int error)
{
    struct event event = { .kind = EVENT_CLOSED, .socket = socket, .error = error };
    struct fin__link link;

    if (inspect_at(task->tid, fd, &link) < 0 || link.inode != socket->inode
        || files_put(task->files, fd, socket) < 0)
        return false;
    trace_tell(trace, task, event, fd, NULL);
    return true;
}

/* ---- whole tables ---- */

struct scan {
    struct trace *trace;
    struct task *task;
    enum origin origin;
    struct files *seen;
};

static void scan_one(int fd, const struct fin__link *link, void *arg)
{
    struct scan *scan = arg;
    struct thing *thing = files_get(scan->task->files, fd);

    if (scan->origin == ORIGIN_INHERITED && thing && thing->inode != link->inode) {
        files_drop(scan->task->files, fd); /* the parent's, of another moment */
        thing = NULL;
    }
    if (link->kind == FIN__LINK_EPOLL && (!thing || thing->id))
        thing = discover_set(scan->trace, scan->task, fd);
    else if (link->kind == FIN__LINK_SOCKET && (!thing || thing->inode != link->inode))
        thing = discover(scan->trace, scan->task, fd, link->inode, scan->origin);
    if (thing && scan->seen && files_put(scan->seen, fd, thing) == 0)
        thing->refs--; /* a list, no table of a process */
}

void descriptors_found(struct trace *trace, struct task *task, enum origin origin)
{
    struct scan scan = { trace, task, origin, NULL };

    (void) inspect_through(task->tid, scan_one, &scan);
}

/* What is first seen in this table was told then. */
void descriptors_inherited(struct trace *trace, struct task *task)
{
    size_t fd;

    for (fd = 0; fd < task->files->size; fd++) {
        struct thing *thing = task->files->slot[fd];

        if (thing && thing->id && thing->made.tid != task->tid)
            descriptors_tell(trace, task, EVENT_INHERITED, thing, (int) fd, -1);
    }
}

static void drop_unseen(struct trace *trace, struct task *task, const struct files *seen,
                        bool closed)
{
    size_t fd;

    for (fd = 0; fd < task->files->size; fd++) {
        struct thing *thing = task->files->slot[fd];

        if (!thing || files_get(seen, (int) fd) == thing)
            continue;
        files_drop(task->files, (int) fd);
        if (closed && thing->id)
            descriptor_closed(trace, task, thing, (int) fd, 0);
    }
}

void descriptors_compare(struct trace *trace, struct task *task, enum origin origin)
{
    struct scan scan = { trace, task, origin, files_new() };

    if (!scan.seen)
        return;
    if (inspect_through(task->tid, scan_one, &scan) == 0)
        drop_unseen(trace, task, scan.seen, origin != ORIGIN_INHERITED);
    files_leave(scan.seen);
}

void descriptors_unshare(struct task *task)
{
    struct files *own = task->files->users > 1 ? files_copy(task->files) : NULL;

    if (!own)
        return;
    files_leave(task->files);
    task->files = own;
}

/* ---- the end of a table ---- */

void descriptors_before_exit(struct trace *trace, struct task *task)
{
    size_t fd;

    descriptors_found(trace, task, ORIGIN_RECEIVED);
    files_begin_leaving(task->files);
    for (fd = 0; fd < task->files->size; fd++) {
        struct thing *socket = task->files->slot[fd];

        if (socket && socket->id && !socket->witnessed && socket->refs == socket->leaving)
            look_last(trace, task, socket, (int) fd);
    }
}

static void exit_one(struct trace *trace, struct task *task, struct thing *socket, int fd,
                     bool killed)
{
    struct event event = { .kind = EVENT_CLOSED,
                           .socket = socket,
                           .call = killed ? "killed" : "exit" };

    trace_tell(trace, task, event, fd, &socket->closed);
    mark_stale(trace, socket, fd);
    if (socket->refs > 0 || socket->closing > 0)
        return;
    socket->left_open = true;
    socket->killed = killed;
    after_release(trace, socket);
}

void descriptors_exit(struct trace *trace, struct task *task, bool killed)
{
    size_t fd;

    for (fd = 0; fd < task->files->size; fd++) {
        struct thing *thing = task->files->slot[fd];

        if (!thing)
            continue;
        files_drop(task->files, (int) fd);
        if (thing->id)
            exit_one(trace, task, thing, (int) fd, killed);
    }
}
