/* SPDX-License-Identifier: MIT */

#include "close/machine.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

#define LATE_READS 4 /* after a deadline */

/* Where the close stands: what the event in hand is about. */
enum place {
    FLUSHING,
    NOTIFYING,
    ANSWERING,
    SHUTTING,
    LINGERING,
    ABANDONING,
    REFUSING,
    ACCEPTING,
    EMPTYING, /* a last drain without waiting */
    TALLYING,
    QUENCHING,
    LIMITING,
    RESETTING,
    UNWATCHING,
    WITNESSING,
    RELEASING,
    CHECKING,
    INSPECTING,
    PAUSING,
    FINISHED,
};

static enum fin__action go(struct fin__machine *m, enum place place, enum fin__action action)
{
    m->place = (uint8_t) place;
    return action;
}

static enum fin__action wait_for(struct fin__machine *m, unsigned interest)
{
    m->interest = (uint8_t) interest;
    return FIN__WAIT;
}

static void reach(struct fin__machine *m, enum fin_stage stage, uint64_t now)
{
    if (!fin__reached(m, stage))
        m->stage[stage] = now > m->start ? (int64_t) (now - m->start) : 0;
    m->unverifiable &= (uint16_t) ~(1u << stage);
}

static void cannot_verify(struct fin__machine *m, enum fin_stage stage)
{
    if (!fin__reached(m, stage))
        m->unverifiable |= (uint16_t) (1u << stage);
}

/* True if `stage` need not be waited for any more. */
static bool settled(const struct fin__machine *m, enum fin_stage stage)
{
    return fin__reached(m, stage) || (m->unverifiable & (1u << stage));
}

/* The worst outcome wins, and the first of its kind. */
static void decide(struct fin__machine *m, enum fin_outcome outcome)
{
    if (outcome > (enum fin_outcome) m->outcome) {
        m->outcome = (uint8_t) outcome;
        m->decided = m->phase;
    }
}

static void fail(struct fin__machine *m, int error)
{
    bool by_peer = error == -ECONNRESET || error == -EPIPE || error == -ECONNREFUSED;

    if (!m->error)
        m->error = error;
    m->peer_reset |= by_peer;
    decide(m, by_peer ? FIN_OUTCOME_RESET : FIN_OUTCOME_ERROR);
}

static uint64_t total(const struct fin__machine *m)
{
    return m->forced ? 0 : m->start + m->plan->total;
}

static void arm(struct fin__machine *m, uint64_t now, uint64_t span)
{
    uint64_t last = total(m);

    m->deadline = last < now || last - now < span ? last : now + span;
}

static uint32_t clamp(uint64_t bytes)
{
    return bytes < UINT32_MAX ? (uint32_t) bytes : UINT32_MAX - 1;
}

/* ---- the way out: the same for every close ---- */

static enum fin__action unwatch(struct fin__machine *m)
{
    return go(m, UNWATCHING, FIN__UNWATCH);
}

static enum fin__action reset(struct fin__machine *m)
{
    return go(m, RESETTING, FIN__RESET);
}

/* Bytes of the program's are lost: a FIN would tell the peer that it has them all. */
static enum fin__action drop_and_reset(struct fin__machine *m)
{
    if (!(m->traits & FIN__STREAM))
        return unwatch(m);
    m->must_reset = true;
    return reset(m);
}

/* A lasting end of our waiting, but not of the deadline: input kept coming. */
static bool late(const struct fin__machine *m, const struct fin__event *ev)
{
    return ev->now >= m->deadline;
}

/* The peer has been waited for as long as it may be: what is left behind? */
static enum fin__action let_go(struct fin__machine *m)
{
    if (fin__reached(m, FIN_STAGE_ACKED) && m->input_over)
        return unwatch(m);
    return go(m, TALLYING, FIN__TALLY);
}

/* The connection broke by itself: nothing more can be told to the peer. */
static enum fin__action broken(struct fin__machine *m, int error)
{
    bool again = m->died;

