/* SPDX-License-Identifier: MIT */

/* When the machine looks again, after the release, whether something holds the description. */

#include "support.h"

#include "base/clock.h"
#include "close/machine.h"
#include "close/policy.h"

#define WAITS_MAX 32

struct waits {
    uint64_t ms[WAITS_MAX];
    int count;
};

/* What a driver answers of a socket that is held for ever. */
static struct fin__event driver_says(enum fin__action action, unsigned facts, uint64_t now)
{
    struct fin__event ev = { .kind = FIN__DONE, .now = now };

    if (action == FIN__WITNESS)
        ev.facts = facts & FIN__IS_CONFIRMED;
    if (action == FIN__TALLY || action == FIN__INSPECT)
        ev.kind = FIN__STATE;
    if (action == FIN__CHECK)
        ev.kind = FIN__YES;
    if (action == FIN__CHECK || action == FIN__INSPECT)
        ev.facts = facts & FIN__IS_ANNOUNCED;
    if (action == FIN__WAIT)
        ev.kind = FIN__DEADLINE;
    return ev;
}

static struct waits waits_of(unsigned facts, int32_t proof_ms)
{
    struct fin_policy policy = FIN_POLICY_INIT;
    struct waits waits = { .count = 0 };
    struct fin__machine m;
    struct fin__plan plan;
    enum fin__action action;
    uint64_t now = 1000;

    policy.courtesy = FIN_COURTESY_PROMPT;
    policy.proof_ms = proof_ms;
    fin__plan_make(&policy, false, &plan);
    action = fin__machine_start(&m, &plan, FIN__STREAM | FIN__SOCKET, 0, now);
    while (action != FIN__FINISH) {
        struct fin__event ev;

        if (action == FIN__WAIT) {
            assert_true(fin__reached(&m, FIN_STAGE_RELEASED));
            assert_true(waits.count < WAITS_MAX && m.deadline > now);
            waits.ms[waits.count++] = (m.deadline - now) / FIN__NS_PER_MS;
            now = m.deadline;
        }
        ev = driver_says(action, facts, now);
        action = fin__machine_step(&m, &ev);
    }
    assert_int_equal(now, 1000 + (uint64_t) proof_ms * FIN__NS_PER_MS);
    return waits;
}

/* The first look finds most; a holder that stays costs few. */
static void test_pauses_double(void **state)
{
    static const uint64_t expected[] = { 1, 2, 4, 8, 16, 32, 64, 64, 9 };
    static const unsigned facts[] = { 0, FIN__IS_CONFIRMED };

    (void) state;
    for (size_t i = 0; i < sizeof facts / sizeof *facts; i++) {
        struct waits waits = waits_of(facts[i], 200);

        assert_int_equal(waits.count, sizeof expected / sizeof *expected);
        assert_memory_equal(waits.ms, expected, sizeof expected);
    }
}

static void test_what_is_announced_is_not_looked_for(void **state)
{
    struct waits waits = waits_of(FIN__IS_ANNOUNCED, 200);

    (void) state;
    assert_int_equal(waits.count, 1);
    assert_int_equal(waits.ms[0], 200);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        GUARDED(test_pauses_double),
        GUARDED(test_what_is_announced_is_not_looked_for),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
