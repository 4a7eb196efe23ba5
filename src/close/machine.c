/* SPDX-License-Identifier: MIT */

/* How a close goes. What follows from each event is decided here, and in machine_*.c.
 *
 *   start    decides which of these the policy and the kind of socket need
 *   flush    the layer's buffers are sent; what can't be sent in time is dropped, and ends in RST.
 *            A peer that takes anything gets its time anew, here, in farewell and in linger
 *   farewell the layer says close_notify; under courtesy full its answer is read
 *   FIN      input that is there is read first, so that no RST comes of it, and the FIN is queued
 *   linger   until the peer has acknowledged it and has sent its own: input is thrown away
 *   way out  RST if bytes of the program's are missing; else what the kernel still has to send is
 *            left to it, cut, or given a time
 *   release  out of the poller, into the witness, and close(2)               (machine_proof.c)
 *   proof    nothing refers to it; the connection is over; TIME_WAIT is, too (machine_proof.c)
 *
 * Each part ends by calling the function that begins the next. A driver carries out the returned
 * action, and comes back with an event, which goes to the function of the present place: `flush`
 * returns the action, `flushing` takes its event. */

#include "close/machine_parts.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

#define LATE_READS 4 /* after a deadline */

typedef enum fin__action place_fn(struct fin__machine *m, const struct fin__event *ev);
typedef enum fin__action next_fn(struct fin__machine *m);

static place_fn machine_flush, machine_notify, linger, broken, tallying;
static next_fn shut, drop_and_reset, machine_reset, let_go, quench;

/* ---- what is used all the way ---- */

static uint64_t total(const struct fin__machine *m)
{
    return m->forced ? 0 : m->start + m->plan->total;
}

static void machine_arm(struct fin__machine *m, uint64_t now, uint64_t span)
{
    uint64_t last = total(m);

    m->deadline = last < now || last - now < span ? last : now + span;
}

/* The deadline has passed. We may notice late, because input kept arriving. */
static bool late(const struct fin__machine *m, const struct fin__event *ev)
{
    return ev->now >= m->deadline;
}

/* The end may be queued behind this input and have come in time: reads a few times more before
 * giving up. */
static bool too_late(struct fin__machine *m, const struct fin__event *ev)
{
    return late(m, ev) && m->late_reads++ >= LATE_READS;
}

/* Accounts for drained bytes; false if there is more input than may be thrown away. */
static bool may_drain_on(struct fin__machine *m, const struct fin__event *ev)
{
    bool only_looked = fin__drain_left(m) == 0;

    assert(ev->bytes <= fin__drain_left(m));
    m->discarded += ev->bytes;
    return !only_looked;
}

/* read(2) gave 0, or the layer said that the stream is over. Without the peer's FIN that is our own
 * doing, a shutdown(2) of the read side: the FIN may still come. */
static void input_ended(struct fin__machine *m, const struct fin__event *ev)
{
    m->input_over = true;
    fin__machine_judge(m, ev);
    if (m->mute)
        fin__machine_decide(m, FIN_OUTCOME_TRUNCATED);
    if (!fin__reached(m, FIN_STAGE_NOTIFIED))
        return;
    if (!fin__reached(m, FIN_STAGE_EOF))
        cannot_verify(m, FIN_STAGE_ANSWERED);
    else if (!settled(m, FIN_STAGE_ANSWERED))
        fin__machine_decide(m, FIN_OUTCOME_TRUNCATED);
}

/* ---- the start ---- */

static enum fin__action first_action(struct fin__machine *m, const struct fin__event *ev)
{
    if (m->plan->descriptor_only)
        return fin__machine_unwatch(m);
    if (m->traits & FIN__LISTENING)
        return go(m, REFUSING, FIN__REFUSE);
    if (m->traits & FIN__CONNECTING)
        return go(m, ABANDONING, FIN__ABANDON);
    if (m->plan->courtesy == FIN_COURTESY_ABORT)
        fin__machine_decide(m, FIN_OUTCOME_ABORTED);
    if (m->plan->courtesy == FIN_COURTESY_PROMPT)
        fin__machine_decide(m, FIN_OUTCOME_PROMPT);
    if (!(m->traits & (FIN__STREAM | FIN__LAYERED)))
        return fin__machine_unwatch(m);
    if (m->plan->courtesy == FIN_COURTESY_ABORT)
        return m->traits & FIN__STREAM ? machine_reset(m) : fin__machine_unwatch(m);
    return machine_flush(m, ev);
}

