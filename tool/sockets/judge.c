/* SPDX-License-Identifier: MIT */

#include "sockets/judge.h"

#include "sockets/sharing.h"
#include "sockets/waiting.h"

#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

/* Tables that are made once, when they are first needed. */
struct bench {
    struct snapshot *snapshot;
    struct waiting **waiting; /* by process, NULL: not read yet; NULL: no memory */
    size_t room;              /* for what they wait for */
    uint32_t *by_port;        /* 1 + the index of a socket that listens there; `next` leads on */
    uint32_t *next;
    uint32_t *by_ends; /* connections, sorted by their ends; NULL: not made yet */
    size_t connections;
};

static unsigned bit(enum finding finding)
{
    return 1u << finding;
}

/* ---- who waits for it ---- */

static const struct waiting *waiting_of(struct bench *b, uint32_t process)
{
    struct waiting **at = b->waiting ? &b->waiting[process] : NULL;

    if (!at)
        return NULL;
    if (!*at && (*at = calloc(1, sizeof **at))) {
        waiting_read(*at, b->snapshot->scan.processes.at[process].pid, b->room);
        b->room -= (*at)->fds.count;
    }
    return *at;
}

static void forget_waiting(struct bench *b, uint32_t process)
{
    if (!b->waiting || !b->waiting[process])
        return;
    b->room += b->waiting[process]->fds.count;
    waiting_free(b->waiting[process]);
    free(b->waiting[process]);
    b->waiting[process] = NULL;
}

/* `unless_known`: the answer if a process may not be looked at. */
static bool is_awaited(struct bench *b, const struct socket *s, bool unless_known)
{
    for (size_t i = 0; i < s->references; i++) {
        const struct reference *r = socket_reference(b->snapshot, s, i);
        const struct waiting *waiting;

        if (r->watched)
            return true;
        waiting = waiting_of(b, r->process);
        if (waiting ? waiting_has(waiting, r->fd) || (waiting->unknown && unless_known)
                    : unless_known)
            return true;
    }
    return false;
}

/* ---- the kernel's state ---- */

/* A server may be between two calls: it counts if it is not back in a moment. */
static bool is_unserved(struct bench *b, const struct socket *s)
{
    enum {
        AGAIN_MS = 20
    };

    if (s->state != STATE_LISTEN || !s->receive_queue || !s->references || is_awaited(b, s, true))
        return false;
    (void) poll(NULL, 0, AGAIN_MS);
    for (size_t i = 0; i < s->references; i++)
        forget_waiting(b, socket_reference(b->snapshot, s, i)->process);
    return !is_awaited(b, s, true);
}

static unsigned judge_tcp(struct bench *b, const struct socket *s)
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
    case STATE_LISTEN:
        return is_unserved(b, s) ? bit(FOUND_UNSERVED) : 0;
    default:
        return findings;
    }
}

/* When one end of a pair is closed the kernel shuts the other both ways. If that is empty, and
 * nobody reads or watches it, it was kept on purpose: the JVM has one, with which it closes
 * others. */
static unsigned judge_unix(struct bench *b, const struct socket *s)
{
    if (s->state == STATE_LISTEN)
        return is_unserved(b, s) ? bit(FOUND_UNSERVED) : 0;
    if (s->type == SOCK_DGRAM || s->state != STATE_ESTABLISHED || !s->inode || !s->shut)
        return 0;
    if (s->shut != SHUT_BOTH || s->peer != 0)
        return bit(FOUND_HALF_CLOSED);
    return bit(s->receive_queue || is_awaited(b, s, false) ? FOUND_LEAKED : FOUND_PARKED);
}

static enum finding first_of(unsigned findings)
{
    return findings ? (enum finding) __builtin_ctz(findings) : FOUND_NOTHING;
}

