/* SPDX-License-Identifier: MIT */

#include "close/plans.h"

#include "base/alloc.h"

#include <string.h>

#define SEARCHED                                                                                   \
    8 /* programs have few policies; one that makes a new one for every close shares none */

struct fin__shared_plan {
    struct fin__plan plan; /* first: a plan's address is its owner's */
    struct fin__shared_plan *next, *prev;
    uint64_t users;
};

static struct fin__shared_plan *plans_find(const struct fin__plans *plans,
                                           const struct fin__plan *plan)
{
    struct fin__shared_plan *shared = plans->first;

    for (int i = 0; shared && i < SEARCHED; i++, shared = shared->next) {
        /* fin__plan_make() leaves no padding undefined. */
        /* NOLINTNEXTLINE(bugprone-suspicious-memory-comparison) */
        if (memcmp(&shared->plan, plan, sizeof *plan) == 0)
            return shared;
    }
    return NULL;
}

static void unlink_plan(struct fin__plans *plans, struct fin__shared_plan *shared)
{
    if (shared->prev)
        shared->prev->next = shared->next;
    else
        plans->first = shared->next;
    if (shared->next)
        shared->next->prev = shared->prev;
    fin__free(shared);
}

static struct fin__shared_plan *plans_add(struct fin__plans *plans, const struct fin__plan *plan)
{
    struct fin__shared_plan *shared = fin__alloc(sizeof *shared), *last = plans->first;

    if (!shared)
        return NULL;
    memcpy(&shared->plan, plan, sizeof *plan);
    shared->next = plans->first;
    if (shared->next)
        shared->next->prev = shared;
    plans->first = shared;
    if (last && last->users == 0)
        unlink_plan(plans, last);
    return shared;
}

const struct fin__plan *fin__plans_take(struct fin__plans *plans, const struct fin_policy *policy,
                                        bool listening)
{
    struct fin__plan plan;
    struct fin__shared_plan *shared;

    fin__plan_make(policy, listening, &plan);
    shared = plans_find(plans, &plan);
    if (!shared)
        shared = plans_add(plans, &plan);
    if (!shared)
        return NULL;
    shared->users++;
    return &shared->plan;
}

void fin__plans_drop(struct fin__plans *plans, const struct fin__plan *plan)
{
    struct fin__shared_plan *shared = (struct fin__shared_plan *) (uintptr_t) plan;

    /* The most recent one stays, for the next close. */
    if (--shared->users == 0 && plans->first != shared)
        unlink_plan(plans, shared);
}

void fin__plans_free(struct fin__plans *plans)
{
    while (plans->first)
        unlink_plan(plans, plans->first);
}