    fail(m, error);
    m->died = true;
    if (m->peer_reset || again || !(m->traits & FIN__STREAM))
        return unwatch(m);
    return go(m, TALLYING, FIN__TALLY);
}

static enum fin__action quench(struct fin__machine *m)
{
    m->quenched = true;
    return go(m, QUENCHING, FIN__QUENCH);
}

static enum fin__action tallying(struct fin__machine *m, const struct fin__event *ev)
{
    if (ev->kind == FIN__STATE) {
        if (ev->facts & FIN__IS_ACKED
            && (m->plan->descriptor_only || fin__reached(m, FIN_STAGE_SHUT)))
            reach(m, FIN_STAGE_ACKED, ev->now);
        m->unacked = fin__reached(m, FIN_STAGE_ACKED) ? 0 : clamp(ev->bytes);
        m->unread = ev->unread > 0 && !m->input_over;
    }
    if (m->plan->descriptor_only || m->died || m->outcome == FIN_OUTCOME_ABORTED)
        return unwatch(m);
    if (m->unacked > 0 && m->plan->courtesy != FIN_COURTESY_PROMPT) {
        if (m->plan->orphan_ms == FIN_ORPHAN_RESET && !m->must_reset)
            return drop_and_reset(m);
        if (m->plan->orphan_ms > 0)
            return go(m, LIMITING, FIN__LIMIT);
    }
    if (m->traits & FIN__QUENCHABLE && !m->input_over && fin__drain_left(m) > 0 && !m->quenched)
        return quench(m);
    return unwatch(m);
}

static enum fin__action limiting(struct fin__machine *m, const struct fin__event *ev)
{
    if (ev->kind == FIN__FAILED)
        fail(m, ev->error);
    return unwatch(m);
}

static enum fin__action quenching(struct fin__machine *m, const struct fin__event *ev)
{
    (void) ev;
    return go(m, EMPTYING, FIN__DRAIN);
}

static enum fin__action resetting(struct fin__machine *m, const struct fin__event *ev)
{
    if (ev->kind == FIN__DONE) {
        m->resets_on_close = ev->facts & FIN__IS_RESET_ON_CLOSE;
        m->we_reset = !m->resets_on_close;
        return unwatch(m);
    }
    if (m->must_reset)
        fail(m, ev->error);
    return go(m, TALLYING, FIN__TALLY);
}

static enum fin__action unwatching(struct fin__machine *m, const struct fin__event *ev)
{
    reach(m, FIN_STAGE_UNWATCHED, ev->now);
    if (m->plan->proof == FIN_STAGE_RELEASED)
        return go(m, RELEASING, FIN__RELEASE);
    return go(m, WITNESSING, FIN__WITNESS);
}

static enum fin__action witnessing(struct fin__machine *m, const struct fin__event *ev)
{
    m->witnessed = ev->kind == FIN__DONE;
    m->asked = ev->facts & FIN__IS_ASKED;
    return go(m, RELEASING, FIN__RELEASE);
}

/* ---- after release: the proof ---- */

static enum fin__action finish(struct fin__machine *m)
{
    if (m->plan->descriptor_only && m->traits & FIN__STREAM && m->held == FIN_NO)
        decide(m, m->unread || m->resets_on_close ? FIN_OUTCOME_RESET : FIN_OUTCOME_PROMPT);
    return go(m, FINISHED, FIN__FINISH);
}

static enum fin__action inspect_or_pause(struct fin__machine *m, const struct fin__event *ev);

static enum fin__action check(struct fin__machine *m, const struct fin__event *ev)
{
    if (!settled(m, FIN_STAGE_UNREFERENCED))
        return go(m, CHECKING, FIN__CHECK);
    return inspect_or_pause(m, ev);
}

