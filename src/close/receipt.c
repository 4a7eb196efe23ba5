/* SPDX-License-Identifier: MIT */

#include "base/errors.h"
#include "base/line.h"
#include "close/given.h"

#include <errno.h>
#include <finack.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <sys/socket.h>

#define NAME(table, value)                                                                         \
    ((value) >= 0 && (size_t) (value) < sizeof(table) / sizeof *(table) ? (table)[value] : "?")

const char *fin_version(void)
{
    return FIN_VERSION;
}

const char *fin_stage_name(int stage)
{
    static const char *const names[] = {
        "requested", "flushed",   "notified", "answered",     "shut",     "acked",
        "eof",       "unwatched", "released", "unreferenced", "finished", "gone",
    };

    return NAME(names, stage);
}

const char *fin_outcome_name(int outcome)
{
    static const char *const names[] = {
        "graceful", "prompt", "truncated", "timed_out", "reset", "error", "aborted", "bounded",
    };

    return NAME(names, outcome);
}

const char *fin_phase_name(int phase)
{
    static const char *const names[] = { "none", "flush", "farewell", "linger" };

    return NAME(names, phase);
}

const char *fin_end_name(int end)
{
    static const char *const names[] = { "none", "fin", "reset", "kernel" };

    return NAME(names, end);
}

const char *fin_answer_name(int answer)
{
    static const char *const names[] = { "no", "yes", "unverifiable" };

    return NAME(names, answer);
}

const char *fin_courtesy_name(int courtesy)
{
    static const char *const names[] = { "abort", "prompt", "orderly", "full" };

    return NAME(names, courtesy);
}

const char *fin_scope_name(int scope)
{
    static const char *const names[] = { "default", "connection", "descriptor" };

    return NAME(names, scope);
}

const char *fin_search_name(int search)
{
    static const char *const names[] = { "none", "found", "invisible", "blind", "cut" };

    return NAME(names, search);
}

const char *fin_kind_name(int kind)
{
    static const char *const names[] = { "pipe", "tcp", "mptcp", "udp", "unix" };

    return NAME(names, kind);
}

static void put_time(struct fin__line *line, int64_t ns)
{
    if (ns < 1000000)
        fin__put(line, "%.1fus", (double) ns / 1e3);
    else if (ns < 1000000000)
        fin__put(line, "%.1fms", (double) ns / 1e6);
    else
        fin__put(line, "%.2fs", (double) ns / 1e9);
}

static void put_stages(struct fin__line *line, const struct fin_receipt *receipt)
{
    for (int stage = FIN_STAGE_FLUSHED; stage < FIN_STAGES; stage++) {
        if (receipt->stage_ns[stage] >= 0) {
            fin__put(line, " %s=", fin_stage_name(stage));
            put_time(line, receipt->stage_ns[stage]);
        } else if (receipt->unverifiable & (1u << stage)) {
            fin__put(line, " %s=?", fin_stage_name(stage));
        }
    }
}

static void put_count(struct fin__line *line, const char *name, uint64_t count)
{
    if (count)
        fin__put(line, " %s=%" PRIu64, name, count);
}

static void put_holders(struct fin__line *line, const struct fin_receipt *receipt)
{
    uint32_t count = receipt->holders;

    if (receipt->search == FIN_SEARCH_INVISIBLE)
        fin__put(line, "; held by an invisible holder");
    if (receipt->search == FIN_SEARCH_BLIND)
        fin__put(line, "; held, and could not look everywhere by whom");
    if (receipt->search == FIN_SEARCH_CUT && count == 0)
        fin__put(line, "; held, and there was no time to search by whom");
    if (receipt->search != FIN_SEARCH_FOUND && receipt->search != FIN_SEARCH_CUT)
        return;
    for (uint32_t i = 0; i < count && i < FIN_RECEIPT_HOLDERS; i++) {
        fin__put(line, "%s%" PRId32 "/", i ? ", " : "; held by ", receipt->holder[i].pid);
        fin__put_foreign(line, receipt->holder[i].command, sizeof receipt->holder[i].command, 0);
        fin__put(line, " fd %" PRId32, receipt->holder[i].fd);
    }
    if (count > FIN_RECEIPT_HOLDERS)
        fin__put(line, ", +%" PRIu32 " more", count - FIN_RECEIPT_HOLDERS);
    if (receipt->search == FIN_SEARCH_CUT && count > 0)
        fin__put(line, ", and the search was cut");
}

static void put_addresses(struct fin__line *line, const struct fin_receipt *receipt)
{
    if (receipt->family != AF_INET && receipt->family != AF_INET6)
        return;
    fin__put(line, "; %s ", fin_kind_name(receipt->kind));
    fin__put_address(line, receipt->family, receipt->local, receipt->local_port);
    if (receipt->remote_port) {
        fin__put(line, " -> ");
        fin__put_address(line, receipt->family, receipt->remote, receipt->remote_port);
    }
}

static void put_error(struct fin__line *line, int error)
{
    const char *name = fin__error_name(-error);

    if (name)
        fin__put(line, " error=%s", name);
    else
        fin__put(line, " error=%d", error);
}

int fin_receipt_format(const struct fin_receipt *receipt, char *buf, size_t size)
{
    struct fin__line line = { buf, size, 0 };
    struct fin_receipt whole;
    int result = fin__receipt_whole(receipt, buf, size, &whole);

    if (result < 0)
        return result;
    receipt = &whole;
    fin__put(&line, "%s", fin_outcome_name(receipt->outcome));
    if (receipt->phase != FIN_PHASE_NONE)
        fin__put(&line, " in %s", fin_phase_name(receipt->phase));
    fin__put(&line, ", end=%s, held=%s:", fin_end_name(receipt->end),
             fin_answer_name(receipt->held));
    put_stages(&line, receipt);
    put_count(&line, "unsent", receipt->unsent);
    put_count(&line, "unacked", receipt->unacked);
    put_count(&line, "discarded", receipt->discarded);
    put_count(&line, "accepted", receipt->accepted);
    if (receipt->forced)
        fin__put(&line, " forced");
    if (receipt->tombstone)
        fin__put(&line, " tombstone");
    if (receipt->error)
        put_error(&line, receipt->error);
    put_addresses(&line, receipt);
    put_holders(&line, receipt);
    return (int) line.length;
}