enum fin__action fin__machine_start(struct fin__machine *m, const struct fin__plan *plan,
                                    unsigned traits, unsigned facts, uint64_t now)
{
    struct fin__event ev = { .now = now };

    memset(m, 0, sizeof *m);
    memset(m->stage, -1, sizeof m->stage);
    m->plan = plan;
    m->traits = (uint16_t) traits;
    m->start = now;
    m->held = FIN_UNVERIFIABLE;
    m->outstanding = facts & FIN__IS_OUTSTANDING ? FIN__UNTALLIED : 0;
    m->wants = FIN__READ;
    reach(m, FIN_STAGE_REQUESTED, now);
    return first_action(m, &ev);
}

/* ---- does the peer take anything? ---- */

static void start_measuring(struct fin__machine *m, uint64_t now, uint64_t span)
{
    m->outstanding = FIN__UNTALLIED;
    machine_arm(m, now, span);
}

/* What the wait is for. */
static enum place unmeasured(const struct fin__machine *m)
{
    if (m->phase == FIN_PHASE_FLUSH)
        return FLUSHING;
    return fin__reached(m, FIN_STAGE_NOTIFIED) ? ANSWERING : NOTIFYING;
}

static enum fin__action measure(struct fin__machine *m, unsigned interest)
{
    m->interest = (uint8_t) interest;
    return go(m, MEASURING, FIN__MEASURE);
}

/* There is no room to send before a third of the kernel's queue is gone (sk_stream_min_wspace()),
 * and no answer before all of it is. While it shrinks the peer is alive: it gets its time anew. */
static bool takes_some(struct fin__machine *m, const struct fin__event *ev)
{
    bool first = m->outstanding == FIN__UNTALLIED;
    bool shrinks = !first && ev->bytes < m->outstanding && ev->now < total(m);

    m->outstanding = clamp(ev->bytes);
    if (shrinks)
        machine_arm(m, ev->now, m->phase == FIN_PHASE_FLUSH ? m->plan->flush : m->plan->farewell);
    return shrinks;
}

static enum fin__action overdue(struct fin__machine *m, const struct fin__event *ev)
{
    if (ev->kind == FIN__BYTES && takes_some(m, ev))
        return go(m, unmeasured(m), FIN__WAIT);
    fin__machine_decide(m, FIN_OUTCOME_TIMED_OUT);
    return m->phase == FIN_PHASE_FLUSH ? drop_and_reset(m) : shut(m);
}

static enum fin__action measuring(struct fin__machine *m, const struct fin__event *ev)
{
    if (ev->kind == FIN__DEADLINE) /* forced */
        return overdue(m, ev);
    (void) takes_some(m, ev);
    return go(m, unmeasured(m), FIN__WAIT);
}

/* ---- flush: what is buffered above the kernel ---- */

static enum fin__action machine_flush(struct fin__machine *m, const struct fin__event *ev)
{
    if (!(m->traits & FIN__LAYERED)) {
        reach(m, FIN_STAGE_FLUSHED, ev->now);
        return machine_notify(m, ev);
    }
    m->phase = FIN_PHASE_FLUSH;
    start_measuring(m, ev->now, m->plan->flush);
    return go(m, FLUSHING, FIN__FLUSH);
}

static enum fin__action flushing(struct fin__machine *m, const struct fin__event *ev)
{
    switch (ev->kind) {
    case FIN__DONE:
        m->unsent = 0;
        reach(m, FIN_STAGE_FLUSHED, ev->now);
        return machine_notify(m, ev);
    case FIN__READY:
        if (ev->facts & FIN__IS_WRITABLE) /* the peer took something: progress */
            machine_arm(m, ev->now, m->plan->flush);
        return FIN__FLUSH;
    case FIN__AGAIN:
        m->unsent = ev->bytes;
        return measure(m, ev->interest);
    case FIN__DEADLINE:
        return go(m, OVERDUE, FIN__MEASURE);
    default: /* FIN__BROKEN, FIN__FAILED */
        m->unsent = ev->bytes;
        fin__machine_fail(m, ev->error);
        return drop_and_reset(m);
    }
}

