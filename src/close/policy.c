/* SPDX-License-Identifier: MIT */

#include "close/policy.h"

#include "base/clock.h"

#include <errno.h>
#include <stddef.h>
#include <string.h>

/* Every field that has a range. */
static const struct {
    const char *name;
    size_t offset;
    int32_t first, last;
    int error;
} fields[] = {
#define FIELD(name, first, last, error)                                                            \
    {                                                                                              \
#name, offsetof(struct fin_policy, name), first, last, error                               \
    }
    FIELD(courtesy, FIN_COURTESY_ABORT, FIN_COURTESY_FULL, -EINVAL),
    FIELD(scope, FIN_SCOPE_DEFAULT, FIN_SCOPE_DESCRIPTOR, -EINVAL),
    FIELD(proof, FIN_STAGE_RELEASED, FIN_STAGE_GONE, -EINVAL),
    FIELD(flush_ms, 0, FIN_TIME_MAX_MS, -ERANGE),
    FIELD(farewell_ms, 0, FIN_TIME_MAX_MS, -ERANGE),
    FIELD(linger_ms, 0, FIN_TIME_MAX_MS, -ERANGE),
    FIELD(total_ms, 0, FIN_TIME_MAX_MS, -ERANGE),
    FIELD(proof_ms, 0, FIN_TIME_MAX_MS, -ERANGE),
    FIELD(orphan_ms, FIN_ORPHAN_LEAVE, FIN_TIME_MAX_MS, -ERANGE),
#undef FIELD
};

static int wrong(const char *name, int error, const char **field)
{
    if (field)
        *field = name;
    return error;
}

int fin_policy_check(const struct fin_policy *policy, const char **field)
{
    if (!policy)
        return wrong("policy", -EINVAL, field);
    if (policy->size != sizeof *policy)
        return wrong("size", -EINVAL, field);
    for (size_t i = 0; i < sizeof fields / sizeof *fields; i++) {
        int32_t value;

        memcpy(&value, (const char *) policy + fields[i].offset, sizeof value);
        if (value < fields[i].first || value > fields[i].last)
            return wrong(fields[i].name, fields[i].error, field);
    }
    return 0;
}

int fin__policy_check(const struct fin_policy *policy)
{
    return fin_policy_check(policy, NULL);
}

const struct fin_policy *fin__policy_or_default(const struct fin_policy *policy)
{
    static const struct fin_policy usual = FIN_POLICY_INIT;

    return policy ? policy : &usual;
}

static uint64_t ns(int32_t ms)
{
    return (uint64_t) ms * FIN__NS_PER_MS;
}

bool fin__policy_spares_connection(const struct fin_policy *policy, bool listening)
{
    return policy->scope == FIN_SCOPE_DESCRIPTOR
        || (policy->scope == FIN_SCOPE_DEFAULT && listening);
}

void fin__plan_make(const struct fin_policy *policy, bool listening, struct fin__plan *plan)
{
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
        .descriptor_only = fin__policy_spares_connection(policy, listening),
        .rebindable = policy->rebindable != 0,
        .find_holders = policy->find_holders != 0,
        .addresses = policy->addresses != 0,
        .accepted = policy->accepted,
        .accepted_arg = policy->accepted_arg,
    };
}
