/* SPDX-License-Identifier: MIT */

#include "trace/picture.h"

#include "trace/ghosts.h"
#include "trace/names.h"
#include "trace/receipt.h"
#include "trace/text.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum stage {
    CONNECTED,
    REQUESTED,
    SHUT,
    UNWATCHED,
    RELEASED,
    UNREFERENCED,
    FINISHED,
    GONE,
    STILL_OPEN, /* when the trace ended */
    STAGES
};

static const char *const stages[STAGES] = {
    "connected",    "requested", "shut", "unwatched",  "released",
    "unreferenced", "finished",  "gone", "still open",
};

static int64_t since_made(const struct thing *socket, uint64_t ns)
{
    if (ns == NEVER)
        return PICTURE_NOT_REACHED;
    return ns < socket->made.ns ? 0 : (int64_t) (ns - socket->made.ns);
}

static void take_times(const struct trace *trace, const struct thing *socket,
                       struct picture_close *close)
{
    static const int from[] = {
        [REQUESTED] = FIN_STAGE_REQUESTED,
        [SHUT] = FIN_STAGE_SHUT,
        [UNWATCHED] = FIN_STAGE_UNWATCHED,
        [RELEASED] = FIN_STAGE_RELEASED,
        [UNREFERENCED] = FIN_STAGE_UNREFERENCED,
        [FINISHED] = FIN_STAGE_FINISHED,
        [GONE] = FIN_STAGE_GONE,
    };
    bool is_open = socket->stage_ns[FIN_STAGE_RELEASED] == NEVER;

    close->stage_ns[CONNECTED] = since_made(socket, socket->connected_ns);
    for (int stage = REQUESTED; stage <= GONE; stage++)
        close->stage_ns[stage] = since_made(socket, socket->stage_ns[from[stage]]);
    close->stage_ns[STILL_OPEN] = since_made(socket, is_open ? trace->end_ns : NEVER);
}

/* Until the close is asked for a socket is in use; from then on what it waits for after its FIN is
 * the peer. */
static enum picture_part part_of(const struct picture_close *close, enum stage stage)
{
    int64_t at = close->stage_ns[stage], asked = close->stage_ns[REQUESTED];
    int64_t shut = close->stage_ns[SHUT];

    if (stage >= UNREFERENCED && stage <= GONE)
        return PART_PROOF;
    if (asked < 0 || at <= asked)
        return PART_USE;
    if (stage == SHUT)
        return PART_FLUSH;
    return shut >= 0 && shut < at ? PART_LINGER : PART_RELEASE;
}

static void take_facts(const struct trace *trace, const struct thing *socket,
                       struct picture_close *close)
{
    static const char *const outcomes[GHOSTS] = {
        [GHOST_DESCRIPTOR] = "ghost descriptor",
        [GHOST_DESCRIPTION] = "ghost description",
        [GHOST_REGISTRATION] = "ghost registration",
        [GHOST_CONNECTION] = "ghost connection",
        [GHOST_LEAK] = "ghost leak",
    };
    struct ghost ghosts[GHOSTS];
    const char *state = receipt_state(socket);

    close->outcome = ghosts_of(trace, socket, ghosts) ? outcomes[ghosts[0].kind] : "fine";
    close->fact[close->facts++] = (struct picture_fact) { "origin", origin_name(socket->origin) };
    close->fact[close->facts++] =
        (struct picture_fact) { "end for the peer", fin_end_name(receipt_end(socket)) };
    if (state)
        close->fact[close->facts++] = (struct picture_fact) { "the kernel's state", state };
}

static void trace_picture_get(const struct picture *picture, size_t index,
                              struct picture_close *close)
{
    static _Thread_local char name[1024];
    const struct trace_picture *p = picture->arg;
    const struct thing *socket = p->trace->book.sockets.at[index];
    int stage;

    *close = (struct picture_close) {
        .name = name,
        .text = p->receipts[index],
        .start_ns = socket->made.ns,
        .held = receipt_held(socket) == FIN_YES,
    };
    socket_format(socket, name, sizeof name);
    take_times(p->trace, socket, close);
    for (stage = 0; stage < STAGES; stage++)
        close->part[stage] = part_of(close, (enum stage) stage);
    take_facts(p->trace, socket, close);
}

static int write_receipts(struct trace_picture *p)
{
    size_t i, size;

    for (i = 0; i < p->picture.count; i++) {
        FILE *out = open_memstream(&p->receipts[i], &size);

        if (!out)
            return -ENOMEM;
        text_receipt(out, p->trace, p->trace->book.sockets.at[i]);
        if (fclose(out) != 0)
            return -ENOMEM;
    }
    return 0;
}

static char *title_of(const struct trace_options *options)
{
    char *title = NULL;
    size_t size;
    FILE *out = open_memstream(&title, &size);
    char **word;

    if (!out)
        return NULL;
    fputs("finack trace", out);
    if (options->pid)
        fprintf(out, " -p %d", (int) options->pid);
    else
        for (word = options->command; *word; word++)
            fprintf(out, " %s", *word);
    return fclose(out) == 0 ? title : NULL;
}

int trace_picture_make(struct trace_picture *p, const struct trace *trace)
{
    *p = (struct trace_picture) { .trace = trace };
    p->title = title_of(trace->options);
    p->receipts = calloc(trace->book.sockets.count + 1, sizeof *p->receipts);
    if (p->title && p->receipts) {
        p->picture = (struct picture) {
            .title = p->title,
            .stages = stages,
            .stage_count = STAGES,
            .count = trace->book.sockets.count,
            .get = trace_picture_get,
            .arg = p,
        };
        if (write_receipts(p) == 0)
            return 0;
    }
    trace_picture_free(p);
    return -ENOMEM;
}

void trace_picture_free(struct trace_picture *p)
{
    size_t i;

    for (i = 0; p->receipts && i < p->picture.count; i++)
        free(p->receipts[i]);
    free(p->receipts);
    free(p->title);
}