/* ---- farewell ---- */

static enum fin__action farewell_missed(struct fin__machine *m, enum fin_outcome outcome)
{
    fin__machine_decide(m, outcome);
    return shut(m);
}

static enum fin__action machine_notify(struct fin__machine *m, const struct fin__event *ev)
{
    if (!(m->traits & FIN__STREAM))
        return fin__machine_unwatch(m);
    if (!(m->traits & FIN__LAYERED))
        return shut(m);
    m->phase = FIN_PHASE_FAREWELL;
    start_measuring(m, ev->now, m->plan->farewell);
    return go(m, NOTIFYING, FIN__NOTIFY);
}

static enum fin__action notifying(struct fin__machine *m, const struct fin__event *ev)
{
    switch (ev->kind) {
    case FIN__DONE:
        reach(m, FIN_STAGE_NOTIFIED, ev->now);
        if (m->plan->courtesy == FIN_COURTESY_FULL || m->plan->awaits_answer) {
            start_measuring(m, ev->now, m->plan->farewell);
            return go(m, ANSWERING, FIN__DRAIN);
        }
        if (m->traits & FIN__ANSWER_UNKNOWN)
            cannot_verify(m, FIN_STAGE_ANSWERED);
        return shut(m);
    case FIN__READY:
        return FIN__NOTIFY;
    case FIN__AGAIN:
        return measure(m, ev->interest);
    case FIN__SKIP:
        m->mute = ev->facts & FIN__IS_MUTE;
        return shut(m);
    case FIN__BROKEN:
        fin__machine_fail(m, ev->error);
        return drop_and_reset(m);
    case FIN__DEADLINE:
        return go(m, OVERDUE, FIN__MEASURE);
    default:
        /* EPIPE: FIN is out already, by the program or by a reset; what is read next tells. */
        if (ev->error != -EPIPE)
            fin__machine_fail(m, ev->error);
        return m->outcome == FIN_OUTCOME_RESET ? fin__machine_unwatch(m) : shut(m);
    }
}

static enum fin__action answering(struct fin__machine *m, const struct fin__event *ev)
{
    switch (ev->kind) {
    case FIN__READY:
        return FIN__DRAIN;
    case FIN__AGAIN:
        return measure(m, ev->interest);
    case FIN__BYTES:
        if (!may_drain_on(m, ev))
            return farewell_missed(m, FIN_OUTCOME_BOUNDED);
        return too_late(m, ev) ? farewell_missed(m, FIN_OUTCOME_TIMED_OUT) : FIN__DRAIN;
    case FIN__ANSWER:
        reach(m, FIN_STAGE_ANSWERED, ev->now);
        return shut(m);
    case FIN__END:
        input_ended(m, ev);
        return m->over ? let_go(m) : shut(m);
    case FIN__DEADLINE:
        return go(m, OVERDUE, FIN__MEASURE);
    case FIN__BROKEN:
        fin__machine_fail(m, ev->error);
        return shut(m);
    default:
        return broken(m, ev);
    }
}

/* ---- FIN ---- */

static enum fin__action shut(struct fin__machine *m)
{
    if (m->traits & FIN__LAYERED) /* to be tallied once FIN is queued */
        m->outstanding = FIN__UNTALLIED;
    return go(m, SHUTTING, FIN__SHUT);
}

static enum fin__action shutting(struct fin__machine *m, const struct fin__event *ev)
{
    /* It is over already: what is left to read tells how. */
    if (ev->kind == FIN__FAILED && ev->error == -ENOTCONN) {
        m->over_before = true;
        return go(m, EMPTYING, FIN__DRAIN);
    }
    if (ev->kind == FIN__FAILED)
        return broken(m, ev);
    m->shut = true;
    reach(m, FIN_STAGE_SHUT, ev->now);
    if (m->traits & FIN__ACK_AT_SHUT) {
        m->acked = true;
        reach(m, FIN_STAGE_ACKED, ev->now);
    }
    if (m->plan->courtesy != FIN_COURTESY_PROMPT)
        return linger(m, ev);
    m->phase = FIN_PHASE_LINGER;
    if (m->traits & FIN__QUENCHABLE)
        return quench(m);
    return go(m, EMPTYING, FIN__DRAIN);
}

