/* SPDX-License-Identifier: MIT */

/* The way out, the same for every close: unwatch, witness, release; and after it the proof. */

#include "close/machine_parts.h"

#include <errno.h>

/* Does the end of the stream depend on what the last close(2) finds, or does a layer have bytes
 * that nobody will send? Then that is checked right before the release, with all that has come
 * by now. */
static bool needs_last_look(const struct fin__machine *m)
{
    if (m->plan->descriptor_only)
        return m->traits & (FIN__STREAM | FIN__CONNECTING | FIN__LAYERED);
    return !m->over && !m->we_reset && (m->unread || m->resets_on_close);
}

static enum fin__action proof_release(struct fin__machine *m)
{
    return needs_last_look(m) ? go(m, LAST_LOOK, FIN__TALLY) : go(m, RELEASING, FIN__RELEASE);
}

enum fin__action fin__machine_unwatch(struct fin__machine *m)
{
    return go(m, UNWATCHING, FIN__UNWATCH);
}

enum fin__action fin__machine_unwatching(struct fin__machine *m, const struct fin__event *ev)
{
    reach(m, FIN_STAGE_UNWATCHED, ev->now);
    if (m->plan->proof == FIN_STAGE_RELEASED)
        return proof_release(m);
    return go(m, WITNESSING, FIN__WITNESS);
}

enum fin__action fin__machine_witnessing(struct fin__machine *m, const struct fin__event *ev)
{
    m->witnessed = ev->kind == FIN__DONE;
    m->confirmed = ev->facts & FIN__IS_CONFIRMED;
    return proof_release(m);
}

enum fin__action fin__machine_last_look(struct fin__machine *m, const struct fin__event *ev)
{
    (void) fin__machine_tallied(m, ev);
    return go(m, RELEASING, FIN__RELEASE);
}

/* ---- after release: the proof ---- */

/* The kernel has ended the connection, as the last look said that it would. */
static void last_reference_went(struct fin__machine *m)
{
    bool resets = !m->over && (m->unread || m->resets_on_close);

    if (m->traits & FIN__STREAM)
        fin__machine_decide(m, resets ? FIN_OUTCOME_RESET : FIN_OUTCOME_PROMPT);
    if (m->traits & FIN__CONNECTING && m->unacked)
        fin__machine_fail(m, -ENOTCONN);
    if (m->unsent)
        fin__machine_fail(m, -ECANCELED);
}

static enum fin__action proof_finish(struct fin__machine *m)
{
    if (m->plan->descriptor_only && m->held == FIN_NO)
        last_reference_went(m);
    return go(m, FINISHED, FIN__FINISH);
}

static enum fin__action inspect_or_pause(struct fin__machine *m, const struct fin__event *ev);

static enum fin__action proof_check(struct fin__machine *m, const struct fin__event *ev)
{
    if (!settled(m, FIN_STAGE_UNREFERENCED))
        return go(m, CHECKING, FIN__CHECK);
    return inspect_or_pause(m, ev);
}

/* Nothing is proved of a descriptor that stays open. */
static enum fin__action stays_open(struct fin__machine *m)
{
    m->held = FIN_YES;
    return go(m, FINISHED, FIN__FINISH);
}

enum fin__action fin__machine_releasing(struct fin__machine *m, const struct fin__event *ev)
{
    m->phase = FIN_PHASE_NONE;
    m->pauses = 0;
    m->reset_unsure |= !m->we_reset && ev->facts & FIN__IS_RESET_UNSURE;
    if (ev->kind == FIN__FAILED && ev->error != -EINTR)
        fin__machine_fail(m, ev->error);
    if (ev->facts & FIN__IS_SHUT) {
        m->shut = true;
        m->acked |= (m->traits & FIN__ACK_AT_SHUT) != 0;
    }
    if (ev->facts & FIN__IS_KEPT)
        return stays_open(m);
    reach(m, FIN_STAGE_RELEASED, ev->now);
    if (m->plan->proof == FIN_STAGE_RELEASED)
        return proof_finish(m);
    if (!m->witnessed)
        cannot_verify(m, FIN_STAGE_UNREFERENCED);
    if (!m->confirmed && m->traits & FIN__SOCKET) {
        if (m->plan->proof >= FIN_STAGE_FINISHED)
            cannot_verify(m, FIN_STAGE_FINISHED);
        if (m->plan->proof >= FIN_STAGE_GONE)
            cannot_verify(m, FIN_STAGE_GONE);
    }
    m->deadline = ev->now + m->plan->proof_wait;
    return proof_check(m, ev);
}

static enum fin__action pause_or_finish(struct fin__machine *m, const struct fin__event *ev,
                                        uint64_t span)
{
    uint64_t end = (uint64_t) m->stage[FIN_STAGE_RELEASED] + m->start + m->plan->proof_wait;
    enum fin_stage proof =
        m->traits & FIN__SOCKET ? (enum fin_stage) m->plan->proof : FIN_STAGE_UNREFERENCED;

    if (settled(m, proof) || ev->now >= end || m->forced)
        return proof_finish(m);
    m->deadline = end - ev->now < span ? end : ev->now + span;
    go(m, PAUSING, FIN__WAIT);
    return wait_for(m, 0);
}

static uint64_t next_pause(struct fin__machine *m, const struct fin__event *ev)
{
    uint64_t span = m->plan->backoff << m->pauses;

    if (ev->facts & FIN__IS_ANNOUNCED)
        return m->plan->proof_wait;
    if (span >= m->plan->backoff_max)
        return m->plan->backoff_max;
    m->pauses++;
    return span;
}

static enum fin__action inspect_or_pause(struct fin__machine *m, const struct fin__event *ev)
{
    if (m->confirmed)
        return go(m, INSPECTING, FIN__INSPECT);
    return pause_or_finish(m, ev, next_pause(m, ev));
}

enum fin__action fin__machine_checking(struct fin__machine *m, const struct fin__event *ev)
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

/* TIME_WAIT, or the counts of a destroyed socket, show whether our FIN is acknowledged. */
static void note_acked(struct fin__machine *m, const struct fin__event *ev)
{
    if (!(ev->facts & FIN__IS_ACKED) || !fin__reached(m, FIN_STAGE_SHUT))
        return;
    m->acked = true;
    reach(m, FIN_STAGE_ACKED, ev->now);
}

enum fin__action fin__machine_inspecting(struct fin__machine *m, const struct fin__event *ev)
{
    uint64_t span = next_pause(m, ev);

    if (ev->kind == FIN__FAILED) {
        m->confirmed = false;
        cannot_verify(m, FIN_STAGE_FINISHED);
        if (m->plan->proof == FIN_STAGE_GONE)
            cannot_verify(m, FIN_STAGE_GONE);
    } else {
        note_acked(m, ev);
        if (ev->facts & FIN__IS_FINISHED)
            reach(m, FIN_STAGE_FINISHED, ev->now);
        if (ev->facts & FIN__IS_GONE)
            reach(m, FIN_STAGE_GONE, ev->now);
        if (ev->wait > span)
            span = ev->wait;
    }
    return pause_or_finish(m, ev, span);
}

enum fin__action fin__machine_pausing(struct fin__machine *m, const struct fin__event *ev)
{
    if (ev->kind == FIN__ABORT || m->forced)
        return proof_finish(m);
    note_acked(m, ev);
    if (ev->facts & FIN__IS_FINISHED)
        reach(m, FIN_STAGE_FINISHED, ev->now);
    return proof_check(m, ev);
}
