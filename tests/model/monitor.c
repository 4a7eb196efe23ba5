/* SPDX-License-Identifier: MIT */

#include "monitor.h"

#include <errno.h>
#include <string.h>

#define STAGE(name) (1u << FIN_STAGE_##name)
#define AFTER_RELEASE (STAGE(UNREFERENCED) | STAGE(FINISHED) | STAGE(GONE))
#define ACTION(name) (1u << FIN__##name)

/* The machine may still ask for this many waits once the total deadline is over: each phase that
 * begins then asks once, with a deadline that has passed, and is answered at once. */
#define LATE_WAITS 3

static void demand(struct monitor *mon, bool holds, enum rule rule)
{
    if (!holds)
        mon->broken |= UINT64_C(1) << rule;
}

static bool saw(const struct monitor *mon, uint64_t what)
{
    return mon->seen & what;
}

static bool is(const struct monitor *mon, unsigned trait)
{
    return mon->config->traits & trait;
}

static bool told(const struct monitor *mon, unsigned stages)
{
    return (mon->stages & stages) == stages;
}

void monitor_start(struct monitor *mon, const struct config *config, uint64_t now)
{
    memset(mon, 0, sizeof *mon);
    mon->config = config;
    mon->start = now;
    mon->held = FIN_UNVERIFIABLE;
    mon->measured = UINT8_MAX;
    mon->stages = STAGE(REQUESTED);
    if (!(config->traits & FIN__LAYERED))
        mon->stages |= STAGE(FLUSHED);
}

/* ---- actions ---- */

static void check_wait(struct monitor *mon, const struct view *view)
{
    const struct fin__plan *plan = &mon->config->plan;
    uint64_t total = mon->start + plan->total, proof = mon->released_at + plan->proof_wait;
    uint64_t span = mon->phase == FIN_PHASE_FLUSH ? plan->flush : plan->farewell;
    uint64_t last = mon->began + span < total ? mon->began + span : total;
    uint8_t courtesy = plan->courtesy;

    demand(mon, !saw(mon, SEEN_FORCE) || view->deadline <= view->now, RULE_FORCED_WAITS);
    if (told(mon, STAGE(RELEASED))) {
        demand(mon, view->deadline <= proof && view->now < proof, RULE_WAIT_BEYOND_PROOF);
        return;
    }
    demand(mon, view->deadline <= total, RULE_WAIT_BEYOND_TOTAL);
    demand(mon, !mon->began || saw(mon, SEEN_FORCE) || view->deadline == last, RULE_FAREWELL_TIME);
    demand(mon, view->interest != 0, RULE_WAIT_FOR_NOTHING);
    demand(mon, !(view->interest & FIN__READ && saw(mon, SEEN_EDGE)), RULE_EDGE_LOST);
    if (is(mon, FIN__STREAM)) {
        demand(mon, courtesy != FIN_COURTESY_ABORT, RULE_COURTESY_WAITS);
        demand(mon, courtesy != FIN_COURTESY_PROMPT || !told(mon, STAGE(SHUT)),
               RULE_COURTESY_WAITS);
    }
    if (view->now >= total)
        demand(mon, ++mon->late_waits <= LATE_WAITS, RULE_LATE_RELEASE);
}

static void check_release(struct monitor *mon)
{
    bool open = is(mon, FIN__STREAM) && !mon->config->plan.descriptor_only
        && !saw(mon,
                SEEN_PEER_RESET | SEEN_DEATH | SEEN_RESET_DONE | SEEN_OVER | SEEN_ABORT
                    | SEEN_ENDED);

    demand(mon, !told(mon, STAGE(RELEASED)), RULE_TWO_RELEASES);
    demand(mon, told(mon, STAGE(UNWATCHED)), RULE_WATCHED_AT_RELEASE);
    demand(mon, !saw(mon, SEEN_DROP) || saw(mon, SEEN_RESET_ASKED) || !is(mon, FIN__STREAM),
           RULE_DROP_WITHOUT_RESET);
    if (open && told(mon, STAGE(SHUT)) && mon->config->plan.courtesy != FIN_COURTESY_PROMPT
        && !(told(mon, STAGE(ACKED)) && saw(mon, SEEN_END)))
        demand(mon, saw(mon, SEEN_TALLY), RULE_NOT_TALLIED);
}

