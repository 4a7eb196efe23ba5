/* SPDX-License-Identifier: MIT */

#include <finack.h>

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

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
        "graceful", "prompt", "truncated", "timed_out", "reset", "error", "aborted",
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
    static const char *const names[] = { "none", "found", "invisible", "blind" };

    return NAME(names, search);
}

/* A line that grows: `length` counts on when the buffer is full, as snprintf(3) does. */
struct line {
    char *buf;
    size_t size;
    size_t length;
};

__attribute__((format(printf, 2, 3))) static void put(struct line *line, const char *format, ...)
{
    size_t room = line->length < line->size ? line->size - line->length : 0;
    va_list args;
    int n;

    va_start(args, format);
    n = vsnprintf(room ? line->buf + line->length : NULL, room, format, args);
    va_end(args);
    if (n > 0)
        line->length += (size_t) n;
}

static void put_time(struct line *line, int64_t ns)
{
    if (ns < 1000000)
        put(line, "%.1fus", (double) ns / 1e3);
    else if (ns < 1000000000)
        put(line, "%.1fms", (double) ns / 1e6);
    else
        put(line, "%.2fs", (double) ns / 1e9);
}

static void put_stages(struct line *line, const struct fin_receipt *receipt)
{
    for (int stage = FIN_STAGE_FLUSHED; stage < FIN_STAGES; stage++) {
        if (receipt->stage_ns[stage] >= 0) {
            put(line, " %s=", fin_stage_name(stage));
            put_time(line, receipt->stage_ns[stage]);
        } else if (receipt->unverifiable & (1u << stage)) {
            put(line, " %s=?", fin_stage_name(stage));
        }
    }
}

static void put_count(struct line *line, const char *name, uint64_t count)
{
    if (count)
        put(line, " %s=%" PRIu64, name, count);
}

/* A program may call itself anything; a terminal must not obey it. */
static void put_command(struct line *line, const struct fin_holder *holder)
{
    for (size_t i = 0; i < sizeof holder->command && holder->command[i]; i++) {
        unsigned char byte = (unsigned char) holder->command[i];

        if (byte < ' ' || byte > '~' || byte == '\\')
            put(line, "\\x%02x", (unsigned) byte);
        else
            put(line, "%c", byte);
    }
}

static void put_holders(struct line *line, const struct fin_receipt *receipt)
{
    uint32_t count = receipt->holders;

    if (receipt->search == FIN_SEARCH_INVISIBLE)
        put(line, "; held by an invisible holder");
    if (receipt->search == FIN_SEARCH_BLIND)
        put(line, "; held, and could not look everywhere by whom");
    if (receipt->search != FIN_SEARCH_FOUND)
        return;
    for (uint32_t i = 0; i < count && i < FIN_RECEIPT_HOLDERS; i++) {
        put(line, "%s%" PRId32 "/", i ? ", " : "; held by ", receipt->holder[i].pid);
        put_command(line, &receipt->holder[i]);
        put(line, " fd %" PRId32, receipt->holder[i].fd);
    }
    if (count > FIN_RECEIPT_HOLDERS)
        put(line, ", +%" PRIu32 " more", count - FIN_RECEIPT_HOLDERS);
}

static void put_error(struct line *line, int error)
{
    const char *name = strerrorname_np(-error);

    if (name)
        put(line, " error=%s", name);
    else
        put(line, " error=%d", error);
}

int fin_receipt_format(const struct fin_receipt *receipt, char *buf, size_t size)
{
    struct line line = { buf, size, 0 };

    if (!receipt || receipt->size != sizeof *receipt || (!buf && size))
        return -EINVAL;
    put(&line, "%s", fin_outcome_name(receipt->outcome));
    if (receipt->phase != FIN_PHASE_NONE)
        put(&line, " in %s", fin_phase_name(receipt->phase));
    put(&line, ", end=%s, held=%s:", fin_end_name(receipt->end), fin_answer_name(receipt->held));
    put_stages(&line, receipt);
    put_count(&line, "unsent", receipt->unsent);
    put_count(&line, "unacked", receipt->unacked);
    put_count(&line, "discarded", receipt->discarded);
    put_count(&line, "accepted", receipt->accepted);
    if (receipt->forced)
        put(&line, " forced");
    if (receipt->tombstone)
        put(&line, " tombstone");
    if (receipt->error)
        put_error(&line, receipt->error);
    put_holders(&line, receipt);
    return (int) line.length;
}
