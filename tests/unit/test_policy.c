/* SPDX-License-Identifier: MIT */

#include "support.h"

#include "close/policy.h"

#include <errno.h>
#include <limits.h>
#include <string.h>

static void test_default_is_valid(void **state)
{
    struct fin_policy policy = FIN_POLICY_INIT;

    (void) state;
    assert_int_equal(fin__policy_check(&policy), 0);
    assert_int_equal(policy.size, sizeof policy);
    assert_int_equal(policy.courtesy, FIN_COURTESY_ORDERLY);
    assert_int_equal(policy.scope, FIN_SCOPE_DEFAULT);
    assert_int_equal(policy.proof, FIN_STAGE_UNREFERENCED);
    assert_int_equal(policy.orphan_ms, FIN_ORPHAN_LEAVE);
    assert_int_equal(policy.flush_ms, 5000);
    assert_int_equal(policy.farewell_ms, 1000);
    assert_int_equal(policy.linger_ms, 2000);
    assert_int_equal(policy.total_ms, 10000);
    assert_int_equal(policy.proof_ms, 100);
    assert_int_equal(policy.drain, 1 << 20);
    assert_null(policy.accepted);
}

/* Every enumerator around its range, with all the others as they should be. */
static void test_enumerators(void **state)
{
    struct fin_policy policy = FIN_POLICY_INIT;
    const struct {
        int *field, first, last;
    } fields[] = {
        { &policy.courtesy, FIN_COURTESY_ABORT, FIN_COURTESY_FULL },
        { &policy.scope, FIN_SCOPE_DEFAULT, FIN_SCOPE_DESCRIPTOR },
        { &policy.proof, FIN_STAGE_RELEASED, FIN_STAGE_GONE },
    };

    (void) state;
    for (size_t i = 0; i < 3; i++) {
        int good = *fields[i].field;

        for (int value = -3; value < FIN_STAGES + 3; value++) {
            bool in_range = value >= fields[i].first && value <= fields[i].last;

            *fields[i].field = value;
            assert_int_equal(fin__policy_check(&policy), in_range ? 0 : -EINVAL);
        }
        *fields[i].field = INT_MIN;
        assert_int_equal(fin__policy_check(&policy), -EINVAL);
        *fields[i].field = INT_MAX;
        assert_int_equal(fin__policy_check(&policy), -EINVAL);
        *fields[i].field = good;
    }
}

static void test_times(void **state)
{
    struct fin_policy policy = FIN_POLICY_INIT;
    int32_t *const fields[] = { &policy.flush_ms, &policy.farewell_ms, &policy.linger_ms,
                                &policy.total_ms, &policy.proof_ms,    &policy.orphan_ms };

    (void) state;
    for (size_t i = 0; i < 6; i++) {
        int32_t good = *fields[i], least = i == 5 ? FIN_ORPHAN_LEAVE : 0;
        const int32_t fine[] = { least, 0, 1, FIN_TIME_MAX_MS };
        const int32_t bad[] = { least - 1, INT32_MIN, FIN_TIME_MAX_MS + 1, INT32_MAX };

        for (size_t j = 0; j < 4; j++) {
            *fields[i] = fine[j];
            assert_int_equal(fin__policy_check(&policy), 0);
            *fields[i] = bad[j];
            assert_int_equal(fin__policy_check(&policy), -ERANGE);
        }
        *fields[i] = good;
    }
}

static void test_size(void **state)
{
    struct fin_policy policy = FIN_POLICY_INIT;

    (void) state;
    assert_int_equal(fin__policy_check(NULL), -EINVAL);
    for (size_t size = 0; size < 2 * sizeof policy; size++) {
        policy.size = size;
        assert_int_equal(fin__policy_check(&policy), size == sizeof policy ? 0 : -EINVAL);
    }
}

/* Which member is wrong, and nothing is written where all is well. */
static void test_names_what_is_wrong(void **state)
{
    struct fin_policy policy = FIN_POLICY_INIT;
    const char *field = "untouched";

    (void) state;
    assert_int_equal(fin_policy_check(&policy, &field), 0);
    assert_string_equal(field, "untouched");
    policy.proof_ms = -1;
    assert_int_equal(fin_policy_check(&policy, &field), -ERANGE);
    assert_string_equal(field, "proof_ms");
    policy.scope = 9;
    assert_int_equal(fin_policy_check(&policy, &field), -EINVAL);
    assert_string_equal(field, "scope");
    policy.size = 3;
    assert_int_equal(fin_policy_check(&policy, &field), -EINVAL);
    assert_string_equal(field, "size");
    assert_int_equal(fin_policy_check(NULL, &field), -EINVAL);
    assert_string_equal(field, "policy");
}

static void test_ready_policies(void **state)
{
    const struct fin_policy ready[] = { FIN_POLICY_ABORT, FIN_POLICY_PROMPT, FIN_POLICY_ORDERLY,
                                        FIN_POLICY_SERVER };
    const int courtesies[] = { FIN_COURTESY_ABORT, FIN_COURTESY_PROMPT, FIN_COURTESY_ORDERLY,
                               FIN_COURTESY_ORDERLY };

    (void) state;
    for (size_t i = 0; i < sizeof ready / sizeof *ready; i++) {
        assert_int_equal(fin_policy_check(&ready[i], NULL), 0);
        assert_int_equal(ready[i].courtesy, courtesies[i]);
    }
}

static void test_plan(void **state)
{
    struct fin_policy policy = FIN_POLICY_INIT;
    struct fin__plan plan;

    (void) state;
    policy.courtesy = FIN_COURTESY_FULL;
    policy.proof = FIN_STAGE_GONE;
    policy.total_ms = FIN_TIME_MAX_MS;
    policy.orphan_ms = 1500;
    policy.rebindable = 7;
    fin__plan_make(&policy, false, &plan);
    assert_int_equal(plan.flush, 5000000000);
    assert_int_equal(plan.farewell, 1000000000);
    assert_int_equal(plan.linger, 2000000000);
    assert_true(plan.total == 86400000000000u);
    assert_int_equal(plan.proof_wait, 100000000);
    assert_int_equal(plan.drain, 1 << 20);
    assert_int_equal(plan.orphan_ms, 1500);
    assert_int_equal(plan.courtesy, FIN_COURTESY_FULL);
    assert_int_equal(plan.proof, FIN_STAGE_GONE);
    assert_true(plan.rebindable);
    assert_true(plan.backoff > 0 && plan.backoff <= plan.backoff_max);
}

static void test_scope(void **state)
{
    static const bool drops_ours_alone[3][2] = { { false, true },
                                                 { false, false },
                                                 { true, true } };
    struct fin_policy policy = FIN_POLICY_INIT;

    (void) state;
    for (int scope = 0; scope < 3; scope++)
        for (int listening = 0; listening < 2; listening++) {
            struct fin__plan plan;

            policy.scope = scope;
            fin__plan_make(&policy, listening, &plan);
            assert_int_equal(plan.descriptor_only, drops_ours_alone[scope][listening]);
        }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        GUARDED(test_default_is_valid),
        GUARDED(test_enumerators),
        GUARDED(test_times),
        GUARDED(test_size),
        GUARDED(test_names_what_is_wrong),
        GUARDED(test_ready_policies),
        GUARDED(test_plan),
        GUARDED(test_scope),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