/* The stream ended before this close could end it. What is seen of it says how. */
static void ended_before(struct fin__machine *m, const struct fin__event *ev)
{
    if (ev->facts & FIN__IS_SHUT)
        reach(m, FIN_STAGE_SHUT, ev->now);
    fin__machine_judge(m, ev);
    if (m->mute && m->plan->courtesy != FIN_COURTESY_PROMPT)
        fin__machine_decide(m, FIN_OUTCOME_TRUNCATED);
    if (!m->over)
        fin__machine_fail(m, -ENOTCONN);
}

/* We alone have ended it, and nothing is read any more (FIN_WAIT2): close(2) may still reset it. */
static bool is_half_closed(const struct fin__machine *m)
{
    return m->input_over && m->acked && !fin__reached(m, FIN_STAGE_EOF);
}

static enum fin__action emptied(struct fin__machine *m)
{
    if (m->over || (!m->outstanding && !is_half_closed(m)))
        return fin__machine_unwatch(m);
    m->outstanding = 0;
    return go(m, TALLYING, FIN__TALLY);
}

/* What a tally counted before does not count any more, nor does the peer that it might reset. */
static void read_since(struct fin__machine *m)
{
    if (m->unread && m->traits & FIN__QUENCHABLE)
        m->reset_unsure = false;
    m->unread = false;
}

/* Input must not be left unread: close(2) would turn our FIN into RST. */
static enum fin__action emptying(struct fin__machine *m, const struct fin__event *ev)
{
    bool bounded;

    if (ev->kind != FIN__DEADLINE)
        read_since(m);
    switch (ev->kind) {
    case FIN__BYTES:
        bounded = !may_drain_on(m, ev);
        if (!bounded && ev->now < total(m))
            return FIN__DRAIN;
        fin__machine_decide(m, bounded ? FIN_OUTCOME_BOUNDED : FIN_OUTCOME_TIMED_OUT);
        return go(m, TALLYING, FIN__TALLY);
    case FIN__BROKEN:
        fin__machine_fail(m, ev->error);
        return FIN__DRAIN;
    case FIN__ANSWER:
        reach(m, FIN_STAGE_ANSWERED, ev->now);
        return FIN__DRAIN;
    case FIN__END:
        m->input_over = true;
        if (fin__reached(m, FIN_STAGE_SHUT))
            fin__machine_judge(m, ev);
        else
            ended_before(m, ev);
        return emptied(m);
    case FIN__DEADLINE: /* forced */
        fin__machine_decide(m, FIN_OUTCOME_TIMED_OUT);
        return go(m, TALLYING, FIN__TALLY);
    case FIN__AGAIN:
        if (!fin__reached(m, FIN_STAGE_SHUT))
            ended_before(m, ev);
        return emptied(m);
    default:
        break;
    }
    if (ev->error != -ENOTCONN || fin__reached(m, FIN_STAGE_SHUT) || m->quenched)
        return broken(m, ev);
    m->traits &= (uint16_t) ~FIN__STREAM; /* never connected: no stream to end */
    return fin__machine_unwatch(m);
}

/* ---- linger: FIN is queued; acked and eof are to come ---- */

static bool lingered(const struct fin__machine *m)
{
    return settled(m, FIN_STAGE_ACKED) && settled(m, FIN_STAGE_EOF);
}

static enum fin__action linger_on(struct fin__machine *m)
{
    unsigned interest = m->input_over ? 0 : m->wants;

    if (lingered(m))
        return let_go(m);
    if (!settled(m, FIN_STAGE_ACKED) || m->input_over) /* the FIN of a stream that reads no more */
        interest |= FIN__ACK;
    return wait_for(m, interest);
}

static enum fin__action machine_look(struct fin__machine *m)
{
    m->looking = true;
    return FIN__LOOK;
}