static void check_kind(struct monitor *mon, enum fin__action action)
{
    unsigned bit = 1u << action;
    unsigned layer = ACTION(FLUSH) | ACTION(MEASURE) | ACTION(NOTIFY);
    unsigned stream = ACTION(NOTIFY) | ACTION(SHUT) | ACTION(LOOK) | ACTION(DRAIN) | ACTION(QUENCH)
        | ACTION(LIMIT) | ACTION(RESET);
    unsigned touching = layer | ACTION(SHUT) | ACTION(DRAIN) | ACTION(QUENCH) | ACTION(LIMIT)
        | ACTION(RESET) | ACTION(REFUSE) | ACTION(ACCEPT) | ACTION(ABANDON);
    unsigned left_alone = mon->config->plan.descriptor_only ? FIN__LAYERED : 0;
    unsigned tallied = FIN__STREAM | FIN__CONNECTING | left_alone;

    demand(mon, !(bit & stream) || is(mon, FIN__STREAM), RULE_KIND);
    demand(mon, !(bit & ACTION(TALLY)) || is(mon, tallied), RULE_KIND);
    demand(mon, !(bit & layer) || is(mon, FIN__LAYERED), RULE_KIND);
    demand(mon, !(bit & (ACTION(REFUSE) | ACTION(ACCEPT))) || is(mon, FIN__LISTENING), RULE_KIND);
    demand(mon, !(bit & ACTION(ABANDON)) || is(mon, FIN__CONNECTING), RULE_KIND);
    demand(mon, !(bit & ACTION(QUENCH)) || is(mon, FIN__QUENCHABLE), RULE_QUENCH);
    demand(mon, !(bit & ACTION(LIMIT)) || mon->config->plan.orphan_ms > 0, RULE_LIMIT);
    demand(mon, !(bit & touching) || !mon->config->plan.descriptor_only, RULE_SCOPE);
}

static void check_order(struct monitor *mon, enum fin__action action)
{
    unsigned bit = 1u << action, after = ACTION(CHECK) | ACTION(INSPECT);
    unsigned sending = ACTION(FLUSH) | ACTION(NOTIFY) | ACTION(SHUT);
    unsigned reading = ACTION(DRAIN) | ACTION(ACCEPT);
    bool released = told(mon, STAGE(RELEASED));

    demand(mon, !saw(mon, SEEN_FINISH), RULE_AFTER_FINISH);
    demand(mon, !released || bit & (after | ACTION(WAIT) | ACTION(FINISH) | ACTION(RELEASE)),
           RULE_AFTER_RELEASE);
    demand(mon, released || !(bit & after), RULE_EARLY_LOOK);
    demand(mon, !(bit & (after | ACTION(WITNESS))) || mon->config->plan.proof > FIN_STAGE_RELEASED,
           RULE_PROOF_UNASKED);
    demand(mon, !(bit & sending) || !saw(mon, SEEN_RESET_DONE), RULE_SEND_AFTER_RESET);
    demand(mon, !(bit & reading) || !saw(mon, SEEN_RESET_DONE), RULE_READ_AFTER_RESET);
    demand(mon, !(bit & sending) || !told(mon, STAGE(SHUT)), RULE_SEND_AFTER_FIN);
}

static void check_shut(struct monitor *mon)
{
    demand(mon, !saw(mon, SEEN_DROP), RULE_FIN_AFTER_DROP);
    demand(mon, told(mon, STAGE(FLUSHED)), RULE_FIN_UNFLUSHED);
}

void monitor_action(struct monitor *mon, const struct view *view)
{
    mon->deadline = view->deadline;
    check_kind(mon, view->action);
    check_order(mon, view->action);
    switch (view->action) {
    case FIN__WAIT:
        check_wait(mon, view);
        break;
    case FIN__FLUSH:
        demand(mon, !saw(mon, SEEN_NOTIFY), RULE_FLUSH_AFTER_FAREWELL);
        mon->began = saw(mon, SEEN_FLUSH) ? mon->began : view->now;
        mon->phase = FIN_PHASE_FLUSH;
        mon->seen |= SEEN_FLUSH;
        break;
    case FIN__NOTIFY:
        mon->phase = FIN_PHASE_FAREWELL;
        mon->seen |= SEEN_NOTIFY;
        break;
    case FIN__SHUT:
        check_shut(mon);
        break;
    case FIN__DRAIN:
        demand(mon, view->drain_left + mon->discarded <= mon->config->plan.drain, RULE_DRAIN_BOUND);
        break;
    case FIN__RESET:
        mon->seen |= SEEN_RESET_ASKED;
        break;
    case FIN__UNWATCH:
        demand(mon, !told(mon, STAGE(UNWATCHED)), RULE_TWO_UNWATCHES);
        break;
    case FIN__WITNESS:
        demand(mon, !saw(mon, SEEN_WITNESS), RULE_TWO_WITNESSES);
        mon->seen |= SEEN_WITNESS;
        break;
    case FIN__RELEASE:
        check_release(mon);
        break;
    case FIN__FINISH:
        demand(mon, told(mon, STAGE(RELEASED)) || saw(mon, SEEN_KEPT), RULE_NO_RELEASE);
        mon->seen |= SEEN_FINISH;
        break;
    default:
        break;
    }
}

/* ---- events ---- */

/* EPIPE for a farewell may as well mean that the program sent FIN before. */
static bool tells_of_peer(enum fin__action action, int error, unsigned facts)
{
    unsigned deaf = (facts & FIN__IS_OVER ? 0 : ACTION(RESET)) | ACTION(QUENCH) | ACTION(UNWATCH)
        | ACTION(WITNESS) | ACTION(CHECK) | ACTION(INSPECT);

    if (1u << action & deaf || (action == FIN__NOTIFY && error == -EPIPE))
        return false;
    return error == -ECONNRESET || error == -EPIPE || error == -ECONNREFUSED;
}

