/* SPDX-License-Identifier: MIT */

/* The machine's judgement: what was seen of a connection, and which outcome that means. */

#include "close/machine_parts.h"

#include <errno.h>

/* From good to bad. */
static const uint8_t rank[] = {
    [FIN_OUTCOME_GRACEFUL] = 0, [FIN_OUTCOME_PROMPT] = 1,    [FIN_OUTCOME_TRUNCATED] = 2,
    [FIN_OUTCOME_BOUNDED] = 3,  [FIN_OUTCOME_TIMED_OUT] = 4, [FIN_OUTCOME_RESET] = 5,
    [FIN_OUTCOME_ERROR] = 6,    [FIN_OUTCOME_ABORTED] = 7,
};

enum fin_outcome fin__outcome_ranked(int wanted)
{
    int outcome = 0;

    while (rank[outcome] != wanted)
        outcome++;
    return (enum fin_outcome) outcome;
}

void fin__machine_decide(struct fin__machine *m, enum fin_outcome outcome)
{
    if (rank[outcome] > rank[m->outcome]) {
        m->outcome = (uint8_t) outcome;
        m->decided = m->phase;
    }
}

static enum fin_outcome outcome_of(int error)
{
    bool by_peer = error == -ECONNRESET || error == -EPIPE || error == -ECONNREFUSED;

    return by_peer ? FIN_OUTCOME_RESET : FIN_OUTCOME_ERROR;
}

void fin__machine_fail(struct fin__machine *m, int error)
{
    enum fin_outcome outcome = outcome_of(error);

    if (!m->error)
        m->error = error;
    m->peer_reset |= outcome == FIN_OUTCOME_RESET;
    fin__machine_decide(m, outcome);
}

void fin__machine_broke(struct fin__machine *m, int error)
{
    if (m->outcome == FIN_OUTCOME_ABORTED)
        m->outcome = FIN_OUTCOME_GRACEFUL;
    fin__machine_fail(m, error);
}

/* The connection has ended. By both FINs, or else by a reset or for want of an answer, whoever has
 * taken the error. Where it can't be known which, and FIN was not ours, that is an error too. */
static void machine_seen_ended(struct fin__machine *m, const struct fin__event *ev)
{
    bool fin = ev->facts & FIN__IS_FIN || fin__reached(m, FIN_STAGE_EOF);
    bool maybe_acked = m->acked || ev->facts & FIN__IS_UNKNOWN;
    bool maybe_fin = fin || ev->facts & FIN__IS_FIN_UNKNOWN;

    m->over = true;
    if (m->acked && fin)
        return;
    if (!m->acked)
        m->unacked = clamp(ev->bytes);
    if (ev->kind == FIN__FAILED) /* the error tells */
        return;
    if (!maybe_acked || !maybe_fin)
        fin__machine_decide(m, FIN_OUTCOME_RESET);
    else if ((m->over_before || !fin__reached(m, FIN_STAGE_SHUT))
             && rank[m->outcome] < rank[FIN_OUTCOME_BOUNDED])
        fin__machine_fail(m, -ENOTCONN);
}

/* True if the close waits for the peer, so that a stage of it that can't be seen is
 * unverifiable. */
static bool waits_for_peer(const struct fin__machine *m)
{
    return !m->plan->descriptor_only && m->plan->courtesy >= FIN_COURTESY_ORDERLY;
}

void fin__machine_note(struct fin__machine *m, const struct fin__event *ev)
{
    m->shut |= (ev->facts & (FIN__IS_SHUT | FIN__IS_ACKED)) != 0;
    m->acked |= (ev->facts & FIN__IS_ACKED) != 0;
    if (ev->facts & FIN__IS_ACKED)
        m->unacked = 0;
    if (fin__reached(m, FIN_STAGE_SHUT) && ev->facts & FIN__IS_ACKED)
        reach(m, FIN_STAGE_ACKED, ev->now);
    else if (waits_for_peer(m) && ev->facts & FIN__IS_UNKNOWN)
        cannot_verify(m, FIN_STAGE_ACKED);
    if (ev->unread && m->input_over) { /* the end was a shutdown(2) of ours, and more has come */
        m->input_over = false;
        m->edge_used = true;
    }
    if (m->input_over && !m->quenched && ev->facts & FIN__IS_FIN)
        reach(m, FIN_STAGE_EOF, ev->now);
    else if (m->input_over && waits_for_peer(m) && ev->facts & FIN__IS_FIN_UNKNOWN)
        cannot_verify(m, FIN_STAGE_EOF);
}

void fin__machine_judge(struct fin__machine *m, const struct fin__event *ev)
{
    fin__machine_note(m, ev);
    if (ev->facts & FIN__IS_OVER && !m->over)
        machine_seen_ended(m, ev);
}

bool fin__machine_tallied(struct fin__machine *m, const struct fin__event *ev)
{
    fin__machine_judge(m, ev);
    if (ev->kind == FIN__FAILED) {
        m->died = true;
        fin__machine_fail(m, ev->error);
    }
    m->unsent_unknown = ev->unsent == UINT64_MAX;
    if (m->plan->descriptor_only && !m->unsent_unknown)
        m->unsent = ev->unsent;
    if (m->over || ev->kind != FIN__STATE)
        return false;
    m->unacked = m->acked ? 0 : clamp(ev->bytes);
    m->unread = ev->unread > 0;
    m->resets_on_close = ev->facts & FIN__IS_RESET_ON_CLOSE;
    m->reset_unsure = ev->facts & FIN__IS_RESET_UNSURE;
    return true;
}