static enum fin__action drain_or_wait(struct fin__machine *m)
{
    if (!m->input_over && (m->edge_used || m->traits & FIN__LAYERED))
        return FIN__DRAIN;
    return linger_on(m);
}

static enum fin__action linger(struct fin__machine *m, const struct fin__event *ev)
{
    m->phase = FIN_PHASE_LINGER;
    machine_arm(m, ev->now, m->plan->linger);
    m->place = LINGERING;
    return m->outstanding ? FIN__TALLY : drain_or_wait(m);
}

static enum fin__action linger_deadline(struct fin__machine *m, const struct fin__event *ev)
{
    /* While the kernel's queue shrinks the peer is alive: it gets its time anew. */
    if (!m->acked && ev->bytes < m->outstanding && ev->now < total(m)) {
        m->outstanding = clamp(ev->bytes);
        machine_arm(m, ev->now, m->plan->linger);
        return drain_or_wait(m);
    }
    fin__machine_decide(m, FIN_OUTCOME_TIMED_OUT);
    return tallying(m, ev);
}

/* What is left to read shows how it ended, and only that is still wanted. */
static enum fin__action over_at_a_look(struct fin__machine *m, const struct fin__event *ev)
{
    if (!m->input_over && !m->reading_out) {
        m->reading_out = true;
        return FIN__DRAIN;
    }
    if (!m->input_over)
        fin__machine_decide(m, FIN_OUTCOME_TIMED_OUT);
    fin__machine_judge(m, ev);
    return let_go(m);
}

static enum fin__action linger_state(struct fin__machine *m, const struct fin__event *ev)
{
    bool looked = m->looking;

    m->looking = false;
    fin__machine_note(m, ev);
    if (ev->facts & FIN__IS_OVER)
        return over_at_a_look(m, ev);
    if (m->outstanding == FIN__UNTALLIED) { /* the first tally */
        m->outstanding = clamp(ev->bytes);
        return drain_or_wait(m);
    }
    if (lingered(m))
        return let_go(m);
    if (late(m, ev))
        return looked ? FIN__TALLY : linger_deadline(m, ev);
    return linger_on(m);
}

static enum fin__action lingering(struct fin__machine *m, const struct fin__event *ev)
{
    switch (ev->kind) {
    case FIN__READY:
        return m->input_over ? machine_look(m) : FIN__DRAIN;
    case FIN__BYTES:
        if (may_drain_on(m, ev))
            return too_late(m, ev) ? FIN__TALLY : FIN__DRAIN;
        fin__machine_decide(m, FIN_OUTCOME_BOUNDED);
        return let_go(m);
    case FIN__BROKEN:
        fin__machine_fail(m, ev->error);
        return FIN__DRAIN;
    case FIN__ANSWER:
        reach(m, FIN_STAGE_ANSWERED, ev->now);
        return FIN__DRAIN;
    case FIN__END:
        input_ended(m, ev);
        return m->over ? let_go(m) : linger_on(m);
    case FIN__AGAIN:
        m->wants = (uint8_t) ev->interest;
        if (late(m, ev))
            return FIN__TALLY;
        return settled(m, FIN_STAGE_ACKED) ? linger_on(m) : machine_look(m);
    case FIN__STATE:
        return linger_state(m, ev);
    case FIN__DEADLINE: /* the driver may be late too: what has come by now counts */
        if (m->input_over || m->forced)
            return FIN__TALLY;
        m->edge_used = true;
        return FIN__DRAIN;
    default:
        return broken(m, ev);
    }
}

/* ---- what is no stream with two ends ---- */

static enum fin__action abandoning(struct fin__machine *m, const struct fin__event *ev)
{
    m->unacked = clamp(ev->bytes);
    if (ev->kind == FIN__FAILED && ev->error != -ENOTCONN)
        fin__machine_fail(m, ev->error);
    if (m->unacked) /* sent with the SYN, and never taken back */
        fin__machine_fail(m, -ENOTCONN);
    return fin__machine_unwatch(m);
}

static enum fin__action refusing(struct fin__machine *m, const struct fin__event *ev)
{
    m->phase = FIN_PHASE_LINGER;
    machine_arm(m, ev->now, m->plan->linger);
    if (ev->kind == FIN__FAILED)
        fin__machine_fail(m, ev->error);
    return go(m, ACCEPTING, FIN__ACCEPT);
}

