/* SPDX-License-Identifier: MIT */

/* What the machine says of a close that nobody drove. */

#include "support.h"

#include "close/machine.h"
#include "close/policy.h"

#include <errno.h>

static struct fin_receipt judge(int courtesy, struct fin__unseen unseen)
{
    struct fin_policy policy = FIN_POLICY_INIT;
    struct fin_receipt receipt = FIN_RECEIPT_INIT;
    struct fin__machine machine;
    struct fin__plan plan;

    policy.courtesy = courtesy;
    unseen.requested = 1000;
    unseen.released = 3000;
    unseen.held = FIN_UNVERIFIABLE;
    fin__plan_make(&policy, unseen.traits & FIN__LISTENING, &plan);
    fin__machine_unseen(&machine, &plan, &unseen);
    fin__machine_report(&machine, &receipt);
    assert_int_equal(receipt.stage_ns[FIN_STAGE_RELEASED], 2000);
    for (int stage = FIN_STAGE_FLUSHED; stage < FIN_STAGE_RELEASED; stage++)
        assert_int_equal(receipt.stage_ns[stage], -1); /* nobody saw any */
    return receipt;
}

static bool is_unverifiable(const struct fin_receipt *receipt, int stage)
{
    return receipt->unverifiable & 1u << stage;
}

/* It was over before, and whether by a reset can't be known. */
static void test_over_before(void **state)
{
    struct fin_receipt receipt =
        judge(FIN_COURTESY_ORDERLY, (struct fin__unseen) { .traits = FIN__STREAM, .before = true });

    (void) state;
    assert_int_equal(receipt.outcome, FIN_OUTCOME_ERROR);
    assert_int_equal(receipt.error, -ENOTCONN);
    assert_true(is_unverifiable(&receipt, FIN_STAGE_FLUSHED));
    assert_true(is_unverifiable(&receipt, FIN_STAGE_SHUT));
    assert_true(is_unverifiable(&receipt, FIN_STAGE_UNREFERENCED));
}

/* The peer's FIN came without its farewell, so no reset did. */
static void test_truncated(void **state)
{
    const struct fin__unseen unseen = {
        .traits = FIN__STREAM,
        .before = true,
        .truncated = true,
    };
    struct fin_receipt receipt = judge(FIN_COURTESY_ORDERLY, unseen);

    (void) state;
    assert_int_equal(receipt.outcome, FIN_OUTCOME_TRUNCATED);
    assert_int_equal(receipt.error, 0);
    receipt = judge(FIN_COURTESY_FULL, unseen);
    assert_int_equal(receipt.outcome, FIN_OUTCOME_TRUNCATED);
    receipt = judge(FIN_COURTESY_PROMPT, unseen); /* nobody asked for the peer's farewell */
    assert_int_equal(receipt.outcome, FIN_OUTCOME_ERROR);
    receipt = judge(FIN_COURTESY_ABORT, unseen);
    assert_int_equal(receipt.outcome, FIN_OUTCOME_ABORTED);
    assert_false(is_unverifiable(&receipt, FIN_STAGE_SHUT));
}

static void test_late(void **state)
{
    const struct fin__unseen unseen = { .traits = FIN__STREAM, .late = true };
    struct fin_receipt receipt = judge(FIN_COURTESY_PROMPT, unseen);

    (void) state;
    assert_int_equal(receipt.outcome, FIN_OUTCOME_TIMED_OUT);
    assert_int_equal(receipt.phase, FIN_PHASE_FAREWELL);
    assert_int_equal(receipt.error, 0);
}

/* As an error that a close which was driven meets. */
static void test_errors(void **state)
{
    static const struct {
        int error, outcome;
    } rows[] = {
        { -ECONNRESET, FIN_OUTCOME_RESET },   { -EPIPE, FIN_OUTCOME_RESET },
        { -ECONNREFUSED, FIN_OUTCOME_RESET }, { -ECONNABORTED, FIN_OUTCOME_ERROR },
        { -ETIMEDOUT, FIN_OUTCOME_ERROR },    { -EBADMSG, FIN_OUTCOME_ERROR },
    };

    (void) state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct fin_receipt receipt =
            judge(FIN_COURTESY_PROMPT,
                  (struct fin__unseen) { .traits = FIN__STREAM, .error = rows[i].error });

        assert_int_equal(receipt.outcome, rows[i].outcome);
        assert_int_equal(receipt.error, rows[i].error);
    }
}

/* Its clients may wait in its queue, unless they are left to others. */
static void test_listener(void **state)
{
    struct fin_policy policy = FIN_POLICY_INIT;
    const struct fin__unseen unseen = {
        .traits = FIN__LISTENING,
        .before = true,
        .requested = 1000,
        .held = FIN_UNVERIFIABLE,
    };
    struct fin_receipt receipt = FIN_RECEIPT_INIT;
    struct fin__machine machine;
    struct fin__plan plan;

    (void) state;
    for (int scope = FIN_SCOPE_DEFAULT; scope <= FIN_SCOPE_DESCRIPTOR; scope++) {
        policy.scope = scope;
        fin__plan_make(&policy, true, &plan);
        fin__machine_unseen(&machine, &plan, &unseen);
        fin__machine_report(&machine, &receipt);
        assert_int_equal(receipt.outcome,
                         scope == FIN_SCOPE_CONNECTION ? FIN_OUTCOME_ERROR : FIN_OUTCOME_GRACEFUL);
        assert_false(is_unverifiable(&receipt, FIN_STAGE_SHUT));
        assert_int_equal(receipt.stage_ns[FIN_STAGE_RELEASED], -1);
    }
}

/* The better of two outcomes has the lower rank, and each is there once. */
static void test_ranks(void **state)
{
    unsigned seen = 0;

    (void) state;
    for (int rank = 0; rank < FIN_OUTCOMES; rank++)
        seen |= 1u << fin__outcome_ranked(rank);
    assert_int_equal(seen, (1u << FIN_OUTCOMES) - 1);
    assert_int_equal(fin__outcome_ranked(0), FIN_OUTCOME_GRACEFUL);
    assert_int_equal(fin__outcome_ranked(FIN_OUTCOMES - 1), FIN_OUTCOME_ABORTED);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        GUARDED(test_over_before), GUARDED(test_truncated), GUARDED(test_late),
        GUARDED(test_errors),      GUARDED(test_listener),  GUARDED(test_ranks),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