static enum fin__action releasing(struct fin__machine *m, const struct fin__event *ev)
{
    m->phase = FIN_PHASE_NONE;
    m->tries = 0;
    reach(m, FIN_STAGE_RELEASED, ev->now);
    if (ev->kind == FIN__FAILED && ev->error != -EINTR)
        fail(m, ev->error);
    if (m->plan->proof == FIN_STAGE_RELEASED)
        return finish(m);
    if (!m->witnessed)
        cannot_verify(m, FIN_STAGE_UNREFERENCED);
    if (!m->asked && m->traits & FIN__SOCKET) {
        if (m->plan->proof >= FIN_STAGE_FINISHED)
            cannot_verify(m, FIN_STAGE_FINISHED);
        if (m->plan->proof >= FIN_STAGE_GONE)
            cannot_verify(m, FIN_STAGE_GONE);
    }
    m->deadline = ev->now + m->plan->proof_wait;
    return check(m, ev);
}

static enum fin__action pause_or_finish(struct fin__machine *m, const struct fin__event *ev,
                                        uint64_t span)
{
    uint64_t end = (uint64_t) m->stage[FIN_STAGE_RELEASED] + m->start + m->plan->proof_wait;
    enum fin_stage proof =
        m->traits & FIN__SOCKET ? (enum fin_stage) m->plan->proof : FIN_STAGE_UNREFERENCED;

    if (settled(m, proof) || ev->now >= end || m->forced)
        return finish(m);
    m->deadline = end - ev->now < span ? end : ev->now + span;
    go(m, PAUSING, FIN__WAIT);
    return wait_for(m, 0);
}

static uint64_t next_pause(struct fin__machine *m, const struct fin__event *ev)
{
    uint64_t span = m->plan->backoff << m->tries;

    if (ev->facts & FIN__IS_ANNOUNCED)
        return m->plan->proof_wait;
    if (span >= m->plan->backoff_max)
        return m->plan->backoff_max;
    m->tries++;
    return span;
}

static enum fin__action inspect_or_pause(struct fin__machine *m, const struct fin__event *ev)
{
    if (m->asked)
        return go(m, INSPECTING, FIN__INSPECT);
    return pause_or_finish(m, ev, next_pause(m, ev));
}

static enum fin__action checking(struct fin__machine *m, const struct fin__event *ev)
{
    if (ev->kind == FIN__NO) {
        m->held = FIN_NO;
        reach(m, FIN_STAGE_UNREFERENCED, ev->now);
    } else if (ev->kind == FIN__YES) {
        m->held = FIN_YES;
    } else {
        m->held = FIN_UNVERIFIABLE;
        cannot_verify(m, FIN_STAGE_UNREFERENCED);
    }
    return inspect_or_pause(m, ev);
}

static enum fin__action inspecting(struct fin__machine *m, const struct fin__event *ev)
{
    uint64_t span = next_pause(m, ev);

    if (ev->kind == FIN__FAILED) {
        m->asked = false;
        cannot_verify(m, FIN_STAGE_FINISHED);
        if (m->plan->proof == FIN_STAGE_GONE)
            cannot_verify(m, FIN_STAGE_GONE);
    } else {
        if (ev->facts & FIN__IS_FINISHED)
            reach(m, FIN_STAGE_FINISHED, ev->now);
        if (ev->facts & FIN__IS_GONE)
            reach(m, FIN_STAGE_GONE, ev->now);
        if (ev->wait > span)
            span = ev->wait;
    }
    return pause_or_finish(m, ev, span);
}

static enum fin__action pausing(struct fin__machine *m, const struct fin__event *ev)
{
    if (ev->kind == FIN__ABORT || m->forced)
        return finish(m);
    if (ev->facts & FIN__IS_ACKED && fin__reached(m, FIN_STAGE_SHUT))
        reach(m, FIN_STAGE_ACKED, ev->now);
    if (ev->facts & FIN__IS_FINISHED)
        reach(m, FIN_STAGE_FINISHED, ev->now);
    return check(m, ev);
}

/* ---- linger: FIN is queued; acked and eof are to come ---- */