/* More may come, and close(2) will reset it. */
static enum fin__action queue_left(struct fin__machine *m)
{
    fin__machine_decide(m, FIN_OUTCOME_TIMED_OUT);
    return fin__machine_unwatch(m);
}

static enum fin__action accepting(struct fin__machine *m, const struct fin__event *ev)
{
    switch (ev->kind) {
    case FIN__BYTES:
        m->accepted += (uint32_t) ev->bytes;
        return late(m, ev) ? queue_left(m) : FIN__ACCEPT;
    case FIN__READY:
        return FIN__ACCEPT;
    case FIN__AGAIN:
        return wait_for(m, FIN__READ);
    case FIN__END:
        return fin__machine_unwatch(m);
    case FIN__DEADLINE:
        return queue_left(m);
    default:
        return broken(m, ev);
    }
}

/* ---- the way out: the same for every close ---- */

/* The connection broke by itself: nothing more can be sent to the peer. */
static enum fin__action broken(struct fin__machine *m, const struct fin__event *ev)
{
    bool again = m->died;

    fin__machine_judge(m, ev);
    fin__machine_fail(m, ev->error);
    m->died = true;
    if (m->over || again || !(m->traits & FIN__STREAM))
        return fin__machine_unwatch(m);
    return go(m, TALLYING, FIN__TALLY);
}

/* Bytes of the program are lost: FIN would mean that the peer has them all. */
static enum fin__action drop_and_reset(struct fin__machine *m)
{
    if (!(m->traits & FIN__STREAM))
        return fin__machine_unwatch(m);
    m->must_reset = true;
    return machine_reset(m);
}

static enum fin__action machine_reset(struct fin__machine *m)
{
    return go(m, RESETTING, FIN__RESET);
}

static enum fin__action resetting(struct fin__machine *m, const struct fin__event *ev)
{
    if (ev->unsent && ev->unsent != UINT64_MAX && !fin__reached(m, FIN_STAGE_FLUSHED))
        m->unsent = ev->unsent;
    if (ev->kind == FIN__DONE) {
        m->unacked = clamp(ev->bytes);
        m->resets_on_close = ev->facts & FIN__IS_RESET_ON_CLOSE;
        m->we_reset = !m->resets_on_close;
        m->reset_unsure = ev->facts & FIN__IS_RESET_UNSURE;
        return fin__machine_unwatch(m);
    }
    if (ev->facts & FIN__IS_OVER) { /* nothing was left to reset */
        fin__machine_judge(m, ev);
        if (ev->kind == FIN__FAILED)
            fin__machine_fail(m, ev->error);
        return fin__machine_unwatch(m);
    }
    if (m->must_reset || m->orphaned)
        fin__machine_fail(m, ev->error);
    return go(m, TALLYING, FIN__TALLY);
}

/* The wait for the peer is over: is anything left unsent or unread? */
static enum fin__action let_go(struct fin__machine *m)
{
    if (m->over || (fin__reached(m, FIN_STAGE_ACKED) && fin__reached(m, FIN_STAGE_EOF)))
        return fin__machine_unwatch(m);
    return go(m, TALLYING, FIN__TALLY);
}

static enum fin__action quench(struct fin__machine *m)
{
    m->quenched = true;
    return go(m, QUENCHING, FIN__QUENCH);
}

static enum fin__action quenching(struct fin__machine *m, const struct fin__event *ev)
{
    (void) ev;
    return go(m, EMPTYING, FIN__DRAIN);
}

/* Our FIN counts too: as long as it is not acknowledged the kernel has something to do. */
static bool leaves_an_orphan(const struct fin__machine *m)
{
    return m->plan->courtesy != FIN_COURTESY_PROMPT && !m->acked
        && (m->unacked > 0 || !settled(m, FIN_STAGE_ACKED));
}

static enum fin__action tallying(struct fin__machine *m, const struct fin__event *ev)
{
    bool had_ended = m->input_over;

