/* SPDX-License-Identifier: MIT */

/* The receipt of a close, ended or not. */

#include "close/machine.h"

#include <string.h>

/* The last close(2) ends the stream: if that was ours, and nothing was dropped before it, by
 * FIN. */
static int end_by_last_close(const struct fin__machine *m)
{
    if (m->held == FIN_YES)
        return FIN_END_NONE;
    if (m->held == FIN_NO && m->traits & FIN__ACK_AT_SHUT && !m->must_reset && !m->unsent
        && !m->reset_unsure)
        return FIN_END_FIN; /* it is with the peer at once */
    return FIN_END_KERNEL;
}

/* Every byte of a layer's, as far as is known. */
static bool is_whole(const struct fin__machine *m)
{
    if (!(m->traits & FIN__LAYERED))
        return true;
    if (m->plan->descriptor_only)
        return !m->unsent && !m->unsent_unknown;
    return fin__reached(m, FIN_STAGE_FLUSHED);
}

/* The descriptor was gone before the peer's end was seen. A Unix socket has acked at shut, but its
 * peer may have closed since, with bytes unread: a reset. */
static bool lost_sight(const struct fin__machine *m)
{
    return m->died && m->traits & FIN__ACK_AT_SHUT && !fin__reached(m, FIN_STAGE_EOF);
}

static int how_it_ended(const struct fin__machine *m)
{
    bool resets = !m->over && (m->unread || m->resets_on_close);

    if (!(m->traits & FIN__STREAM))
        return m->traits & FIN__CONNECTING && m->unacked ? FIN_END_KERNEL : FIN_END_NONE;
    if (m->peer_reset)
        return FIN_END_RESET;
    if (m->we_reset || (resets && m->held == FIN_NO))
        return m->reset_unsure ? FIN_END_KERNEL : FIN_END_RESET;
    if (!is_whole(m) || m->must_reset || (resets && m->held == FIN_UNVERIFIABLE))
        return m->held == FIN_YES && !m->shut && !m->over ? FIN_END_NONE : FIN_END_KERNEL;
    if (!m->over && !m->shut)
        return end_by_last_close(m);
    if (m->reset_unsure && !m->over && !m->input_over && m->held != FIN_YES)
        return FIN_END_KERNEL;
    if (lost_sight(m))
        return FIN_END_KERNEL;
    return m->acked ? FIN_END_FIN : FIN_END_KERNEL;
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
