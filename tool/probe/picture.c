/* SPDX-License-Identifier: MIT */

#include "probe/picture.h"

#include "base/line.h"
#include "common/say.h"
#include "common/target.h"
#include "probe/table.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

_Static_assert(FIN_STAGES <= PICTURE_STAGES_MAX, "a picture has room for every stage");

/* What a close points to. */
struct probe_scratch {
    const char *stages[FIN_STAGES];
    char name[320], text[1024], lost[64], discarded[64], holders[512], view[64];
};

static const enum picture_part parts[FIN_STAGES] = {
    [FIN_STAGE_REQUESTED] = PART_FLUSH,   [FIN_STAGE_FLUSHED] = PART_FLUSH,
    [FIN_STAGE_NOTIFIED] = PART_FAREWELL, [FIN_STAGE_ANSWERED] = PART_FAREWELL,
    [FIN_STAGE_SHUT] = PART_FLUSH,        [FIN_STAGE_ACKED] = PART_LINGER,
    [FIN_STAGE_EOF] = PART_LINGER,        [FIN_STAGE_UNWATCHED] = PART_RELEASE,
    [FIN_STAGE_RELEASED] = PART_RELEASE,  [FIN_STAGE_UNREFERENCED] = PART_PROOF,
    [FIN_STAGE_FINISHED] = PART_PROOF,    [FIN_STAGE_GONE] = PART_PROOF,
};

/* A phase that was cut left no stage behind: its time went by until the next one. */
static void mark_cut(const struct fin_receipt *r, enum picture_part *part)
{
    static const enum picture_part cut[] = {
        [FIN_PHASE_FLUSH] = PART_FLUSH,
        [FIN_PHASE_FAREWELL] = PART_FAREWELL,
        [FIN_PHASE_LINGER] = PART_LINGER,
    };

    if (r->phase == FIN_PHASE_NONE)
        return;
    if (r->stage_ns[FIN_STAGE_UNWATCHED] >= 0)
        part[FIN_STAGE_UNWATCHED] = cut[r->phase];
    else
        part[FIN_STAGE_RELEASED] = cut[r->phase];
}

static void take_stages(const struct fin_receipt *r, struct picture_close *close)
{
    int64_t shut = r->stage_ns[FIN_STAGE_SHUT], answered = r->stage_ns[FIN_STAGE_ANSWERED];
    int i;

    for (i = 0; i < FIN_STAGES; i++) {
        close->stage_ns[i] = r->stage_ns[i];
        if (r->stage_ns[i] < 0)
            close->stage_ns[i] =
                r->unverifiable & (1u << i) ? PICTURE_UNVERIFIABLE : PICTURE_NOT_REACHED;
        close->part[i] = parts[i];
    }
    if (shut >= 0 && answered >= shut)
        close->part[FIN_STAGE_ANSWERED] = PART_LINGER; /* it was not waited for */
    mark_cut(r, close->part);
}

static void add_fact(struct picture_close *close, const char *label, const char *value)
{
    close->fact[close->facts++] = (struct picture_fact) { label, value };
}

static void format_holders(const struct fin_receipt *r, char *buf, size_t size)
{
    static const char *const without[] = {
        [FIN_SEARCH_INVISIBLE] = "an invisible holder",
        [FIN_SEARCH_BLIND] = "could not look everywhere",
        [FIN_SEARCH_CUT] = "no time to search",
    };
    struct fin__line line = { buf, size, 0 };
    uint32_t i;

    if (r->holders == 0)
        fin__put(&line, "%s", without[r->search] ? without[r->search] : "");
    for (i = 0; i < r->holders && i < FIN_RECEIPT_HOLDERS; i++)
        fin__put(&line, "%s%" PRId32 " %.16s, descriptor %" PRId32, i ? "; " : "", r->holder[i].pid,
                 r->holder[i].command, r->holder[i].fd);
    if (r->holders > FIN_RECEIPT_HOLDERS)
        fin__put(&line, "; %" PRIu32 " more", r->holders - FIN_RECEIPT_HOLDERS);
    if (r->holders > 0 && r->search == FIN_SEARCH_CUT)
        fin__put(&line, "; search cut");
}

