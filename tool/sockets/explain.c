/* SPDX-License-Identifier: MIT */

#include "sockets/judge.h"

#include "base/line.h"
#include "common/procfs.h"
#include "common/say.h"
#include "common/units.h"
#include "sockets/sharing.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

enum {
    WORD = 32,
    HOLDERS_TOLD = 8
};

static const char *ms(uint32_t time, char buf[WORD])
{
    format_time((int64_t) time * 1000000, buf, WORD);
    return buf;
}

static void bytes(struct fin__line *t, uint64_t count, const char *what)
{
    char size[WORD];

    format_size(count, size, sizeof size);
    fin__put(t, "%s byte%s %s", size, count == 1 ? "" : "s", what);
}

static void put_process(struct fin__line *t, const struct process *p)
{
    char name[64];

    escape(p->command, name, sizeof name);
    fin__put(t, "%s[%d]", name, p->pid);
}

/* ---- each finding ---- */

static void explain_stale(const struct snapshot *snapshot, const struct socket *s,
                          struct fin__line *t)
{
    size_t count;
    const struct stale_entry *entry = snapshot_stales(snapshot, s, &count);
    const struct epoll_set *set = entry ? &snapshot->scan.sets.at[entry->set] : NULL;

    if (!set)
        return;
    fin__put(t, "epoll set %d of ", set->fd);
    put_process(t, &snapshot->scan.processes.at[set->process]);
    fin__put(t, " still has it under descriptor %d, which is %s now", entry->fd,
             entry->reused ? "something else" : "closed");
    if (count > 1)
        fin__put(t, " (and %zu more entries)", count - 1);
}

static void explain_unread(uint64_t count, struct fin__line *t)
{
    if (count == 0)
        return;
    fin__put(t, "; ");
    bytes(t, count, count == 1 ? "was not read" : "were not read");
}

static void explain_dead(const struct socket *s, struct fin__line *t)
{
    char time[WORD];

    fin__put(t,
             s->has_error ? "open after a reset or an error that the program has not read"
                          : "open, though the connection is over");
    if (s->has_tcp)
        fin__put(t, "; last heard of the peer %s ago", ms(s->tcp.last_acked, time));
    explain_unread(s->receive_queue, t);
}

static void explain_timer(const struct socket *s, struct fin__line *t)
{
    char time[WORD];

    if (s->timer == TIMER_PROBE)
        fin__put(t, "; next probe in %s", ms(s->tcp.timer_ms, time));
    else if (s->timer == TIMER_RETRANSMIT)
        fin__put(t, "; sent again in %s", ms(s->tcp.timer_ms, time));
    else if (s->timer == TIMER_TIME_WAIT || s->timer == TIMER_KEEPALIVE)
        fin__put(t, "; ends in %s", ms(s->tcp.timer_ms, time));
    if (s->retries && (s->timer == TIMER_PROBE || s->timer == TIMER_RETRANSMIT))
        fin__put(t, ", %u tried", s->retries);
}

/* What the kernel counts as sent has the FIN as one byte more, once it was asked for. */
static void explain_sending(const struct socket *s, struct fin__line *t)
{
    uint64_t data = s->send_queue > 1 ? s->send_queue - 1 : 0;

    if (s->timer == TIMER_PROBE)
        fin__put(t, "the peer's window is closed: ");
    if (data)
        bytes(t, data, "and our FIN are not acknowledged");
    else
        fin__put(t, "our FIN is not acknowledged");
}

static void explain_ending(const struct socket *s, struct fin__line *t)
{
    char time[WORD];

    if (s->state != STATE_FIN_WAIT2) {
        explain_sending(s, t);
        return;
    }
    fin__put(t, "the peer acknowledged our FIN and has not closed");
    if (s->has_tcp && s->inode)
        fin__put(t, "; last heard of it %s ago", ms(s->tcp.last_acked, time));
}

static void explain_orphan(const struct socket *s, struct fin__line *t)
{
    fin__put(t, "the program closed it; the kernel goes on: ");
    explain_ending(s, t);
    explain_timer(s, t);
}

static void explain_stalled(const struct socket *s, struct fin__line *t)
{
    char time[WORD];

    fin__put(t, "the peer's window is closed: ");
    bytes(t, s->send_queue, s->send_queue == 1 ? "waits" : "wait");
    if (s->has_tcp)
        fin__put(t, ", nothing was sent for %s", ms(s->tcp.last_sent, time));
    explain_timer(s, t);
}