/* The connection is over: what the last event of all says of it counts. */
static void note_end(struct monitor *mon, const struct fin__event *ev)
{
    mon->seen &= ~(uint64_t) (SEEN_ACK_UNKNOWN | SEEN_FIN_UNKNOWN);
    mon->seen |= SEEN_ENDED;
    mon->seen |= ev->facts & FIN__IS_UNKNOWN ? SEEN_ACK_UNKNOWN : 0;
    mon->seen |= ev->facts & FIN__IS_FIN_UNKNOWN ? SEEN_FIN_UNKNOWN : 0;
    mon->tallied = (uint8_t) (saw(mon, SEEN_ACKED) ? 0 : ev->bytes);
}

/* Not by both FINs, whoever knows of the error. */
static bool ended_badly(const struct monitor *mon)
{
    return saw(mon, SEEN_ENDED)
        && (!saw(mon, SEEN_ACKED | SEEN_ACK_UNKNOWN) || !saw(mon, SEEN_FIN | SEEN_FIN_UNKNOWN));
}

static bool ended_well(const struct monitor *mon)
{
    return saw(mon, SEEN_ENDED) && saw(mon, SEEN_ACKED) && saw(mon, SEEN_FIN);
}

static void note_facts(struct monitor *mon, const struct fin__event *ev)
{
    unsigned facts = ev->facts;

    if (facts & FIN__IS_ACKED)
        mon->seen |= SEEN_ACKED;
    if (facts & FIN__IS_FIN)
        mon->seen |= SEEN_FIN;
    if (facts & FIN__IS_ACKED && told(mon, STAGE(SHUT)))
        mon->stages |= STAGE(ACKED);
    if (facts & FIN__IS_FIN && saw(mon, SEEN_END))
        mon->stages |= STAGE(EOF);
    if (facts & (FIN__IS_UNKNOWN | FIN__IS_FIN_UNKNOWN))
        mon->seen |= SEEN_UNKNOWN;
    if (facts & FIN__IS_OVER)
        note_end(mon, ev);
}

/* As far as is known: what was left may have been read since. Of a Unix socket it is that alone by
 * which somebody may be reset. */
static void nothing_is_left(struct monitor *mon)
{
    mon->seen &= ~(uint64_t) (SEEN_LEFT | (is(mon, FIN__QUENCHABLE) ? SEEN_RESET_UNSURE : 0));
}

static void drained(struct monitor *mon, const struct fin__event *ev)
{
    nothing_is_left(mon);
    if (ev->kind == FIN__AGAIN || ev->kind == FIN__END)
        mon->seen &= ~(uint64_t) (SEEN_EDGE | SEEN_UNREAD);
    else
        mon->seen |= SEEN_EDGE;
    if (ev->kind == FIN__BYTES) {
        mon->discarded = (uint8_t) (mon->discarded + ev->bytes);
        if (mon->discarded >= mon->config->plan.drain)
            mon->seen |= SEEN_BOUND;
    }
    if (ev->kind == FIN__ANSWER)
        mon->stages |= STAGE(ANSWERED);
    if (ev->kind == FIN__BROKEN)
        mon->seen |= SEEN_LAYER_GONE;
    if (ev->kind == FIN__END) {
        mon->seen |= SEEN_END;
        if (ev->facts & FIN__IS_SHUT && saw(mon, SEEN_OVER)) /* the program's FIN */
            mon->stages |= STAGE(SHUT);
        note_facts(mon, ev);
    }
    if (ev->kind == FIN__FAILED) {
        bool never = ev->error == -ENOTCONN && saw(mon, SEEN_OVER) && !(ev->facts & FIN__IS_OVER);

        note_facts(mon, ev);
        mon->seen |= never ? SEEN_NEVER : SEEN_DEATH;
    }
}

/* A layer that waits for input has read what there was. */
static void layer_waits(struct monitor *mon, const struct fin__event *ev)
{
    if (ev->kind == FIN__AGAIN && ev->interest & FIN__READ)
        mon->seen &= ~(uint64_t) SEEN_EDGE;
}

static void flushed(struct monitor *mon, const struct fin__event *ev)
{
    layer_waits(mon, ev);
    mon->unsent = (uint8_t) (ev->kind == FIN__DONE ? 0 : ev->bytes);
    if (ev->kind == FIN__DONE) {
        mon->stages |= STAGE(FLUSHED);
        mon->began = ev->now;
        mon->measured = UINT8_MAX;
    } else if (ev->kind != FIN__AGAIN) {
        mon->seen |= SEEN_DROP;
    }
}