static bool lingered(const struct fin__machine *m)
{
    return settled(m, FIN_STAGE_ACKED) && m->input_over;
}

static enum fin__action linger_on(struct fin__machine *m)
{
    unsigned interest = m->input_over ? 0 : m->wants;

    if (lingered(m))
        return let_go(m);
    if (!settled(m, FIN_STAGE_ACKED))
        interest |= FIN__ACK;
    return wait_for(m, interest);
}

static enum fin__action look(struct fin__machine *m)
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
    arm(m, ev->now, m->plan->linger);
    m->place = LINGERING;
    return m->outstanding ? FIN__TALLY : drain_or_wait(m);
}

static void note_acked(struct fin__machine *m, const struct fin__event *ev)
{
    if (ev->facts & FIN__IS_ACKED)
        reach(m, FIN_STAGE_ACKED, ev->now);
    else if (ev->facts & FIN__IS_UNKNOWN)
        cannot_verify(m, FIN_STAGE_ACKED);
}

/* read(2) gave 0, or the layer said that the stream is over. */
static void input_ended(struct fin__machine *m, const struct fin__event *ev)
{
    m->input_over = true;
    if (fin__reached(m, FIN_STAGE_SHUT))
        note_acked(m, ev);
    if (!(ev->facts & FIN__IS_FIN)) {
        cannot_verify(m, FIN_STAGE_EOF);
        if (fin__reached(m, FIN_STAGE_NOTIFIED))
            cannot_verify(m, FIN_STAGE_ANSWERED);
        return;
    }
    reach(m, FIN_STAGE_EOF, ev->now);
    if (fin__reached(m, FIN_STAGE_NOTIFIED) && !settled(m, FIN_STAGE_ANSWERED))
        decide(m, FIN_OUTCOME_TRUNCATED);
}

/* Accounts for drained bytes; false if there is more input than may be thrown away. */
static bool may_drain_on(struct fin__machine *m, const struct fin__event *ev)
{
    bool only_looked = fin__drain_left(m) == 0;

    assert(ev->bytes <= fin__drain_left(m));
    m->discarded += ev->bytes;
    return !only_looked;
}

/* Behind input that came in time the end may have come in time too: a few more reads tell. */
static bool too_late(struct fin__machine *m, const struct fin__event *ev)
{
    return late(m, ev) && m->tries++ >= LATE_READS;
}

static enum fin__action linger_deadline(struct fin__machine *m, const struct fin__event *ev)
{
    /* While the kernel's queue shrinks the peer is alive: it gets its time anew. */
    if (ev->bytes < m->outstanding && ev->now < total(m)) {
        m->outstanding = clamp(ev->bytes);
        arm(m, ev->now, m->plan->linger);
        return drain_or_wait(m);
    }
    decide(m, FIN_OUTCOME_TIMED_OUT);
    return tallying(m, ev);
}

static enum fin__action linger_state(struct fin__machine *m, const struct fin__event *ev)
{
    bool looked = m->looking;

    m->looking = false;
    note_acked(m, ev);
    if (m->outstanding == UINT32_MAX) { /* the first tally */
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
        return m->input_over ? look(m) : FIN__DRAIN;
    case FIN__BYTES:
        if (may_drain_on(m, ev))
            return too_late(m, ev) ? FIN__TALLY : FIN__DRAIN;
        decide(m, FIN_OUTCOME_TIMED_OUT);
        return let_go(m);
    case FIN__BROKEN:
        fail(m, ev->error);
        return FIN__DRAIN;
    case FIN__ANSWER:
        reach(m, FIN_STAGE_ANSWERED, ev->now);
        return FIN__DRAIN;
    case FIN__END:
        input_ended(m, ev);
        return linger_on(m);
    case FIN__AGAIN:
        m->wants = (uint8_t) ev->interest;
        if (late(m, ev))
            return FIN__TALLY;
        return settled(m, FIN_STAGE_ACKED) ? linger_on(m) : look(m);
    case FIN__STATE:
        return linger_state(m, ev);
    case FIN__DEADLINE: /* the driver may be late too: what has come by now counts */
        if (m->input_over || m->forced)
            return FIN__TALLY;
        m->edge_used = true;
        return FIN__DRAIN;
    default:
        return broken(m, ev->error);
    }
}

