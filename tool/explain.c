/* SPDX-License-Identifier: MIT */

#include "judge.h"

#include "say.h"
#include "units.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

enum {
    WORD = 32,
    HOLDERS_TOLD = 8
};

struct text {
    char *buf;
    size_t size, used;
};

__attribute__((format(printf, 2, 3))) static void put(struct text *t, const char *format, ...)
{
    va_list args;
    int n;

    va_start(args, format);
    n = vsnprintf(t->buf + t->used, t->size - t->used, format, args);
    va_end(args);
    if (n > 0)
        t->used += (size_t) n;
    if (t->used >= t->size)
        t->used = t->size - 1;
}

static const char *ms(uint32_t time, char buf[WORD])
{
    format_time((int64_t) time * 1000000, buf, WORD);
    return buf;
}

static void bytes(struct text *t, uint64_t count, const char *what)
{
    char size[WORD];

    format_size(count, size, sizeof size);
    put(t, "%s byte%s %s", size, count == 1 ? "" : "s", what);
}

static void put_process(struct text *t, const struct process *p)
{
    char name[64];

    escape(p->command, name, sizeof name);
    put(t, "%s[%d]", name, p->pid);
}

/* ---- each finding ---- */

static void explain_stale(const struct look *look, const struct socket *s, struct text *t)
{
    const struct stale_entry *entry = &look->scan.stales.at[s->first_stale];
    const struct epoll_set *set = &look->scan.sets.at[entry->set];

    put_process(t, &look->scan.processes.at[set->process]);
    put(t, " has it in epoll set %d as %d, which is %s now", set->fd, entry->fd,
        entry->reused ? "something else" : "closed");
    if (s->stales > 1)
        put(t, " (and %zu more)", s->stales - 1);
}

static void explain_dead(const struct socket *s, struct text *t)
{
    char time[WORD];

    put(t,
        s->has_error ? "open after a reset or an error that the program has not looked at"
                     : "open, though the connection is over");
    if (s->tcp.known)
        put(t, "; last heard of %s ago", ms(s->tcp.last_acked, time));
}

static void explain_timer(const struct socket *s, struct text *t)
{
    char time[WORD];

    if (s->timer == TIMER_PROBE)
        put(t, "; next probe in %s", ms(s->timer_ms, time));
    else if (s->timer == TIMER_RETRANSMIT)
        put(t, "; sent again in %s", ms(s->timer_ms, time));
    else if (s->timer == TIMER_TIME_WAIT || s->timer == TIMER_KEEPALIVE)
        put(t, "; until %s from now", ms(s->timer_ms, time));
    if (s->retries && (s->timer == TIMER_PROBE || s->timer == TIMER_RETRANSMIT))
        put(t, ", %u tried", s->retries);
}

/* What the kernel counts as sent has the FIN as one byte more, once it was asked for. */
static void explain_sending(const struct socket *s, struct text *t)
{
    uint64_t data = s->send_queue > 1 ? s->send_queue - 1 : 0;

    if (s->timer == TIMER_PROBE)
        put(t, "the peer takes no more: ");
    if (data)
        bytes(t, data, "and our end are not acknowledged");
    else
        put(t, "our end is not acknowledged");
}

static void explain_ending(const struct socket *s, struct text *t)
{
    char time[WORD];

    if (s->state != STATE_FIN_WAIT2) {
        explain_sending(s, t);
        return;
    }
    put(t, "we have ended, the peer has not");
    if (s->tcp.known && s->inode)
        put(t, "; last heard of it %s ago", ms(s->tcp.last_acked, time));
}

static void explain_orphan(const struct socket *s, struct text *t)
{
    put(t, "closed, the kernel goes on: ");
    explain_ending(s, t);
    explain_timer(s, t);
}

static void explain_stalled(const struct socket *s, struct text *t)
{
    char time[WORD];

    put(t, "the peer takes no more: ");
    bytes(t, s->send_queue, "wait");
    if (s->tcp.known)
        put(t, ", nothing sent for %s", ms(s->tcp.last_sent, time));
    explain_timer(s, t);
}

static void explain_leaked_unix(const struct socket *s, struct text *t)
{
    put(t, "the other end is closed, when is not known");
    if (s->receive_queue) {
        put(t, "; ");
        bytes(t, s->receive_queue, "unread");
    }
}

