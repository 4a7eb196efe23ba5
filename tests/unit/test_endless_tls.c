/* SPDX-License-Identifier: MIT */

/* test_endless for a TLS connection: whatever one call keeps answering, the close ends in time. */

#include "faults.h"
#include "tls_pair.h"

#include <errno.h>
#include <finack/openssl.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <time.h>

#include <cmocka.h>

static const char *const calls_that_repeat[] = { "recv",  "recvmsg", "send",      "poll",
                                                 "ppoll", "pread",   "epoll_wait" };

static bool close_with(int version, int courtesy, const struct fault *fault)
{
    struct fin_policy policy = FIN_POLICY_INIT;
    struct fin_receipt receipt = FIN_RECEIPT_INIT;
    struct timespec start;
    struct pair pair;
    bool met, late;
    int result;

    policy.courtesy = courtesy;
    policy.total_ms = 30;
    policy.proof_ms = 2;
    pair_open(&pair, PAIR_TCP, version);
    assert_int_equal(clock_gettime(CLOCK_MONOTONIC, &start), 0);
    fault_arm(fault);
    result = fin_close_ssl(NULL, pair.ours, NULL, &policy, &receipt);
    met = fault_disarm() > 0;
    late = is_late(&start);
    pair_close(&pair, result == 0);
    if (late || result != 0)
        print_error("%s answers %d, errno %d, events %d\n", fault->call, fault->result,
                    fault->error, fault->events);
    assert_false(late);
    assert_int_equal(result, 0);
    assert_true(receipt.stage_ns[FIN_STAGE_RELEASED] >= 0);
    return met;
}

static void try_answers(int version, int courtesy, const char *call)
{
    for (size_t i = 0; i < lasting_count; i++) {
        struct fault fault = lasting_answers[i];

        fault.call = call;
        if (!close_with(version, courtesy, &fault))
            return; /* this close makes no such call */
    }
}

static void test_every_answer(void **state)
{
    static const int versions[] = { TLS1_2_VERSION, TLS1_3_VERSION };

    (void) state;
    for (size_t v = 0; v < 2; v++)
        for (int courtesy = FIN_COURTESY_PROMPT; courtesy <= FIN_COURTESY_FULL; courtesy++)
            for (size_t c = 0; c < sizeof calls_that_repeat / sizeof *calls_that_repeat; c++)
                try_answers(versions[v], courtesy, calls_that_repeat[c]);
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(test_every_answer) };

    return cmocka_run_group_tests(tests, tls_setup, tls_teardown);
}