/* ---- FIN ---- */

static enum fin__action shut(struct fin__machine *m)
{
    return go(m, SHUTTING, FIN__SHUT);
}

static enum fin__action shutting(struct fin__machine *m, const struct fin__event *ev)
{
    /* It is over already: what is left to read tells how. */
    if (ev->kind == FIN__FAILED && ev->error == -ENOTCONN)
        return go(m, EMPTYING, FIN__DRAIN);
    if (ev->kind == FIN__FAILED)
        return broken(m, ev->error);
    reach(m, FIN_STAGE_SHUT, ev->now);
    if (m->traits & FIN__ACK_AT_SHUT)
        reach(m, FIN_STAGE_ACKED, ev->now);
    if (m->plan->courtesy != FIN_COURTESY_PROMPT) {
        if (m->traits & FIN__ACK_UNKNOWN)
            cannot_verify(m, FIN_STAGE_ACKED);
        return linger(m, ev);
    }
    m->phase = FIN_PHASE_LINGER;
    if (m->traits & FIN__QUENCHABLE)
        return quench(m);
    return go(m, EMPTYING, FIN__DRAIN);
}

/* The stream ended before this close could end it: was it both FINs, or a reset whose error the
 * program has already read? The kernel does not tell any more. */
static void ended_before(struct fin__machine *m)
{
    cannot_verify(m, FIN_STAGE_ACKED);
    cannot_verify(m, FIN_STAGE_EOF);
}

static enum fin__action emptied(struct fin__machine *m)
{
    m->unread = false;
    if (!m->outstanding)
        return unwatch(m);
    m->outstanding = 0;
    return go(m, TALLYING, FIN__TALLY);
}

/* Input must not be left unread: close(2) would turn our FIN into RST. */
static enum fin__action emptying(struct fin__machine *m, const struct fin__event *ev)
{
    switch (ev->kind) {
    case FIN__BYTES:
        if (may_drain_on(m, ev) && ev->now < total(m))
            return FIN__DRAIN;
        decide(m, FIN_OUTCOME_TIMED_OUT);
        return go(m, TALLYING, FIN__TALLY);
    case FIN__BROKEN:
        fail(m, ev->error);
        return FIN__DRAIN;
    case FIN__ANSWER:
        reach(m, FIN_STAGE_ANSWERED, ev->now);
        return FIN__DRAIN;
    case FIN__END:
        m->input_over = true;
        if (!fin__reached(m, FIN_STAGE_SHUT))
            ended_before(m);
        else if (ev->facts & FIN__IS_FIN && !m->quenched)
            reach(m, FIN_STAGE_EOF, ev->now);
        return emptied(m);
    case FIN__DEADLINE: /* forced */
        decide(m, FIN_OUTCOME_TIMED_OUT);
        return go(m, TALLYING, FIN__TALLY);
    case FIN__AGAIN:
        if (!fin__reached(m, FIN_STAGE_SHUT))
            ended_before(m);
        return emptied(m);
    default:
        break;
    }
    if (ev->error != -ENOTCONN || fin__reached(m, FIN_STAGE_SHUT) || m->quenched)
        return broken(m, ev->error);
    m->traits &= (uint16_t) ~FIN__STREAM; /* never connected: no stream to end */
    return unwatch(m);
}

static enum fin__action abandoning(struct fin__machine *m, const struct fin__event *ev)
{
    if (ev->kind == FIN__FAILED && ev->error != -ENOTCONN)
        fail(m, ev->error);
    return unwatch(m);
}

/* ---- farewell ---- */