/* A peer that takes anything gets its time anew. */
static void measured(struct monitor *mon, const struct fin__event *ev)
{
    bool shrinks = mon->measured != UINT8_MAX && ev->bytes < mon->measured;

    mon->measured = (uint8_t) ev->bytes;
    if (shrinks && ev->now < mon->start + mon->config->plan.total && !saw(mon, SEEN_FORCE))
        mon->began = ev->now;
    else if (saw(mon, SEEN_OVERDUE))
        mon->seen |= SEEN_LATE | (mon->phase == FIN_PHASE_FLUSH ? SEEN_DROP : 0);
    mon->seen &= ~(uint64_t) SEEN_OVERDUE;
    if (saw(mon, SEEN_DROP))
        mon->measured = UINT8_MAX;
}

static void notified(struct monitor *mon, const struct fin__event *ev)
{
    layer_waits(mon, ev);
    if (ev->kind == FIN__DONE) {
        mon->stages |= STAGE(NOTIFIED);
        mon->began = ev->now;
        mon->measured = UINT8_MAX;
    }
    if (ev->kind == FIN__BROKEN)
        mon->seen |= SEEN_DROP;
    if (ev->kind == FIN__SKIP || (ev->kind == FIN__FAILED && ev->error == -EPIPE))
        mon->seen |= SEEN_SKIP;
    if (ev->kind == FIN__SKIP && ev->facts & FIN__IS_MUTE)
        mon->seen |= SEEN_MUTE;
}

static void shut(struct monitor *mon, const struct fin__event *ev)
{
    if (ev->kind == FIN__FAILED) {
        mon->seen |= ev->error == -ENOTCONN ? SEEN_OVER : SEEN_DEATH;
        return;
    }
    mon->stages |= STAGE(SHUT);
    mon->began = 0;
    mon->measured = UINT8_MAX;
    if (is(mon, FIN__ACK_AT_SHUT)) {
        mon->stages |= STAGE(ACKED);
        mon->seen |= SEEN_ACKED;
    }
    mon->phase = FIN_PHASE_LINGER;
}

/* A deadline, or the program, ends what is going on. */
static void ended_early(struct monitor *mon, const struct fin__event *ev)
{
    bool flushing = saw(mon, SEEN_FLUSH) && !told(mon, STAGE(FLUSHED));
    bool overdue = ev->kind == FIN__DEADLINE && (flushing || mon->phase == FIN_PHASE_FAREWELL);

    if (ev->kind == FIN__READY && flushing && ev->facts & FIN__IS_WRITABLE)
        mon->began = ev->now;
    if (overdue)
        mon->seen |= SEEN_OVERDUE;
    if (ev->kind == FIN__READY || overdue)
        return;
    if (ev->kind == FIN__ABORT && !told(mon, STAGE(RELEASED)))
        mon->seen |= SEEN_ABORT;
    if (ev->kind == FIN__FORCE)
        mon->seen |= SEEN_FORCE;
    if (ev->kind == FIN__DEADLINE || ev->kind == FIN__FORCE)
        mon->seen |= SEEN_LATE;
    if (flushing)
        mon->seen |= SEEN_DROP;
}

static void waited(struct monitor *mon, const struct fin__event *ev)
{
    if (!told(mon, STAGE(RELEASED))) {
        mon->seen &= ~(uint64_t) (SEEN_TALLY | SEEN_UNREAD);
        nothing_is_left(mon);
        mon->tallied = 0;
    }
    if (ev->kind == FIN__READY) /* the edge is used up: only reading tells what there is */
        mon->seen |= SEEN_EDGE;
    if (told(mon, STAGE(RELEASED))) {
        if (ev->facts & FIN__IS_FINISHED)
            mon->stages |= STAGE(FINISHED);
        if (ev->facts & FIN__IS_ACKED && !told(mon, STAGE(ACKED)))
            mon->seen |= SEEN_ACK_LATE;
        note_facts(mon, ev);
    }
    ended_early(mon, ev);
}

/* Of a layer that was not flushed. */
static void note_unsent(struct monitor *mon, const struct fin__event *ev)
{
    if (!mon->config->plan.descriptor_only)
        return;
    mon->unsent = (uint8_t) (ev->unsent == UINT64_MAX ? 0 : ev->unsent);
    mon->seen &= ~(uint64_t) SEEN_UNSENT_UNKNOWN;
    mon->seen |= ev->unsent == UINT64_MAX ? SEEN_UNSENT_UNKNOWN : 0;
    mon->seen |= mon->unsent ? SEEN_LOST : 0;
}