/* The peer's FIN is in the receive queue, as a byte, until the program has read EOF. */
static void explain_leaked(const struct socket *s, struct fin__line *t)
{
    uint32_t least, most;
    char a[WORD], b[WORD];

    if (s->protocol == PROTOCOL_UNIX) {
        fin__put(t, "the other end was closed, when is not known");
        explain_unread(s->receive_queue, t);
        return;
    }
    if (!end_age(s, &least, &most))
        fin__put(t, "the peer closed some time ago");
    else if (most - least < 1000 || most == least)
        fin__put(t, "the peer closed %s ago", ms(least, a));
    else
        fin__put(t, "the peer closed between %s and %s ago", ms(least, a), ms(most, b));
    if (s->receive_queue == 0)
        fin__put(t, "; the program has read EOF, and has to close its end");
    else if (s->receive_queue == 1)
        fin__put(t, "; the program has not read EOF");
    else
        explain_unread(s->receive_queue - 1, t);
}

/* Connections in the queue of a listening socket are listed, with no inode. The one that has been
 * silent for longest has waited for that long at least. */
static bool waits_longest(const struct snapshot *snapshot, const struct socket *listener,
                          uint32_t *longest)
{
    bool found = false;

    *longest = 0;

    for (size_t i = 0; i < snapshot->dump.sockets.count; i++) {
        const struct socket *s = &snapshot->dump.sockets.at[i];

        if (s->inode || s->protocol != PROTOCOL_TCP || s->local_port != listener->local_port
            || s->netns != listener->netns || !s->has_tcp
            || (s->state != STATE_ESTABLISHED && s->state != STATE_CLOSE_WAIT))
            continue;
        if (s->tcp.last_acked > *longest)
            *longest = s->tcp.last_acked;
        found = true;
    }
    return found;
}

/* What an execve(2) has kept is not close-on-exec. */
static bool may_be_inherited(const struct snapshot *snapshot, const struct socket *s, size_t i)
{
    char text[256];
    const char *flags;

    if (read_proc(text, sizeof text, "/proc/%d/fdinfo/%d", socket_holder(snapshot, s, i)->pid,
                  socket_reference(snapshot, s, i)->fd)
        < 0)
        return false;
    flags = strstr(text, "flags:");
    return flags && !(strtoul(flags + strlen("flags:"), NULL, 8) & O_CLOEXEC);
}

/* Has nobody it who has not lost its parent, and may have got it from there? */
static bool may_have_lost_its_maker(const struct snapshot *snapshot, const struct socket *s)
{
    for (size_t i = 0; i < s->references; i++) {
        struct process *p = socket_holder(snapshot, s, i);

        process_look(p);
        if (p->parent != 1 || !may_be_inherited(snapshot, s, i))
            return false;
    }
    return s->references > 0;
}

static void explain_unserved(const struct snapshot *snapshot, const struct socket *s,
                             struct fin__line *t)
{
    char time[WORD];
    uint32_t longest;

    fin__put(t, "%u client%s wait%s to be accepted", s->receive_queue,
             s->receive_queue == 1 ? "" : "s", s->receive_queue == 1 ? "s" : "");
    if (s->protocol == PROTOCOL_TCP && waits_longest(snapshot, s, &longest))
        fin__put(t, ", the first for %s", ms(longest, time));
    fin__put(t, ", and no process accepts: ");
    put_process(t, socket_holder(snapshot, s, 0));
    fin__put(t, " has it in no epoll set and no call");
    if (may_have_lost_its_maker(snapshot, s))
        fin__put(t, "; the program that started it is gone, and may have left it the socket");
}

static void explain_half_closed(const struct socket *s, struct fin__line *t)
{
    if (s->protocol == PROTOCOL_TCP)
        explain_ending(s, t);
    else if (s->shut == SHUT_BOTH)
        fin__put(t, "shut both ways, and open at both ends");
    else
        fin__put(t,
                 s->shut == SHUT_SENDING ? "we have shut down sending, the other end has not"
                                         : "the other end has shut down sending, we have not");
}

static void put_holders(const struct snapshot *snapshot, const struct socket *s,
                        struct fin__line *t)
{
    const struct process *before = NULL;
    size_t told = 0;

    for (size_t i = 0; i < s->references; i++) {
        const struct process *p = socket_holder(snapshot, s, i);

        if (before && before->pid == p->pid)
            continue;
        before = p;
        if (told++ >= HOLDERS_TOLD)
            continue;
        fin__put(t, told > 1 ? " and " : " ");
        put_process(t, p);
    }
    if (told > HOLDERS_TOLD)
        fin__put(t, " and %zu more", told - HOLDERS_TOLD);
}

