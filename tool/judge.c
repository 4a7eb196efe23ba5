/* SPDX-License-Identifier: MIT */

#include "judge.h"

#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

/* ---- several holders ---- */

static const struct reference *reference(const struct look *look, const struct socket *s, size_t i)
{
    return &look->held.at[s->first_reference + i];
}

static const struct process *holder(const struct look *look, const struct socket *s, size_t i)
{
    return &look->scan.processes.at[reference(look, s, i)->process];
}

static bool is_connection(const struct socket *s)
{
    return s->protocol == PROTOCOL_TCP && s->state != STATE_LISTEN && s->remote_port;
}

/* Standard input, output and error are there to be inherited: all holders but one have it as such. */
static bool is_standard_stream(const struct look *look, const struct socket *s)
{
    const struct process *other = NULL;

    for (size_t i = 0; i < s->references; i++) {
        const struct process *p = holder(look, s, i);

        if (reference(look, s, i)->fd <= 2)
            continue;
        if (other && other->pid != p->pid)
            return false;
        other = p;
    }
    return true;
}

/* Worker processes share what they listen on, and their channels. The first process (pid 1) opens
 * sockets for others. */
static bool is_one_program(const struct look *look, const struct socket *s)
{
    const struct process *first = NULL;

    for (size_t i = 0; i < s->references; i++) {
        const struct process *p = holder(look, s, i);

        if (p->pid == 1)
            continue;
        if (first && strcmp(first->command, p->command) != 0)
            return false;
        first = p;
    }
    return true;
}

static bool is_held(const struct look *look, const struct socket *s)
{
    bool several = false;

    for (size_t i = 1; i < s->references && !several; i++)
        several = holder(look, s, i)->pid != holder(look, s, 0)->pid;
    return several && !is_standard_stream(look, s)
        && (is_connection(s) || !is_one_program(look, s));
}

/* ---- the kernel's state ---- */

static unsigned bit(enum finding finding)
{
    return 1u << finding;
}

static unsigned judge_tcp(const struct socket *s)
{
    unsigned findings = s->timer == TIMER_PROBE && s->send_queue > 0 ? bit(FOUND_STALLED) : 0;

    switch (s->state) {
    case STATE_FIN_WAIT1:
    case STATE_FIN_WAIT2:
    case STATE_LAST_ACK:
    case STATE_CLOSING:
        return findings | bit(s->inode ? FOUND_HALF_CLOSED : FOUND_ORPHAN);
    case STATE_CLOSE_WAIT: /* without an inode it waits to be accepted */
        return findings | (s->inode ? bit(FOUND_LEAKED) : 0);
    default:
        return findings;
    }
}

/* The kernel shuts what is left of a pair both ways when the other end is closed. */
static unsigned judge_unix(const struct socket *s)
{
    if (s->type == SOCK_DGRAM || s->state != STATE_ESTABLISHED || !s->inode || !s->shut)
        return 0;
    return bit(s->shut == SHUT_BOTH && s->peer == 0 ? FOUND_LEAKED : FOUND_HALF_CLOSED);
}

static enum finding first_of(unsigned findings)
{
    return findings ? (enum finding) __builtin_ctz(findings) : FOUND_NOTHING;
}

static void judge_one(const struct look *look, struct socket *s)
{
    if (s->protocol == PROTOCOL_TCP && s->listed)
        s->findings |= judge_tcp(s);
    if (s->protocol == PROTOCOL_UNIX)
        s->findings |= judge_unix(s);
    if (s->references > 1 && is_held(look, s))
        s->findings |= bit(FOUND_HELD);
    s->verdict = first_of(s->findings);
}

/* ---- older generations ---- */

static bool listens_for(const struct socket *listener, const struct socket *s)
{
    static const uint8_t any[16];

    return memcmp(listener->local, any, sizeof any) == 0
        || (listener->family == s->family && memcmp(listener->local, s->local, sizeof any) == 0);
}

static bool shares_process(const struct look *look, const struct socket *a, const struct socket *b)
{
    for (size_t i = 0; i < a->references; i++)
        for (size_t k = 0; k < b->references; k++)
            if (holder(look, a, i)->pid == holder(look, b, k)->pid)
                return true;
    return false;
}

/* Does the same program listen on its port, but in other processes? So it is after a reload. */
static bool is_successor(const struct look *look, const struct socket *listener,
                         const struct socket *s)
{
    return listener->references && listener->netns == s->netns && listens_for(listener, s)
        && strcmp(holder(look, s, 0)->command, holder(look, listener, 0)->command) == 0;
}

/* By port, 1 + the index of a socket that listens there; `next` leads on. */
static void find_listeners(struct look *look, uint32_t *by_port, uint32_t *next)
{
    for (size_t i = 0; i < look->dump.sockets.count; i++) {
        const struct socket *s = &look->dump.sockets.at[i];

        if (s->protocol != PROTOCOL_TCP || s->state != STATE_LISTEN)
            continue;
        next[i] = by_port[s->local_port];
        by_port[s->local_port] = (uint32_t) i + 1;
    }
}

static void find_successors(struct look *look)
{
    uint32_t *by_port = calloc(65536, sizeof *by_port);
    uint32_t *next = calloc(look->dump.sockets.count + 1, sizeof *next);

    if (by_port && next) /* else the explanations lack a word */
        find_listeners(look, by_port, next);
    for (size_t i = 0; i < look->dump.sockets.count && by_port && next; i++) {
        struct socket *s = &look->dump.sockets.at[i];
        uint32_t at = is_connection(s) && s->references ? by_port[s->local_port] : 0;
        bool own = false;

        for (; at && !own; at = next[at - 1]) {
            const struct socket *listener = &look->dump.sockets.at[at - 1];

            own = shares_process(look, s, listener);
            if (is_successor(look, listener, s))
                s->listener = at;
        }
        if (own)
            s->listener = 0;
    }
    free(by_port);
    free(next);
}

void judge(struct look *look)
{
    for (size_t i = 0; i < look->dump.sockets.count; i++)
        judge_one(look, &look->dump.sockets.at[i]);
    find_successors(look);
}

/* The FIN carried an acknowledgement and came after the last data. */
bool end_age(const struct socket *s, uint32_t *least, uint32_t *most)
{
    if (!s->tcp.known || s->state != STATE_CLOSE_WAIT)
        return false;
    *least = s->tcp.last_acked;
    *most = s->tcp.last_received;
    if (*most < *least)
        *most = *least;
    return true;
}