static void tallied(struct monitor *mon, const struct fin__event *ev)
{
    if (ev->kind == FIN__FAILED)
        mon->seen |= SEEN_DEATH;
    if (ev->unread && saw(mon, SEEN_END)) {
        mon->seen |= SEEN_BOUND;
        mon->seen &= ~(uint64_t) SEEN_END; /* it was none of the peer's */
    }
    note_facts(mon, ev);
    note_unsent(mon, ev);
    if (ev->kind == FIN__FAILED || saw(mon, SEEN_ENDED))
        return;
    mon->tallied = (uint8_t) ev->bytes;
    mon->seen |= SEEN_TALLY;
    mon->seen &= ~(uint64_t) (SEEN_UNREAD | SEEN_LEFT | SEEN_RESET_ON_CLOSE | SEEN_RESET_UNSURE);
    if (ev->bytes && is(mon, FIN__CONNECTING))
        mon->seen |= SEEN_LOST;
    if (ev->unread)
        mon->seen |= SEEN_UNREAD | SEEN_LEFT;
    if (ev->facts & FIN__IS_RESET_ON_CLOSE)
        mon->seen |= SEEN_RESET_ON_CLOSE;
    if (ev->facts & FIN__IS_RESET_UNSURE)
        mon->seen |= SEEN_RESET_UNSURE;
}

static void abandoned(struct monitor *mon, const struct fin__event *ev)
{
    mon->tallied = (uint8_t) ev->bytes;
    mon->seen |= ev->bytes ? SEEN_LOST : 0;
}

static void reset_done(struct monitor *mon, const struct fin__event *ev)
{
    note_facts(mon, ev);
    if (ev->unsent && ev->unsent != UINT64_MAX)
        mon->unsent = (uint8_t) ev->unsent;
    if (ev->kind != FIN__DONE)
        return;
    mon->tallied = (uint8_t) ev->bytes;
    mon->seen |= ev->facts & FIN__IS_RESET_ON_CLOSE ? SEEN_RESET_ON_CLOSE : SEEN_RESET_DONE;
    mon->seen &= ~(uint64_t) SEEN_RESET_UNSURE;
    mon->seen |= ev->facts & FIN__IS_RESET_UNSURE ? SEEN_RESET_UNSURE : 0;
}

static void released(struct monitor *mon, const struct fin__event *ev)
{
    if (ev->facts & FIN__IS_KEPT) {
        mon->seen |= SEEN_KEPT;
        mon->held = FIN_YES;
    } else {
        mon->stages |= STAGE(RELEASED);
    }
    if (ev->facts & FIN__IS_SHUT)
        mon->seen |= SEEN_SHUT_LAST | (is(mon, FIN__ACK_AT_SHUT) ? SEEN_ACKED : 0);
    if (ev->facts & FIN__IS_RESET_UNSURE && !saw(mon, SEEN_RESET_DONE))
        mon->seen |= SEEN_RESET_UNSURE;
    mon->released_at = ev->now;
    mon->phase = FIN_PHASE_NONE;
}

static void checked(struct monitor *mon, const struct fin__event *ev)
{
    mon->held = ev->kind == FIN__YES ? FIN_YES : ev->kind == FIN__NO ? FIN_NO : FIN_UNVERIFIABLE;
    if (ev->kind == FIN__NO)
        mon->stages |= STAGE(UNREFERENCED);
}

static void inspected(struct monitor *mon, const struct fin__event *ev)
{
    if (ev->kind == FIN__STATE && ev->facts & FIN__IS_FINISHED)
        mon->stages |= STAGE(FINISHED);
    if (ev->kind == FIN__STATE && ev->facts & FIN__IS_GONE)
        mon->stages |= STAGE(GONE);
    if (ev->kind == FIN__STATE && ev->facts & FIN__IS_ACKED && !told(mon, STAGE(ACKED)))
        mon->seen |= SEEN_ACK_LATE;
    if (ev->kind == FIN__STATE)
        note_facts(mon, ev);
}

static void accepted(struct monitor *mon, const struct fin__event *ev)
{
    if (ev->kind == FIN__AGAIN)
        mon->seen &= ~(uint64_t) SEEN_EDGE;
    if (ev->kind == FIN__BYTES)
        mon->accepted = (uint8_t) (mon->accepted + ev->bytes);
}

static void unwatched(struct monitor *mon, const struct fin__event *ev)
{
    (void) ev;
    mon->stages |= STAGE(UNWATCHED);
}

static void refused(struct monitor *mon, const struct fin__event *ev)
{
    (void) ev;
    mon->phase = FIN_PHASE_LINGER;
}

static void looked(struct monitor *mon, const struct fin__event *ev)
{
    if (ev->kind == FIN__FAILED)
        mon->seen |= SEEN_DEATH;
    note_facts(mon, ev);
    mon->seen &= ~(uint64_t) (saw(mon, SEEN_END) ? SEEN_EDGE : 0);
}

