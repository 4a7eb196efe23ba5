/* SPDX-License-Identifier: MIT */

#include "close/policy.h"

#include "base/clock.h"

#include <errno.h>
#include <string.h>

static bool in_range(int value, int first, int last)
{
    return value >= first && value <= last;
}

int fin__policy_check(const struct fin_policy *policy)
{
    if (!policy || policy->size != sizeof *policy)
        return -EINVAL;
    if (!in_range(policy->courtesy, FIN_COURTESY_ABORT, FIN_COURTESY_FULL)
        || !in_range(policy->scope, FIN_SCOPE_DEFAULT, FIN_SCOPE_DESCRIPTOR)
        || !in_range(policy->proof, FIN_STAGE_RELEASED, FIN_STAGE_GONE))
        return -EINVAL;
    if (!in_range(policy->flush_ms, 0, FIN_TIME_MAX_MS)
        || !in_range(policy->farewell_ms, 0, FIN_TIME_MAX_MS)
        || !in_range(policy->linger_ms, 0, FIN_TIME_MAX_MS)
        || !in_range(policy->total_ms, 0, FIN_TIME_MAX_MS)
        || !in_range(policy->proof_ms, 0, FIN_TIME_MAX_MS)
        || !in_range(policy->orphan_ms, FIN_ORPHAN_LEAVE, FIN_TIME_MAX_MS))
        return -ERANGE;
    return 0;
}

static uint64_t ns(int32_t ms)
{
    return (uint64_t) ms * FIN__NS_PER_MS;
}

void fin__plan_make(const struct fin_policy *policy, bool listening, struct fin__plan *plan)
{
    bool by_default = policy->scope == FIN_SCOPE_DEFAULT && listening;

    memset(plan, 0, sizeof *plan); /* plans are compared byte by byte */
    *plan = (struct fin__plan) {
        .flush = ns(policy->flush_ms),
        .farewell = ns(policy->farewell_ms),
        .linger = ns(policy->linger_ms),
        .total = ns(policy->total_ms),
        .proof_wait = ns(policy->proof_ms),
        .backoff = ns(1),
        .backoff_max = ns(64),
        .drain = policy->drain,
        .orphan_ms = policy->orphan_ms,
        .courtesy = (uint8_t) policy->courtesy,
        .proof = (uint8_t) policy->proof,
        .descriptor_only = by_default || policy->scope == FIN_SCOPE_DESCRIPTOR,
        .rebindable = policy->rebindable != 0,
        .find_holders = policy->find_holders != 0,
        .accepted = policy->accepted,
        .accepted_arg = policy->accepted_arg,
    };
}