static void explain_held(const struct snapshot *snapshot, const struct socket *s,
                         struct fin__line *t)
{
    if (!s->closed_by) {
        fin__put(t, "open in");
        put_holders(snapshot, s, t);
        fin__put(t, ", which run different programs: it ends when all have closed it");
        return;
    }
    put_process(t, &snapshot->scan.processes.at[s->closed_by - 1]);
    fin__put(t, " closed it, and ");
    put_process(t, socket_holder(snapshot, s, 0));
    fin__put(t, ", which it started, still has it as descriptor %d and waits for nothing",
             socket_reference(snapshot, s, 0)->fd);
}

static void explain_finding(const struct snapshot *snapshot, const struct socket *s,
                            enum finding finding, struct fin__line *t)
{
    switch (finding) {
    case FOUND_STALE:
        explain_stale(snapshot, s, t);
        break;
    case FOUND_INVISIBLE:
        fin__put(
            t,
            "no process shows it: in flight over a Unix socket, in io_uring or a blocked call, the "
            "kernel's own, or in another pid namespace");
        break;
    case FOUND_DEAD:
        explain_dead(s, t);
        break;
    case FOUND_ORPHAN:
        explain_orphan(s, t);
        break;
    case FOUND_STALLED:
        explain_stalled(s, t);
        break;
    case FOUND_LEAKED:
        explain_leaked(s, t);
        break;
    case FOUND_UNSERVED:
        explain_unserved(snapshot, s, t);
        break;
    case FOUND_PARKED:
        fin__put(
            t,
            "the other end was closed; it is empty, and nobody waits for it: kept on purpose, as "
            "the JVM does");
        break;
    case FOUND_HALF_CLOSED:
        explain_half_closed(s, t);
        break;
    case FOUND_HELD:
        explain_held(snapshot, s, t);
        break;
    default:
        break;
    }
}

/* ---- what is fine ---- */

static void explain_fine(const struct snapshot *snapshot, const struct socket *s,
                         struct fin__line *t)
{
    char time[WORD];

    if (s->state == STATE_UNKNOWN && s->listed)
        fin__put(t, "in a state that only a newer kernel has");
    else if (s->state == STATE_UNKNOWN)
        fin__put(t, "never connected, or dead: no permission to look closer");
    else if (!s->listed)
        fin__put(t, s->protocol == PROTOCOL_TCP ? "not connected" : "not bound");
    else if (s->state == STATE_TIME_WAIT)
        fin__put(t, "over; the addresses are free in %s", ms(s->tcp.timer_ms, time));
    else if (s->state == STATE_LISTEN && s->receive_queue)
        fin__put(t, "%u wait%s to be accepted", s->receive_queue, s->receive_queue == 1 ? "s" : "");
    else if (s->inode == 0 && s->state == STATE_CLOSE_WAIT)
        fin__put(t, "waits to be accepted; the peer has closed already");
    else if (s->inode == 0 && s->state == STATE_ESTABLISHED)
        fin__put(t, "waits to be accepted");
    else if (s->inode && !s->references && (snapshot->scan.unreadable || snapshot->scan.hidden))
        fin__put(t, "open in a process that we may not look at, or in none");
    else if (is_shared(snapshot, s)) {
        fin__put(t, "open in");
        put_holders(snapshot, s, t);
        fin__put(
            t, ", of one program: on purpose, or forgotten after a fork; that can't be told apart");
    }
}

static void explain_successor(const struct snapshot *snapshot, const struct socket *s,
                              struct fin__line *t)
{
    const struct socket *listener = &snapshot->dump.sockets.at[s->listener - 1];
    const struct process *p =
        &snapshot->scan.processes.at[snapshot->held.at[listener->first_reference].process];

    fin__put(t, t->length ? "; " : "");
    fin__put(t, "of an older generation: ");
    put_process(t, p);
    fin__put(t, " listens on the port now");
}

void explain(const struct snapshot *snapshot, const struct socket *s, char *buf, size_t size)
{
    struct fin__line t = { buf, size, 0 };

    *buf = '\0';
    if (s->verdict == FOUND_NOTHING)
        explain_fine(snapshot, s, &t);
    for (int f = 0; s->findings && f < FINDINGS; f++) {
        if (!(s->findings & (1u << f)))
            continue;
        if (t.length)
            fin__put(&t, "; ");
        explain_finding(snapshot, s, (enum finding) f, &t);
    }
    if (s->listener)
        explain_successor(snapshot, s, &t);
}