void monitor_event(struct monitor *mon, enum fin__action action, const struct fin__event *ev)
{
    static void (*const note[])(struct monitor *, const struct fin__event *) = {
        [FIN__WAIT] = waited,       [FIN__FLUSH] = flushed,    [FIN__MEASURE] = measured,
        [FIN__NOTIFY] = notified,   [FIN__SHUT] = shut,        [FIN__DRAIN] = drained,
        [FIN__TALLY] = tallied,     [FIN__LOOK] = looked,      [FIN__RESET] = reset_done,
        [FIN__UNWATCH] = unwatched, [FIN__RELEASE] = released, [FIN__CHECK] = checked,
        [FIN__INSPECT] = inspected, [FIN__ACCEPT] = accepted,  [FIN__REFUSE] = refused,
        [FIN__ABANDON] = abandoned, [FIN__FINISH] = NULL,
    };

    mon->phase_before = mon->phase;
    if (ev->now >= mon->deadline || ev->now >= mon->start + mon->config->plan.total)
        mon->seen |= SEEN_LATE;
    mon->seen |= SEEN_BEGUN;
    if (action != FIN__WAIT && (ev->kind == FIN__ABORT || ev->kind == FIN__FORCE)) {
        ended_early(mon, ev); /* the action was not carried out */
        return;
    }
    if (ev->kind == FIN__FAILED || ev->kind == FIN__BROKEN)
        mon->seen |= SEEN_FAILED;
    if (ev->kind == FIN__FAILED && tells_of_peer(action, ev->error, ev->facts))
        mon->seen |= SEEN_PEER_RESET;
    if (note[action])
        note[action](mon, ev);
}

/* ---- the receipt ---- */

/* What must not have been reached before the stage was. */
static const unsigned later[FIN_STAGES] = {
    [FIN_STAGE_FLUSHED] = STAGE(NOTIFIED) | STAGE(SHUT) | STAGE(ACKED) | STAGE(RELEASED),
    [FIN_STAGE_NOTIFIED] = STAGE(SHUT) | STAGE(ACKED) | STAGE(RELEASED),
    [FIN_STAGE_SHUT] = STAGE(ACKED) | STAGE(RELEASED),
    [FIN_STAGE_UNWATCHED] = STAGE(RELEASED),
    [FIN_STAGE_RELEASED] = AFTER_RELEASE,
    [FIN_STAGE_FINISHED] = STAGE(GONE),
};

static unsigned reached_stages(const struct fin_receipt *receipt)
{
    unsigned stages = 0;

    for (int i = 0; receipt && i < FIN_STAGES; i++)
        if (receipt->stage_ns[i] >= 0)
            stages |= 1u << i;
    return stages;
}

static void check_stages(struct monitor *mon, const struct fin_receipt *before,
                         const struct fin_receipt *after, uint64_t now)
{
    unsigned old, all;

    if (before && !memcmp(before->stage_ns, after->stage_ns, sizeof after->stage_ns)
        && before->unverifiable == after->unverifiable)
        return; /* by far the most common */
    old = reached_stages(before);
    all = reached_stages(after);
    for (int i = 0; i < FIN_STAGES; i++) {
        int64_t expected =
            before && old & 1u << i ? before->stage_ns[i] : (int64_t) (now - mon->start);

        if (all & ~old & 1u << i)
            demand(mon, !(old & later[i]), RULE_STAGE_ORDER);
        if ((all | old) & 1u << i)
            demand(mon, after->stage_ns[i] == expected, RULE_STAGE_TIME);
    }
    demand(mon, !(all & ~mon->stages), RULE_STAGE_UNSEEN);
    demand(mon, !(all & after->unverifiable), RULE_REACHED_AND_UNVERIFIABLE);
}

static bool is_fine(int outcome)
{
    return outcome == FIN_OUTCOME_GRACEFUL || outcome == FIN_OUTCOME_PROMPT;
}

/* The phase told is the one that ran when the outcome was decided. */
static void check_phase(struct monitor *mon, const struct fin_receipt *before,
                        const struct fin_receipt *after)
{
    if (is_fine(after->outcome))
        demand(mon, after->phase == FIN_PHASE_NONE, RULE_PHASE);
    else if (before && before->outcome == after->outcome)
        demand(mon, after->phase == before->phase, RULE_PHASE);
    else
        demand(mon, after->phase == mon->phase_before || after->phase == mon->phase, RULE_PHASE);
}

void monitor_step(struct monitor *mon, const struct fin_receipt *before,
                  const struct fin_receipt *after, const struct fin__event *ev)
{
    bool failed = ev->kind == FIN__FAILED || ev->kind == FIN__BROKEN;
    /* Over, and how can't be known; or lost with the SYN, or with a call that was cut. */
    bool known = (after->error == -ENOTCONN && saw(mon, SEEN_ENDED | SEEN_OVER | SEEN_LOST))
        || (after->error == -ECANCELED && saw(mon, SEEN_LOST));

    check_stages(mon, before, after, ev->now);
    check_phase(mon, before, after);
    if (before && before->error)
        demand(mon, after->error == before->error, RULE_ERROR);
    else if (after->error && !known)
        demand(mon, failed && after->error == ev->error, RULE_ERROR);
}

/* Reached, or said to be unverifiable. */
static bool settled(const struct fin_receipt *receipt, enum fin_stage stage)
{
    return receipt->stage_ns[stage] >= 0 || receipt->unverifiable & 1u << stage;
}

static bool is_seen(const struct fin_receipt *receipt, enum fin_stage one, enum fin_stage other)
{
    return receipt->stage_ns[one] >= 0 && receipt->stage_ns[other] >= 0;
}