static enum fin__action farewell_missed(struct fin__machine *m)
{
    decide(m, FIN_OUTCOME_TIMED_OUT);
    return shut(m);
}

static enum fin__action notify(struct fin__machine *m, const struct fin__event *ev)
{
    if (!(m->traits & FIN__STREAM))
        return unwatch(m);
    if (!(m->traits & FIN__LAYERED))
        return shut(m);
    m->phase = FIN_PHASE_FAREWELL;
    arm(m, ev->now, m->plan->farewell);
    return go(m, NOTIFYING, FIN__NOTIFY);
}

static enum fin__action notifying(struct fin__machine *m, const struct fin__event *ev)
{
    switch (ev->kind) {
    case FIN__DONE:
        reach(m, FIN_STAGE_NOTIFIED, ev->now);
        if (m->plan->courtesy == FIN_COURTESY_FULL)
            return go(m, ANSWERING, FIN__DRAIN);
        if (m->plan->courtesy == FIN_COURTESY_ORDERLY && m->traits & FIN__ANSWER_UNKNOWN)
            cannot_verify(m, FIN_STAGE_ANSWERED);
        return shut(m);
    case FIN__READY:
        return FIN__NOTIFY;
    case FIN__AGAIN:
        return wait_for(m, ev->interest);
    case FIN__SKIP:
        return shut(m);
    case FIN__BROKEN:
        fail(m, ev->error);
        return drop_and_reset(m);
    case FIN__DEADLINE:
        return farewell_missed(m);
    default:
        /* EPIPE: FIN is out already, by the program or by a reset; what is read next tells. */
        if (ev->error != -EPIPE)
            fail(m, ev->error);
        return m->outcome == FIN_OUTCOME_RESET ? unwatch(m) : shut(m);
    }
}

static enum fin__action answering(struct fin__machine *m, const struct fin__event *ev)
{
    switch (ev->kind) {
    case FIN__READY:
        return FIN__DRAIN;
    case FIN__AGAIN:
        return wait_for(m, ev->interest);
    case FIN__BYTES:
        return may_drain_on(m, ev) && !too_late(m, ev) ? FIN__DRAIN : farewell_missed(m);
    case FIN__ANSWER:
        reach(m, FIN_STAGE_ANSWERED, ev->now);
        return shut(m);
    case FIN__END:
        input_ended(m, ev);
        return shut(m);
    case FIN__DEADLINE:
        return farewell_missed(m);
    case FIN__BROKEN:
        fail(m, ev->error);
        return shut(m);
    default:
        return broken(m, ev->error);
    }
}

/* ---- flush ---- */

static enum fin__action flush(struct fin__machine *m, const struct fin__event *ev)
{
    if (!(m->traits & FIN__LAYERED)) {
        reach(m, FIN_STAGE_FLUSHED, ev->now);
        return notify(m, ev);
    }
    m->phase = FIN_PHASE_FLUSH;
    m->outstanding = UINT32_MAX; /* to be tallied once FIN is queued */
    arm(m, ev->now, m->plan->flush);
    return go(m, FLUSHING, FIN__FLUSH);
}

static enum fin__action flushing(struct fin__machine *m, const struct fin__event *ev)
{
    switch (ev->kind) {
    case FIN__DONE:
        m->unsent = 0;
        reach(m, FIN_STAGE_FLUSHED, ev->now);
        return notify(m, ev);
    case FIN__READY:
        if (ev->facts & FIN__IS_WRITABLE) /* the peer took something: progress */
            arm(m, ev->now, m->plan->flush);
        return FIN__FLUSH;
    case FIN__AGAIN:
        m->unsent = ev->bytes;
        return wait_for(m, ev->interest);
    case FIN__DEADLINE:
        decide(m, FIN_OUTCOME_TIMED_OUT);
        return drop_and_reset(m);
    default: /* FIN__BROKEN, FIN__FAILED */
        m->unsent = ev->bytes;
        fail(m, ev->error);
        return drop_and_reset(m);
    }
}

