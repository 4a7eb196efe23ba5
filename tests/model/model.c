/* SPDX-License-Identifier: MIT */

/*
 * Explores every state that the machine can reach, over every order of events, for every kind of
 * socket and policy, with tiny times; and shows first that each rule can be seen broken.
 */

#include "selfcheck.h"

#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

static const struct fin__plan plans[] = {
    { .flush = 1,
      .farewell = 1,
      .linger = 1,
      .total = 1,
      .proof_wait = 1,
      .backoff = 1,
      .backoff_max = 2,
      .drain = 1 },
    { .flush = 1,
      .farewell = 1,
      .linger = 1,
      .total = 2,
      .proof_wait = 1,
      .backoff = 1,
      .backoff_max = 2,
      .drain = 1 },
    { .flush = 0,
      .farewell = 0,
      .linger = 0,
      .total = 2,
      .proof_wait = 0,
      .backoff = 1,
      .backoff_max = 1,
      .drain = 0 },
    { .flush = 1,
      .farewell = 1,
      .linger = 1,
      .total = 0,
      .proof_wait = 1,
      .backoff = 1,
      .backoff_max = 1,
      .drain = 2 },
    { .flush = 2,
      .farewell = 2,
      .linger = 2,
      .total = 3,
      .proof_wait = 4,
      .backoff = 1,
      .backoff_max = 4,
      .drain = 3 },
};

static const int64_t orphans[] = { FIN_ORPHAN_RESET, FIN_ORPHAN_LEAVE, 7 };
static const unsigned facts[] = { FIN__IS_OUTSTANDING, 0 };

#define COUNT(array) (sizeof(array) / sizeof *(array))

static struct explorer *all;

static void each_courtesy(struct config *c)
{
    struct fin__plan *p = &c->plan;

    for (p->courtesy = FIN_COURTESY_ABORT; p->courtesy <= FIN_COURTESY_FULL; p->courtesy++)
        explore(all, c);
    if (!(c->traits & FIN__LAYERED) || c->traits & FIN__ANSWER_UNKNOWN || p->descriptor_only
        || p->orphan_ms != orphans[0])
        return;
    p->awaits_answer = true;
    p->courtesy = FIN_COURTESY_PROMPT;
    explore(all, c);
    p->awaits_answer = false;
}

/* What a policy can say of one kind of socket, except for proofs: explore() tries them all. The
 * first plan is combined with everything, the others with what makes them longest. A layer has far
 * more states: it is spared the longest plan, and facts that its flush overrules. */
static void each_policy(unsigned which, unsigned traits)
{
    struct config c = { .plan = plans[which], .traits = traits };
    bool layered = traits & FIN__LAYERED;
    unsigned all_facts = which || layered ? 1 : COUNT(facts);
    unsigned all_orphans = which ? 1 : COUNT(orphans);

    if (layered && which == COUNT(plans) - 1)
        return;
    if (layered && traits & FIN__ACK_AT_SHUT && which == 1)
        return;
    for (unsigned scope = 0; scope < 2; scope++)
        for (unsigned i = 0; i < all_orphans; i++)
            for (unsigned j = 0; j < all_facts; j++) {
                c.plan.descriptor_only = scope;
                c.plan.orphan_ms = orphans[i];
                c.facts = facts[which == 3 ? 1 : j];
                each_courtesy(&c);
            }
}

static double seconds(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (double) ts.tv_sec + (double) ts.tv_nsec / 1e9;
}

static void explore_kind(const char *name, unsigned traits)
{
    struct coverage before = *explorer_coverage(all);
    const struct coverage *now = explorer_coverage(all);
    uint64_t broken = 0;
    double start = seconds();

    for (unsigned i = 0; i < COUNT(plans); i++)
        each_policy(i, traits);
    printf("%-16s %5" PRIu64 " runs %9" PRIu64 " states %10" PRIu64 " transitions %5.2f s\n", name,
           now->runs - before.runs, now->states - before.states,
           now->transitions - before.transitions, seconds() - start);
    for (unsigned rule = 0; rule < RULES; rule++)
        broken += now->violations[rule] - before.violations[rule];
    assert_int_equal(broken, 0);
}

#define TCP (FIN__STREAM | FIN__SOCKET)
#define UNIX (TCP | FIN__ACK_AT_SHUT | FIN__QUENCHABLE)

