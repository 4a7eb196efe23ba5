/* SPDX-License-Identifier: MIT */

/* What a close, ended or not, has come to. */

#include "close/machine.h"

#include <string.h>

static int how_it_ended(const struct fin__machine *m)
{
    if (!(m->traits & FIN__STREAM))
        return FIN_END_NONE;
    if (m->we_reset || m->peer_reset)
        return FIN_END_RESET;
    if (m->held == FIN_YES && (m->plan->descriptor_only || m->resets_on_close))
        return FIN_END_NONE;
    if (m->held == FIN_UNVERIFIABLE && (m->plan->descriptor_only || m->resets_on_close))
        return FIN_END_KERNEL;
    if ((m->unread && m->held != FIN_YES) || m->resets_on_close)
        return FIN_END_RESET;
    if (m->traits & FIN__LAYERED && !fin__reached(m, FIN_STAGE_FLUSHED)
        && !m->plan->descriptor_only)
        return FIN_END_KERNEL; /* the layer may have kept bytes */
    if (m->must_reset || m->unacked > 0 || (m->died && !fin__reached(m, FIN_STAGE_ACKED)))
        return FIN_END_KERNEL;
    if (fin__reached(m, FIN_STAGE_SHUT) || m->plan->descriptor_only || m->traits & FIN__QUENCHABLE)
        return FIN_END_FIN;
    return FIN_END_KERNEL;
}

void fin__machine_report(const struct fin__machine *m, struct fin_receipt *receipt)
{
    bool fine = m->outcome == FIN_OUTCOME_GRACEFUL || m->outcome == FIN_OUTCOME_PROMPT;

    receipt->outcome = m->outcome;
    receipt->phase = fine ? FIN_PHASE_NONE : m->decided;
    receipt->end = how_it_ended(m);
    receipt->held = m->held;
    receipt->error = m->error;
    receipt->unverifiable = m->unverifiable;
    receipt->requested_ns = m->start;
    memcpy(receipt->stage_ns, m->stage, sizeof m->stage);
    receipt->unsent = m->unsent;
    receipt->unacked = m->unacked;
    receipt->discarded = m->discarded;
    receipt->accepted = m->accepted;
    receipt->forced = m->forced;
}