/* ---- a listening socket, for all its holders ---- */

static enum fin__action refusing(struct fin__machine *m, const struct fin__event *ev)
{
    m->phase = FIN_PHASE_LINGER;
    arm(m, ev->now, m->plan->linger);
    if (ev->kind == FIN__FAILED)
        fail(m, ev->error);
    return go(m, ACCEPTING, FIN__ACCEPT);
}

/* More may come, and close(2) will reset it. */
static enum fin__action queue_left(struct fin__machine *m)
{
    decide(m, FIN_OUTCOME_TIMED_OUT);
    return unwatch(m);
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
        return unwatch(m);
    case FIN__DEADLINE:
        return queue_left(m);
    default:
        return broken(m, ev->error);
    }
}

/* ---- the whole ---- */

typedef enum fin__action place_fn(struct fin__machine *m, const struct fin__event *ev);

static place_fn *const places[] = {
    [FLUSHING] = flushing,   [NOTIFYING] = notifying,   [ANSWERING] = answering,
    [SHUTTING] = shutting,   [LINGERING] = lingering,   [ABANDONING] = abandoning,
    [REFUSING] = refusing,   [ACCEPTING] = accepting,   [EMPTYING] = emptying,
    [TALLYING] = tallying,   [QUENCHING] = quenching,   [LIMITING] = limiting,
    [RESETTING] = resetting, [UNWATCHING] = unwatching, [WITNESSING] = witnessing,
    [RELEASING] = releasing, [CHECKING] = checking,     [INSPECTING] = inspecting,
    [PAUSING] = pausing,
};

static enum fin__action first_action(struct fin__machine *m, const struct fin__event *ev)
{
    if (m->plan->descriptor_only)
        return m->traits & FIN__STREAM ? go(m, TALLYING, FIN__TALLY) : unwatch(m);
    if (m->traits & FIN__LISTENING)
        return go(m, REFUSING, FIN__REFUSE);
    if (m->traits & FIN__CONNECTING)
        return go(m, ABANDONING, FIN__ABANDON);
    if (m->plan->courtesy == FIN_COURTESY_ABORT)
        decide(m, FIN_OUTCOME_ABORTED);
    if (m->plan->courtesy == FIN_COURTESY_PROMPT)
        decide(m, FIN_OUTCOME_PROMPT);
    if (!(m->traits & (FIN__STREAM | FIN__LAYERED)))
        return unwatch(m);
    if (m->plan->courtesy == FIN_COURTESY_ABORT)
        return m->traits & FIN__STREAM ? reset(m) : unwatch(m);
    return flush(m, ev);
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
    m->outstanding = facts & FIN__IS_OUTSTANDING ? UINT32_MAX : 0;
    m->resets_on_close = facts & FIN__IS_RESET_ON_CLOSE;
    m->wants = FIN__READ;
    reach(m, FIN_STAGE_REQUESTED, now);
    return first_action(m, &ev);
}

static enum fin__action abort_now(struct fin__machine *m)
{
    decide(m, FIN_OUTCOME_ABORTED);
    if (!(m->traits & FIN__STREAM) || m->plan->descriptor_only)
        return unwatch(m);
    return m->unsent ? drop_and_reset(m) : reset(m);
}

static enum fin__action force(struct fin__machine *m, const struct fin__event *ev)
{
    struct fin__event late = { .kind = FIN__DEADLINE, .now = ev->now };

    m->forced = true;
    m->deadline = ev->now;
    return places[m->place](m, &late);
}

enum fin__action fin__machine_step(struct fin__machine *m, const struct fin__event *ev)
{
    assert(m->place != FINISHED);
    if (ev->kind == FIN__READY)
        m->edge_used = true;
    if (ev->kind == FIN__ABORT
        && m->place <= UNWATCHING) /* asked while UNWATCH is still to be done */
        return abort_now(m);
    if (ev->kind == FIN__FORCE)
        return force(m, ev);
    return places[m->place](m, ev);
}