static void take_losses(const struct fin_receipt *r, struct probe_scratch *s,
                        struct picture_close *close)
{
    if (r->unsent || r->unacked) {
        snprintf(s->lost, sizeof s->lost, "%" PRIu64 " bytes unsent, %" PRIu64 " not acknowledged",
                 r->unsent, r->unacked);
        add_fact(close, "lost", s->lost);
    }
    if (r->discarded) {
        snprintf(s->discarded, sizeof s->discarded, "%" PRIu64 " bytes", r->discarded);
        add_fact(close, "input discarded", s->discarded);
    }
}

static void take_facts(const struct probe_result *result, struct probe_scratch *s,
                       struct picture_close *close)
{
    const struct fin_receipt *r = &result->receipt;

    if (r->phase != FIN_PHASE_NONE)
        add_fact(close, "decided in", fin_phase_name(r->phase));
    add_fact(close, "end for the peer", fin_end_name(r->end));
    take_losses(r, s, close);
    if (r->held == FIN_YES) {
        format_holders(r, s->holders, sizeof s->holders);
        add_fact(close, "held by", s->holders);
    }
    if (r->error)
        add_fact(close, "error", error_name(r->error));
    if (result->has_view) {
        format_view(&result->view, s->view, sizeof s->view);
        add_fact(close, "the peer saw", s->view);
    }
    if (result->verdict != VERDICT_NONE)
        add_fact(close, "as expected", result->verdict == VERDICT_OK ? "yes" : "NO");
}

static void probe_picture_get(const struct picture *picture, size_t index,
                              struct picture_close *close)
{
    const struct probe_picture *p = picture->arg;
    const struct probe_result *result = &p->results[p->closed[index]];
    struct probe_scratch *s = p->scratch;

    *close = (struct picture_close) {
        .name = s->name,
        .outcome = fin_outcome_name(result->receipt.outcome),
        .text = s->text,
        .start_ns = result->receipt.requested_ns,
        .held = result->receipt.held == FIN_YES,
    };
    snprintf(s->name, sizeof s->name, "%s%s", result->peer, result->tls ? " (TLS)" : "");
    fin_receipt_format(&result->receipt, s->text, sizeof s->text);
    take_stages(&result->receipt, close);
    take_facts(result, s, close);
}

static void name_stages(struct probe_scratch *s)
{
    int i;

    for (i = 0; i < FIN_STAGES; i++)
        s->stages[i] = fin_stage_name(i);
}

int probe_picture_make(struct probe_picture *p, const struct probe_options *o,
                       const struct probe_result *results, size_t count)
{
    char target[280] = "";
    size_t i, closed = 0;

    *p = (struct probe_picture) { .results = results };
    p->closed = calloc(count + 1, sizeof *p->closed);
    p->scratch = calloc(1, sizeof *p->scratch);
    if (!p->closed || !p->scratch) {
        probe_picture_free(p);
        return -ENOMEM;
    }
    for (i = 0; i < count; i++)
        if (results[i].closed)
            p->closed[closed++] = i;
    name_stages(p->scratch);
    if (*o->host)
        format_target(o->host, o->port, target, sizeof target);
    snprintf(p->title, sizeof p->title, "finack probe%s%s", *target ? " " : "", target);
    p->picture = (struct picture) {
        .title = p->title,
        .stages = p->scratch->stages,
        .stage_count = FIN_STAGES,
        .count = closed,
        .get = probe_picture_get,
        .arg = p,
    };
    return 0;
}

void probe_picture_free(struct probe_picture *p)
{
    free(p->closed);
    free(p->scratch);
}