    if (!fin__machine_tallied(m, ev) || m->died || m->outcome == FIN_OUTCOME_ABORTED)
        return fin__machine_unwatch(m);
    if (had_ended && !m->input_over) {
        m->outstanding = FIN__UNTALLIED; /* to be tallied behind it */
        if (m->late_reads < LATE_READS) {
            m->late_reads = LATE_READS; /* once: what comes then is too much */
            return go(m, EMPTYING, FIN__DRAIN);
        }
        fin__machine_decide(m, FIN_OUTCOME_BOUNDED);
    }
    if (leaves_an_orphan(m)) {
        if (m->plan->orphan_ms == FIN_ORPHAN_RESET && !m->must_reset && !m->orphaned) {
            m->orphaned = true;
            return machine_reset(m);
        }
        if (m->plan->orphan_ms > 0)
            return go(m, LIMITING, FIN__LIMIT);
    }
    if (m->traits & FIN__QUENCHABLE && !m->input_over && fin__drain_left(m) > 0 && !m->quenched)
        return quench(m);
    return fin__machine_unwatch(m);
}

static enum fin__action limiting(struct fin__machine *m, const struct fin__event *ev)
{
    if (ev->kind == FIN__FAILED)
        fin__machine_fail(m, ev->error);
    return fin__machine_unwatch(m);
}

/* ---- the whole ---- */

static place_fn *const places[] = {
    [FLUSHING] = flushing,
    [MEASURING] = measuring,
    [OVERDUE] = overdue,
    [NOTIFYING] = notifying,
    [ANSWERING] = answering,
    [SHUTTING] = shutting,
    [LINGERING] = lingering,
    [ABANDONING] = abandoning,
    [REFUSING] = refusing,
    [ACCEPTING] = accepting,
    [EMPTYING] = emptying,
    [TALLYING] = tallying,
    [QUENCHING] = quenching,
    [LIMITING] = limiting,
    [RESETTING] = resetting,
    [UNWATCHING] = fin__machine_unwatching,
    [WITNESSING] = fin__machine_witnessing,
    [LAST_LOOK] = fin__machine_last_look,
    [RELEASING] = fin__machine_releasing,
    [CHECKING] = fin__machine_checking,
    [INSPECTING] = fin__machine_inspecting,
    [PAUSING] = fin__machine_pausing,
};

static enum fin__action abort_now(struct fin__machine *m)
{
    fin__machine_decide(m, FIN_OUTCOME_ABORTED);
    if (m->place == ABANDONING)
        return FIN__ABANDON;
    if (!(m->traits & FIN__STREAM) || m->plan->descriptor_only)
        return fin__machine_unwatch(m);
    return m->unsent ? drop_and_reset(m) : machine_reset(m);
}

static enum fin__action force(struct fin__machine *m, const struct fin__event *ev)
{
    struct fin__event late = { .kind = FIN__DEADLINE, .now = ev->now };

    m->forced = true;
    m->deadline = ev->now;
    return places[m->place](m, &late);
}

void fin__machine_replan(struct fin__machine *m, uint64_t now)
{
    const struct fin__plan *plan = m->plan;
    const uint64_t spans[] = {
        [FIN_PHASE_NONE] = plan->flush,
        [FIN_PHASE_FLUSH] = plan->flush,
        [FIN_PHASE_FAREWELL] = plan->farewell,
        [FIN_PHASE_LINGER] = plan->linger,
    };

    if (m->outcome == FIN_OUTCOME_PROMPT && plan->courtesy != FIN_COURTESY_PROMPT)
        m->outcome = FIN_OUTCOME_GRACEFUL;
    if (plan->courtesy == FIN_COURTESY_PROMPT)
        fin__machine_decide(m, FIN_OUTCOME_PROMPT);
    machine_arm(m, now, spans[m->phase]);
}

enum fin__action fin__machine_step(struct fin__machine *m, const struct fin__event *ev)
{
    assert(m->place != FINISHED);
    if (ev->kind == FIN__READY)
        m->edge_used = true;
    if (ev->kind == FIN__ABORT
        && m->place < FIRST_WITHOUT_RETURN) /* while UNWATCH is still to be done */
        return abort_now(m);
    if (ev->kind == FIN__FORCE)
        return force(m, ev);
    return places[m->place](m, ev);
}