#define KIND(name, traits)                                                                         \
    static void name(void **state)                                                                 \
    {                                                                                              \
        (void) state;                                                                              \
        explore_kind(#name, traits);                                                               \
    }

KIND(plain, TCP)
KIND(layered, TCP | FIN__LAYERED)
KIND(layered_blind, TCP | FIN__LAYERED | FIN__ANSWER_UNKNOWN)
KIND(unix_stream, UNIX)
KIND(unix_alone, TCP | FIN__QUENCHABLE) /* its peer is gone */
KIND(layered_unix, UNIX | FIN__LAYERED)
KIND(message, FIN__SOCKET)
KIND(layered_message, FIN__SOCKET | FIN__LAYERED)
KIND(pipe_end, 0)
KIND(listening, FIN__SOCKET | FIN__LISTENING)
KIND(connecting, FIN__SOCKET | FIN__CONNECTING)
KIND(connecting_stream, TCP | FIN__CONNECTING)

/* The abstraction of states hides nothing: byte by byte, the same rules hold. */
static void states_as_bytes(void **state)
{
    static const unsigned kinds[] = { TCP, TCP | FIN__LAYERED, UNIX, FIN__SOCKET | FIN__LISTENING };
    struct coverage before = *explorer_coverage(all);
    struct config c = { .plan = { .backoff = 1, .backoff_max = 1, .orphan_ms = 7 } };
    struct fin__plan *p = &c.plan;

    (void) state;
    for (unsigned i = 0; i < COUNT(kinds); i++) {
        c.traits = kinds[i];
        for (p->courtesy = FIN_COURTESY_ABORT; p->courtesy <= FIN_COURTESY_ORDERLY; p->courtesy++)
            for (p->proof = FIN_STAGE_RELEASED; p->proof <= FIN_STAGE_UNREFERENCED; p->proof++)
                explore_exactly(all, &c);
    }
    printf("%-16s %5" PRIu64 " runs %9" PRIu64 " states\n", __func__,
           explorer_coverage(all)->runs - before.runs,
           explorer_coverage(all)->states - before.states);
    assert_memory_equal(before.violations, explorer_coverage(all)->violations,
                        sizeof before.violations);
}

static void everything_occurred(void **state)
{
    const struct coverage *c = explorer_coverage(all);

    (void) state;
    assert_int_equal(c->actions, (UINT64_C(1) << (FIN__FINISH + 1)) - 1);
    assert_int_equal(c->places, (UINT64_C(1) << (c->finished_place + 1)) - 1);
    assert_int_equal(c->outcomes, (UINT64_C(1) << FIN_OUTCOMES) - 1);
    assert_int_equal(c->end_values, (UINT64_C(1) << (FIN_END_KERNEL + 1)) - 1);
    assert_int_equal(c->stages, (UINT64_C(1) << FIN_STAGES) - 1);
}

static int start_all(void **state)
{
    (void) state;
    all = explorer_new(fin__machine_step);
    return 0;
}

static int print_all(void **state)
{
    const struct coverage *c = explorer_coverage(all);

    (void) state;
    printf("total: %" PRIu64 " runs, %" PRIu64 " states, %" PRIu64 " transitions, %" PRIu64
           " ends; longest way %u, waits after the deadline %u\n",
           c->runs, c->states, c->transitions, c->ends, c->deepest, c->late_waits);
    explorer_print(all);
    explorer_free(all);
    return 0;
}

int main(void)
{
    const struct CMUnitTest checks[] = {
        cmocka_unit_test(every_rule_can_break),
        cmocka_unit_test(a_good_close_breaks_none),
        cmocka_unit_test(a_livelock_is_found),
    };
    const struct CMUnitTest kinds[] = {
        cmocka_unit_test(plain),           cmocka_unit_test(layered),
        cmocka_unit_test(layered_blind),   cmocka_unit_test(unix_stream),
        cmocka_unit_test(unix_alone),      cmocka_unit_test(layered_unix),
        cmocka_unit_test(message),         cmocka_unit_test(layered_message),
        cmocka_unit_test(pipe_end),        cmocka_unit_test(listening),
        cmocka_unit_test(connecting),      cmocka_unit_test(connecting_stream),
        cmocka_unit_test(states_as_bytes), cmocka_unit_test(everything_occurred),
    };

    return cmocka_run_group_tests_name("self-check", checks, NULL, NULL)
        + cmocka_run_group_tests_name("model", kinds, start_all, print_all);
}