/* The peer's FIN stays in the receive queue, as a byte, until the program has read the end. */
static void explain_leaked(const struct socket *s, struct text *t)
{
    uint32_t least, most;
    char a[WORD], b[WORD];

    if (s->protocol == PROTOCOL_UNIX) {
        explain_leaked_unix(s, t);
        return;
    }
    put(t, "the peer ended ");
    if (!end_age(s, &least, &most))
        put(t, "some time ago");
    else if (most - least < 1000 || most == least)
        put(t, "%s ago", ms(least, a));
    else
        put(t, "between %s and %s ago", ms(least, a), ms(most, b));
    if (s->receive_queue == 0) {
        put(t, ", which the program has read");
    } else {
        put(t, ", ");
        if (s->receive_queue > 1)
            bytes(t, s->receive_queue - 1, "and ");
        put(t, "the end unread");
    }
}

static void explain_half_closed(const struct socket *s, struct text *t)
{
    if (s->protocol == PROTOCOL_TCP)
        explain_ending(s, t);
    else if (s->shut == SHUT_BOTH)
        put(t, "shut both ways, and open at both ends");
    else
        put(t,
            s->shut == SHUT_SENDING ? "we have ended, the other end has not"
                                    : "the other end has ended, we have not");
}

static void explain_held(const struct look *look, const struct socket *s, struct text *t)
{
    const struct process *before = NULL;
    size_t told = 0;

    put(t, "open in");
    for (size_t i = 0; i < s->references; i++) {
        const struct process *p =
            &look->scan.processes.at[look->held.at[s->first_reference + i].process];

        if (before && before->pid == p->pid)
            continue;
        before = p;
        if (told++ >= HOLDERS_TOLD)
            continue;
        put(t, told > 1 ? " and " : " ");
        put_process(t, p);
    }
    if (told > HOLDERS_TOLD)
        put(t, " and %zu more", told - HOLDERS_TOLD);
}

static void explain_finding(const struct look *look, const struct socket *s, enum finding finding,
                            struct text *t)
{
    switch (finding) {
    case FOUND_STALE:
        explain_stale(look, s, t);
        break;
    case FOUND_INVISIBLE:
        put(t,
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
    case FOUND_HALF_CLOSED:
        explain_half_closed(s, t);
        break;
    case FOUND_HELD:
        explain_held(look, s, t);
        break;
    default:
        break;
    }
}

/* ---- what is fine ---- */

static void explain_fine(const struct look *look, const struct socket *s, struct text *t)
{
    char time[WORD];

    if (s->state == STATE_UNKNOWN && s->listed)
        put(t, "in a state that only a newer kernel has");
    else if (s->state == STATE_UNKNOWN)
        put(t, "unlisted socket: never connected, or dead; no right to look closer");
    else if (!s->listed)
        put(t, s->protocol == PROTOCOL_TCP ? "not connected" : "not bound");
    else if (s->state == STATE_TIME_WAIT)
        put(t, "over; the addresses are free in %s", ms(s->timer_ms, time));
    else if (s->state == STATE_LISTEN && s->receive_queue)
        put(t, "%u wait to be accepted", s->receive_queue);
    else if (s->inode == 0 && s->state == STATE_CLOSE_WAIT)
        put(t, "waits to be accepted; the peer has ended already");
    else if (s->inode == 0 && s->state == STATE_ESTABLISHED)
        put(t, "waits to be accepted");
    else if (s->inode && !s->references && (look->scan.unreadable || look->scan.hidden))
        put(t, "open in a process that we may not look at, or in none");
}

static void explain_successor(const struct look *look, const struct socket *s, struct text *t)
{
    const struct socket *listener = &look->dump.sockets.at[s->listener - 1];
    const struct process *p =
        &look->scan.processes.at[look->held.at[listener->first_reference].process];

    put(t, t->used ? "; " : "");
    put(t, "of an older generation: ");
    put_process(t, p);
    put(t, " listens on the port now");
}

void explain(const struct look *look, const struct socket *s, char *buf, size_t size)
{
    struct text t = { buf, size, 0 };

    *buf = '\0';
    if (s->verdict == FOUND_NOTHING)
        explain_fine(look, s, &t);
    for (int f = 0; s->findings && f < FOUND_NOTHING; f++) {
        if (!(s->findings & (1u << f)))
            continue;
        if (t.used)
            put(&t, "; ");
        explain_finding(look, s, (enum finding) f, &t);
    }
    if (s->listener)
        explain_successor(look, s, &t);
}