static bool ends_connection(const struct monitor *mon)
{
    return is(mon, FIN__STREAM) && !mon->config->plan.descriptor_only
        && !is(mon, FIN__LISTENING | FIN__CONNECTING);
}

/* Not asked of a stream that had never been one, nor of one that scope descriptor leaves alone. A
 * stream that was over before must say so by unverifiable stages. */
static void check_graceful(struct monitor *mon, const struct fin_receipt *r)
{
    uint8_t courtesy = mon->config->plan.courtesy;

    if (r->outcome != FIN_OUTCOME_GRACEFUL || !ends_connection(mon) || saw(mon, SEEN_NEVER))
        return;
    demand(mon, courtesy != FIN_COURTESY_ABORT && courtesy != FIN_COURTESY_PROMPT, RULE_GRACEFUL);
    demand(mon, settled(r, FIN_STAGE_ACKED) && settled(r, FIN_STAGE_EOF), RULE_GRACEFUL);
    demand(mon, told(mon, STAGE(SHUT)) || saw(mon, SEEN_OVER), RULE_GRACEFUL);
    demand(mon, !saw(mon, SEEN_ABORT | SEEN_DROP), RULE_GRACEFUL);
    demand(mon, !ended_badly(mon), RULE_GRACEFUL);
    demand(mon, !saw(mon, SEEN_ENDED) || !saw(mon, SEEN_OVER) || ended_well(mon), RULE_GRACEFUL);
    demand(mon, saw(mon, SEEN_UNKNOWN) || is_seen(r, FIN_STAGE_ACKED, FIN_STAGE_EOF),
           RULE_GRACEFUL);
    if (!is(mon, FIN__LAYERED) || saw(mon, SEEN_OVER))
        return;
    demand(mon, told(mon, STAGE(NOTIFIED)) || saw(mon, SEEN_SKIP), RULE_GRACEFUL);
    demand(mon, !saw(mon, SEEN_MUTE), RULE_GRACEFUL);
    if (told(mon, STAGE(NOTIFIED))
        && (courtesy == FIN_COURTESY_FULL || is(mon, FIN__ANSWER_UNKNOWN)))
        demand(mon, settled(r, FIN_STAGE_ANSWERED), RULE_GRACEFUL);
}

static bool outcome_has_cause(const struct monitor *mon, const struct fin_receipt *r)
{
    const struct fin__plan *plan = &mon->config->plan;
    bool ours_alone = plan->descriptor_only && mon->held == FIN_NO;

    switch (r->outcome) {
    case FIN_OUTCOME_GRACEFUL:
        return true;
    case FIN_OUTCOME_PROMPT:
        return plan->courtesy == FIN_COURTESY_PROMPT || ours_alone;
    case FIN_OUTCOME_TRUNCATED:
        if (saw(mon, SEEN_MUTE))
            return saw(mon, SEEN_END | SEEN_OVER);
        return told(mon, STAGE(NOTIFIED) | STAGE(EOF)) && r->stage_ns[FIN_STAGE_ANSWERED] < 0
            && (!is(mon, FIN__ANSWER_UNKNOWN) || plan->courtesy == FIN_COURTESY_FULL);
    case FIN_OUTCOME_BOUNDED:
        return saw(mon, SEEN_BOUND);
    case FIN_OUTCOME_TIMED_OUT:
        return saw(mon, SEEN_LATE);
    case FIN_OUTCOME_RESET:
        return saw(mon, SEEN_PEER_RESET) || ended_badly(mon)
            || (ours_alone && !saw(mon, SEEN_ENDED) && saw(mon, SEEN_UNREAD | SEEN_RESET_ON_CLOSE));
    case FIN_OUTCOME_ERROR:
        return saw(mon, SEEN_FAILED | SEEN_ENDED | SEEN_OVER | SEEN_LOST) && r->error != 0;
    case FIN_OUTCOME_ABORTED:
        return saw(mon, SEEN_ABORT) || plan->courtesy == FIN_COURTESY_ABORT;
    default:
        return false;
    }
}

static void check_outcome(struct monitor *mon, const struct fin_receipt *r)
{
    demand(mon, outcome_has_cause(mon, r), RULE_OUTCOME);
    demand(mon, !saw(mon, SEEN_DROP) || !is_fine(r->outcome), RULE_LOST_UNTOLD);
    check_graceful(mon, r);
}

/* What the last close(2) was to find: it sends RST unless the connection was over before. */
static bool last_close_resets(const struct monitor *mon)
{
    return saw(mon, SEEN_LEFT | SEEN_RESET_ON_CLOSE) && !saw(mon, SEEN_ENDED);
}

static bool every_byte(const struct monitor *mon, const struct fin_receipt *r)
{
    if (saw(mon, SEEN_DROP | SEEN_UNSENT_UNKNOWN) || r->unsent)
        return false;
    return mon->config->plan.descriptor_only || told(mon, STAGE(FLUSHED));
}