static void judge_one(struct bench *b, struct socket *s)
{
    if (s->protocol == PROTOCOL_TCP && s->listed)
        s->findings |= judge_tcp(b, s);
    if (s->protocol == PROTOCOL_UNIX)
        s->findings |= judge_unix(b, s);
    if (s->references > 1 && is_held(b->snapshot, s))
        s->findings |= bit(FOUND_HELD);
}

/* ---- whose it is: what listens on its port ---- */

static bool listens_for(const struct socket *listener, const struct socket *s)
{
    static const uint8_t any[16];

    return memcmp(listener->local, any, sizeof any) == 0
        || (listener->family == s->family && memcmp(listener->local, s->local, sizeof any) == 0);
}

/* Does the same program listen on its port in other processes? This is so after a reload. */
static bool is_successor(const struct snapshot *snapshot, const struct socket *listener,
                         const struct socket *s)
{
    return listener->references && listener->netns == s->netns && listens_for(listener, s)
        && strcmp(socket_holder(snapshot, s, 0)->command,
                  socket_holder(snapshot, listener, 0)->command)
        == 0;
}

static void find_listeners(struct bench *b)
{
    const struct snapshot *snapshot = b->snapshot;

    for (size_t i = 0; i < snapshot->dump.sockets.count; i++) {
        const struct socket *s = &snapshot->dump.sockets.at[i];

        if (s->protocol != PROTOCOL_TCP || s->state != STATE_LISTEN)
            continue;
        b->next[i] = b->by_port[s->local_port];
        b->by_port[s->local_port] = (uint32_t) i + 1;
    }
}

/* One process has it, not as a standard stream, and nobody waits for it. */
static bool may_be_forgotten(struct bench *b, const struct socket *s)
{
    for (size_t i = 0; i < s->references; i++)
        if (socket_holder(b->snapshot, s, i)->pid != socket_holder(b->snapshot, s, 0)->pid
            || socket_reference(b->snapshot, s, i)->fd <= 2)
            return false;
    return !is_awaited(b, s, true);
}

static void note_closer(struct socket *s, uint32_t closer)
{
    s->closed_by = closer;
    if (closer)
        s->findings |= bit(FOUND_HELD);
}

/* If too many sockets listen on a port (SO_REUSEPORT) to try each for every connection, there is
 * no finding. */
static void look_for_listener(struct bench *b, struct socket *s)
{
    enum {
        LISTENERS_MAX = 1024
    };
    const struct snapshot *snapshot = b->snapshot;
    int seen = 0;

    for (uint32_t at = b->by_port[s->local_port]; at; at = b->next[at - 1]) {
        const struct socket *listener = &snapshot->dump.sockets.at[at - 1];

        if (++seen > LISTENERS_MAX || shares_process(snapshot, s, listener)) {
            s->listener = s->closed_by = 0;
            return;
        }
        if (is_successor(snapshot, listener, s))
            s->listener = at;
        else if (listener->references && listener->netns == s->netns && listens_for(listener, s)
                 && may_be_forgotten(b, s))
            s->closed_by = find_closer(snapshot, s, listener);
    }
    note_closer(s, s->closed_by);
}

/* ---- whose it is: the other end ---- */

static int compare_ends(const struct socket *a, const struct socket *b, bool turned)
{
    int order = memcmp(turned ? a->remote : a->local, b->local, sizeof b->local);

    if (order == 0)
        order = memcmp(turned ? a->local : a->remote, b->remote, sizeof b->remote);
    if (order == 0)
        order = (turned ? a->remote_port : a->local_port) - b->local_port;
    if (order == 0)
        order = (turned ? a->local_port : a->remote_port) - b->remote_port;
    return order ? order : (a->netns > b->netns) - (a->netns < b->netns);
}

static int by_ends(const void *a, const void *b, void *arg)
{
    const struct socket *at = arg;

    return compare_ends(&at[*(const uint32_t *) a], &at[*(const uint32_t *) b], false);
}

