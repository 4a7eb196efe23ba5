/* SPDX-License-Identifier: MIT */

#include "trace/after.h"

#include "common/deadline.h"
#include "trace/tell.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>

/* How many connections are checked at a time: a query takes about 2 us. */
#define ASK_MAX 256

static void reach(struct trace *trace, struct thing *socket, int stage, enum event_kind kind)
{
    if (socket->stage_ns[stage] != NEVER)
        return;
    socket->stage_ns[stage] = trace_now(trace);
    trace_tell(trace, NULL, (struct event) { .kind = kind, .socket = socket }, -1, NULL);
}

static bool is_tcp(const struct thing *socket)
{
    return socket->family != AF_UNIX && socket->protocol == IPPROTO_TCP;
}

/* Never connected, or refused. */
static bool was_nothing(const struct thing *socket)
{
    return socket->looked && socket->tcp_state == TCP_CLOSE && !socket->connected;
}

/* Only TCP goes on after the last reference; whether another kind is known makes no difference. */
static void after_ask(struct trace *trace, struct thing *socket)
{
    struct fin_state state = FIN_STATE_INIT;

    if (is_tcp(socket) && !was_nothing(socket)) {
        if (!socket->known || fin_inspect(trace->kernel, &socket->identity, &state) < 0)
            state.exists = FIN_UNVERIFIABLE;
        socket->confirmed = state.exists != FIN_UNVERIFIABLE;
        socket->now = state.exists == FIN_YES ? state.tcp_state : 0;
        if (!socket->confirmed)
            return;
    }
    if (socket->now == 0 || socket->now == TCP_TIME_WAIT)
        reach(trace, socket, FIN_STAGE_FINISHED, EVENT_FINISHED);
    if (socket->now == 0)
        reach(trace, socket, FIN_STAGE_GONE, EVENT_GONE);
}

static void end_stale(struct trace *trace, struct thing *socket)
{
    if (socket->stale_ns != NEVER)
        trace_stamp(trace, &socket->stale_until_ns);
}

static void unreferenced(struct trace *trace, struct thing *socket, enum proof proof)
{
    if (socket->witnessed)
        trace->in_witness--;
    socket->witnessed = false;
    socket->proof = proof;
    end_stale(trace, socket);
    reach(trace, socket, FIN_STAGE_UNREFERENCED, EVENT_UNREFERENCED);
    after_ask(trace, socket);
}

/* ---- those that are not over ---- */

static bool is_over(const struct thing *socket)
{
    return socket->refs > 0 || socket->stage_ns[FIN_STAGE_FINISHED] != NEVER
        || (socket->proof != PROOF_NONE && !socket->confirmed && is_tcp(socket));
}

static void add_pending(struct trace *trace, struct thing *socket)
{
    if (socket->pending || is_over(socket))
        return;
    socket->pending = true;
    socket->next_pending = trace->pending;
    trace->pending = socket;
}

static void drop_finished(struct trace *trace)
{
    struct thing **at = &trace->pending;

    while (*at) {
        struct thing *socket = *at;

        if (is_over(socket)) {
            *at = socket->next_pending;
            socket->pending = false;
        } else {
            at = &socket->next_pending;
        }
    }
}

/* ---- the witness ---- */

void after_witness(struct trace *trace, struct thing *socket, int borrowed)
{
    int result = fin__witness_add(&trace->witness, borrowed, socket->id);

    if (result == -EEXIST)
        result = fin__witness_take_over(&trace->witness, borrowed, socket->id);
    if (result == 0 && !socket->witnessed) {
        socket->witnessed = true;
        trace->in_witness++;
    }
}

void after_release(struct trace *trace, struct thing *socket)
{
    socket->stage_ns[FIN_STAGE_RELEASED] = trace_now(trace);
    if (!socket->witnessed)
        unreferenced(trace, socket, PROOF_COUNT);
    else
        trace->fresh = true;
    add_pending(trace, socket);
}

static void mark_held(uint64_t token, uint64_t inode, void *arg)
{
    const struct trace *trace = arg;

    (void) inode;
    trace->book.sockets.at[token - 1]->held_now = true;
}

/* The kernel may release a socket before close(2) returns: that is reported after the return. */
static void look_at_witness(struct trace *trace)
{
    uint64_t now = trace_now(trace);
    struct thing *socket;

    for (socket = trace->pending; socket; socket = socket->next_pending)
        socket->held_now = false;
    if (fin__witness_read(&trace->witness, mark_held, trace) < 0)
        return;
    for (socket = trace->pending; socket; socket = socket->next_pending) {
        if (!socket->witnessed || socket->refs > 0 || socket->closing > 0)
            continue;
        if (socket->held_now)
            socket->seen_held_ns = now;
        else
            unreferenced(trace, socket, PROOF_WITNESS);
    }
}

void after_look_fresh(struct trace *trace)
{
    trace->fresh = false;
    look_at_witness(trace);
    drop_finished(trace);
}

void after_look(struct trace *trace)
{
    struct thing *socket;
    unsigned asked = 0;

    if (trace->in_witness > 0)
        look_at_witness(trace);
    for (socket = trace->pending; socket && asked < ASK_MAX; socket = socket->next_pending)
        if (socket->proof != PROOF_NONE && !is_over(socket)) {
            after_ask(trace, socket);
            asked++;
        }
    drop_finished(trace);
}

/* TIME_WAIT takes a minute: it is not followed, but it may be over. */
static void ask_last(struct trace *trace)
{
    size_t i;

    for (i = 0; i < trace->book.sockets.count; i++)
        if (trace->book.sockets.at[i]->stage_ns[FIN_STAGE_FINISHED] != NEVER
            && trace->book.sockets.at[i]->stage_ns[FIN_STAGE_GONE] == NEVER)
            after_ask(trace, trace->book.sockets.at[i]);
}

void after_wait(struct trace *trace, int ms)
{
    uint64_t deadline = deadline_in_ms(ms);

    after_look(trace);
    while (trace->pending && deadline_left_ms(deadline) > 0) {
        poll(NULL, 0, 5);
        after_look(trace);
    }
    ask_last(trace);
}