/* A FIN that the peer has, and that nothing made worse. What a Unix peer does later is not seen of
 * a socket that has failed. */
static bool ended_in_fin(const struct monitor *mon, const struct fin_receipt *r)
{
    bool watched = !saw(mon, SEEN_DEATH) || r->stage_ns[FIN_STAGE_EOF] >= 0;

    return saw(mon, SEEN_ACKED) && every_byte(mon, r) && (watched || !is(mon, FIN__ACK_AT_SHUT))
        && !saw(mon, SEEN_RESET_DONE | SEEN_PEER_RESET)
        && !(last_close_resets(mon) && r->held != FIN_YES)
        && !(saw(mon, SEEN_RESET_UNSURE) && !saw(mon, SEEN_ENDED | SEEN_END) && r->held != FIN_YES);
}

/* By the last close(2), without our doing: with the peer at once. */
static bool ended_by_itself(const struct monitor *mon, const struct fin_receipt *r)
{
    return is(mon, FIN__ACK_AT_SHUT) && r->held == FIN_NO && !saw(mon, SEEN_DROP | SEEN_PEER_RESET)
        && !last_close_resets(mon) && !r->unsent && !saw(mon, SEEN_RESET_UNSURE);
}

static void check_how_it_ended(struct monitor *mon, const struct fin_receipt *r)
{
    bool ours = saw(mon, SEEN_RESET_DONE) || (last_close_resets(mon) && r->held == FIN_NO);
    bool reset = saw(mon, SEEN_PEER_RESET) || (ours && !saw(mon, SEEN_RESET_UNSURE));
    bool stream = is(mon, FIN__STREAM) && !saw(mon, SEEN_NEVER);

    if (r->end == FIN_END_FIN)
        demand(mon, ended_in_fin(mon, r) || ended_by_itself(mon, r), RULE_END_FIN);
    if (r->end == FIN_END_RESET)
        demand(mon, reset, RULE_END_RESET);
    if (r->end == FIN_END_NONE)
        demand(mon, !stream || (r->held == FIN_YES && !saw(mon, SEEN_ENDED | SEEN_SHUT_LAST)),
               RULE_END_NONE);
    if (r->end == FIN_END_KERNEL)
        demand(mon, !stream || (!reset && !ended_in_fin(mon, r)), RULE_END_KERNEL);
}

static void check_counts(struct monitor *mon, const struct fin_receipt *r)
{
    bool acked = r->stage_ns[FIN_STAGE_ACKED] >= 0 && !saw(mon, SEEN_ACK_LATE);

    demand(mon, r->forced == saw(mon, SEEN_FORCE), RULE_FORCED);
    demand(mon, r->unsent == mon->unsent, RULE_UNSENT);
    demand(mon, !r->unsent || r->stage_ns[FIN_STAGE_FLUSHED] < 0 || !ends_connection(mon),
           RULE_UNSENT);
    demand(mon, !r->unacked || (!acked && r->unacked == mon->tallied), RULE_UNACKED);
    if (saw(mon, SEEN_TALLY) && !saw(mon, SEEN_ACKED)
        && !saw(mon, SEEN_PEER_RESET | SEEN_DEATH | SEEN_ABORT))
        demand(mon, r->unacked == mon->tallied, RULE_UNACKED);
    demand(mon, r->discarded == mon->discarded, RULE_DISCARDED);
    demand(mon, r->accepted == mon->accepted, RULE_ACCEPTED);
}

/* Stages that no event tells need not be in the receipt; those that one told must. */
static void check_complete(struct monitor *mon, const struct fin_receipt *r)
{
    unsigned tells = mon->stages, all = reached_stages(r);

    if (!ends_connection(mon))
        tells &= ~STAGE(FLUSHED);
    if (mon->config->plan.courtesy == FIN_COURTESY_ABORT)
        tells &= ~STAGE(FLUSHED);
    if (mon->config->plan.courtesy == FIN_COURTESY_PROMPT) /* not waited for, need not be told */
        tells &= ~STAGE(ACKED);
    if (!told(mon, STAGE(SHUT))) /* nothing was ended: by whom the stream was doesn't matter */
        tells &= ~STAGE(EOF);
    if (is(mon, FIN__QUENCHABLE)) /* after we shut the read side, read = 0 is ours */
        tells &= ~STAGE(EOF);
    demand(mon, !(tells & ~all), RULE_STAGE_MISSED);
}

void monitor_end(struct monitor *mon, const struct fin_receipt *r)
{
    uint8_t proof = mon->config->plan.proof;

    for (unsigned i = FIN_STAGE_UNREFERENCED; i < FIN_STAGES; i++)
        demand(mon, i <= proof || !(r->unverifiable & 1u << i), RULE_UNVERIFIABLE_UNASKED);
    demand(mon, r->held == mon->held, RULE_HELD);
    check_outcome(mon, r);
    check_how_it_ended(mon, r);
    check_counts(mon, r);
    check_complete(mon, r);
}