static void sort_ends(struct bench *b)
{
    const struct snapshot *snapshot = b->snapshot;

    b->by_ends = calloc(snapshot->dump.sockets.count + 1, sizeof *b->by_ends);
    for (size_t i = 0; b->by_ends && i < snapshot->dump.sockets.count; i++)
        if (is_connection(&snapshot->dump.sockets.at[i]))
            b->by_ends[b->connections++] = (uint32_t) i;
    if (b->by_ends && b->connections)
        qsort_r(b->by_ends, b->connections, sizeof *b->by_ends, by_ends, snapshot->dump.sockets.at);
}

static const struct socket *other_end(struct bench *b, const struct socket *s)
{
    size_t low = 0, high;

    if (!b->by_ends)
        sort_ends(b);
    for (high = b->connections; low < high;) {
        size_t middle = low + (high - low) / 2;
        const struct socket *at = &b->snapshot->dump.sockets.at[b->by_ends[middle]];
        int order = compare_ends(s, at, true);

        if (order == 0)
            return at;
        if (order < 0)
            high = middle;
        else
            low = middle + 1;
    }
    return NULL;
}

/* A program that has both ends, one of them together with its parent, has inherited both; so the
 * parent has closed the one that it has not. */
static void look_for_other_end(struct bench *b, struct socket *s)
{
    const struct socket *other;

    process_look(socket_holder(b->snapshot, s, 0));
    if (!may_be_forgotten(b, s))
        return;
    other = other_end(b, s);
    if (other && other->references > 1 && shares_process(b->snapshot, s, other))
        note_closer(s, find_closer(b->snapshot, s, other));
}

/* ---- all ---- */

static void open_bench(struct bench *b, struct snapshot *snapshot)
{
    *b = (struct bench) { .snapshot = snapshot };
    b->waiting = calloc(snapshot->scan.processes.count + 1, sizeof *b->waiting);
    b->room = WAITING_ROOM;
    b->by_port = calloc(65536, sizeof *b->by_port);
    b->next = calloc(snapshot->dump.sockets.count + 1, sizeof *b->next);
}

static void close_bench(struct bench *b)
{
    for (uint32_t i = 0; b->waiting && i < b->snapshot->scan.processes.count; i++)
        forget_waiting(b, i);
    free(b->waiting);
    free(b->by_port);
    free(b->next);
    free(b->by_ends);
}

void judge(struct snapshot *snapshot)
{
    struct bench b;

    open_bench(&b, snapshot);
    for (size_t i = 0; i < snapshot->dump.sockets.count; i++)
        judge_one(&b, &snapshot->dump.sockets.at[i]);
    if (b.by_port && b.next) /* else the explanations lack a word */
        find_listeners(&b);
    for (size_t i = 0; i < snapshot->dump.sockets.count; i++) {
        struct socket *s = &snapshot->dump.sockets.at[i];

        if (b.by_port && b.next && is_connection(s) && s->references)
            look_for_listener(&b, s);
        if (is_connection(s) && s->references && !s->closed_by && !s->listener)
            look_for_other_end(&b, s);
        s->verdict = first_of(s->findings);
    }
    close_bench(&b);
}

/* The FIN carried an acknowledgement and came after the last data. */
bool end_age(const struct socket *s, uint32_t *least, uint32_t *most)
{
    if (!s->has_tcp || s->state != STATE_CLOSE_WAIT)
        return false;
    *least = s->tcp.last_acked;
    *most = s->tcp.last_received;
    if (*most < *least)
        *most = *least;
    return true;
}

/* What the peer does is seen by what came from it last; of what we do, by what was sent last. */
bool finding_age(const struct socket *s, uint32_t *least)
{
    uint32_t most;

    if (s->verdict == FOUND_LEAKED)
        return end_age(s, least, &most);
    if (!s->has_tcp || s->state == STATE_LISTEN)
        return false;
    *least = s->verdict == FOUND_STALLED ? s->tcp.last_sent : s->tcp.last_acked;
    if (s->verdict == FOUND_NOTHING && s->tcp.last_sent < *least)
        *least = s->tcp.last_sent;
    return true;
}
