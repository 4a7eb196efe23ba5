/* SPDX-License-Identifier: MIT */

/* A close that finack did not carry out: it was over before it was asked for, or somebody else
 * closed. */

#include "close/machine_parts.h"

#include <errno.h>

/* What the policy asked for, and nobody saw. */
static void has_seen_nothing(struct fin__machine *m)
{
    bool ends = m->traits & FIN__STREAM && !m->plan->descriptor_only;

    if (m->outcome != FIN_OUTCOME_ABORTED)
        cannot_verify(m, FIN_STAGE_FLUSHED);
    if (m->outcome != FIN_OUTCOME_ABORTED && ends)
        cannot_verify(m, FIN_STAGE_SHUT);
    cannot_verify(m, FIN_STAGE_UNWATCHED);
    if (m->plan->proof > FIN_STAGE_RELEASED)
        cannot_verify(m, FIN_STAGE_UNREFERENCED);
    if (m->plan->proof >= FIN_STAGE_FINISHED)
        cannot_verify(m, FIN_STAGE_FINISHED);
    if (m->plan->proof >= FIN_STAGE_GONE)
        cannot_verify(m, FIN_STAGE_GONE);
}

static void machine_unseen_judge(struct fin__machine *m, const struct fin__unseen *unseen)
{
    struct fin__event ev = {
        .kind = FIN__STATE,
        .facts = FIN__IS_OVER | FIN__IS_UNKNOWN | FIN__IS_FIN_UNKNOWN,
    };

    if (unseen->error)
        fin__machine_fail(m, unseen->error);
    if (unseen->late) {
        m->phase = FIN_PHASE_FAREWELL;
        fin__machine_decide(m, FIN_OUTCOME_TIMED_OUT);
    }
    m->input_over = true;
    m->mute = unseen->truncated;
    if (m->traits & FIN__STREAM)
        fin__machine_note(m, &ev);
    if (m->mute && m->plan->courtesy != FIN_COURTESY_PROMPT)
        fin__machine_decide(m, FIN_OUTCOME_TRUNCATED);
    else if (unseen->before && m->traits & FIN__STREAM)
        fin__machine_judge(m, &ev);
    /* Whether somebody emptied its queue. */
    if (unseen->before && m->traits & FIN__LISTENING && !m->plan->descriptor_only)
        fin__machine_fail(m, -ENOTCONN);
    m->over = true;
}

void fin__machine_unseen(struct fin__machine *m, const struct fin__plan *plan,
                         const struct fin__unseen *unseen)
{
    /* As if of a layer: whoever closed it may have had bytes of its own. */
    (void) fin__machine_start(m, plan, unseen->traits | FIN__LAYERED, 0, unseen->requested);
    m->place = FINISHED;
    m->phase = FIN_PHASE_NONE;
    m->held = unseen->held;
    machine_unseen_judge(m, unseen);
    has_seen_nothing(m);
    if (unseen->released)
        reach(m, FIN_STAGE_RELEASED, unseen->released);
    if (unseen->unreferenced)
        reach(m, FIN_STAGE_UNREFERENCED, unseen->unreferenced);
    else if (unseen->held == FIN_YES)
        m->unverifiable &= (uint16_t) ~(1u << FIN_STAGE_UNREFERENCED);
}
