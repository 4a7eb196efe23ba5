/* SPDX-License-Identifier: MIT */

/* Threads that use the number itself while the handle is closed, and tombstones; what a thread
 * inside is told of a reset. */

#include "worker.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

/* ---- calls of one's own ---- */

static void test_a_foreign_recv_is_woken(void **state)
{
    struct fin_policy policy = policy_of(FIN_COURTESY_ORDERLY);
    struct fin_receipt receipt;
    struct worker w;
    int fds[2];
    struct fin_handle *handle;

    (void) state;
    tcp_pair(AF_INET, BUFFERS_USUAL, fds);
    handle = handle_of(fds[US]);
    start(&w, handle, receive_alone);
    await_call(&w, SYS_recvfrom);
    receipt = closed_handle(handle, &policy);
    assert_int_equal(join(&w), 0);
    assert_true(is_free(fds[US]));
    assert_int_equal(receipt.tombstone, 0);
    assert_true(unverifiable(&receipt, FIN_STAGE_EOF));
    assert_true(reached(&receipt, FIN_STAGE_ACKED));
    assert_outcome(&receipt, FIN_OUTCOME_GRACEFUL, FIN_END_FIN);
    assert_null(fin_handle_free(handle));
    assert_seen_fin(see(fds[THEM]), 0);
    drop_all(fds[THEM], -1);
}

static void check_foreign_recv_is_woken(int fds[2], enum fin_courtesy courtesy)
{
    struct fin_policy policy = policy_of(courtesy);
    struct fin_handle *handle = handle_of(fds[US]);
    struct fin_receipt receipt;
    struct worker w;

    start(&w, handle, receive_alone);
    await_call(&w, SYS_recvfrom);
    receipt = closed_handle(handle, &policy);
    assert_true(join(&w) <= 0);
    assert_int_equal(receipt.tombstone, 0);
    assert_false(reached(&receipt, FIN_STAGE_EOF));
    assert_true(is_free(fds[US]));
    assert_null(fin_handle_free(handle));
}

static void test_a_foreign_recv_is_woken_on_any_socket(void **state)
{
    int fds[2] = { -1, -1 };

    (void) state;
    if (has_mptcp()) {
        mptcp_pair(fds);
        check_foreign_recv_is_woken(fds, FIN_COURTESY_PROMPT);
        drop_all(fds[THEM], -1);
    }
    unix_pair(SOCK_STREAM, fds);
    check_foreign_recv_is_woken(fds, FIN_COURTESY_ORDERLY);
    drop_all(fds[THEM], -1);
    unix_pair(SOCK_DGRAM, fds);
    check_foreign_recv_is_woken(fds, FIN_COURTESY_ORDERLY);
    drop_all(fds[THEM], -1);
    fds[US] = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    check_foreign_recv_is_woken(fds, FIN_COURTESY_ORDERLY);
    fds[US] = socket(AF_INET6, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    check_foreign_recv_is_woken(fds, FIN_COURTESY_ABORT);
}

/* A FIN before the reset would tell the peer that it has everything. */
static void test_an_abort_resets_although_a_thread_is_inside(void **state)
{
    struct fin_policy policy = policy_of(FIN_COURTESY_ABORT);
    struct fin_receipt receipt;
    struct worker w;
    int fds[2];
    struct fin_handle *handle;

    (void) state;
    tcp_pair(AF_INET, BUFFERS_USUAL, fds);
    handle = handle_of(fds[US]);
    start(&w, handle, receive_alone);
    await_call(&w, SYS_recvfrom);
    receipt = closed_handle(handle, &policy);
    assert_true(join(&w) <= 0);
    assert_outcome(&receipt, FIN_OUTCOME_ABORTED, FIN_END_RESET);
    assert_int_equal(receipt.tombstone, 0);
    assert_seen_reset(see(fds[THEM]));
    assert_null(fin_handle_free(handle));
    drop_all(fds[THEM], -1);
}

/* A Unix socket has no RST: what wakes the thread is FIN to the peer, whoever else holds the
 * socket. */
static void test_an_abort_of_a_unix_socket_ends_it_for_a_thread_inside(void **state)
{
    struct fin_policy policy = policy_of(FIN_COURTESY_ABORT);

    (void) state;
    policy.proof_ms = 0;
    for (int held = 0; held < 2; held++) {
        struct fin_receipt receipt;
        struct fin_handle *handle;
        int fds[2], copy;
        struct worker w;

        unix_pair(held ? SOCK_SEQPACKET : SOCK_STREAM, fds);
        copy = held ? fcntl(fds[US], F_DUPFD_CLOEXEC, 0) : -1;
        handle = handle_of(fds[US]);
        start(&w, handle, receive_alone);
        await_call(&w, SYS_recvfrom);
        receipt = closed_handle(handle, &policy);
        assert_int_equal(join(&w), 0);
        /* What came while the thread left would be unread, and a reset. */
        assert_outcome(&receipt, FIN_OUTCOME_ABORTED, held ? FIN_END_FIN : FIN_END_KERNEL);
        assert_int_equal(receipt.held, held ? FIN_YES : FIN_NO);
        assert_seen_fin(see_end(fds[THEM]), 0);
        assert_null(fin_handle_free(handle));
        drop_all(fds[THEM], -1);
        if (held)
            drop_all(copy, -1);
    }
}

static void test_a_foreign_accept_is_woken(void **state)
{
    struct fin_policy policy = policy_of(FIN_COURTESY_ORDERLY);
    int listener = listen_tcp(AF_INET, 0, 8, BUFFERS_USUAL);
    struct fin_handle *handle = handle_of(listener);
    struct fin_receipt receipt;
    struct worker w;

    (void) state;
    policy.scope = FIN_SCOPE_CONNECTION;
    start(&w, handle, accept_alone);
    await_call(&w, SYS_accept4);
    receipt = closed_handle(handle, &policy);
    assert_int_equal(join(&w), -EINVAL);
    assert_int_equal(receipt.tombstone, 0);
    assert_true(is_free(listener));
    assert_null(fin_handle_free(handle));
}

/* ---- a peer that resets ---- */

/* What send(2) fails with ends the call, and what went out before counts. */
static void test_send_to_a_peer_that_resets(void **state)
{
    struct worker w;
    int fds[2];
    struct fin_handle *handle;

    (void) state;
    tcp_pair(AF_INET, BUFFERS_SMALL, fds);
    handle = handle_of(fds[US]);
    start(&w, handle, send_block);
    await_call(&w, SYS_ppoll);
    send_reset(fds[THEM]);
    assert_in_range(join(&w), 1, (1 << 20) - 1);
    assert_int_equal(fin_handle_send(handle, "!", 1, 0, -1), -EPIPE);
    assert_null(fin_handle_free(handle));
}

/* The first call is told of the reset, as by recv(2) and send(2): it is no end of the stream. */
static void check_a_reset_ends_the_call(void (*job)(struct worker *w), bool fill_it, bool early)
{
    struct worker w;
    int fds[2];
    struct fin_handle *handle;

    tcp_pair(AF_INET, BUFFERS_SMALL, fds);
    if (fill_it)
        (void) fill(fds[US]);
    handle = handle_of(fds[US]);
    if (early)
        send_reset(fds[THEM]);
    start(&w, handle, job);
    if (!early) {
        await_call(&w, SYS_ppoll);
        send_reset(fds[THEM]);
    }
    assert_int_equal(join(&w), -ECONNRESET);
    assert_null(fin_handle_free(handle));
}

static void test_a_reset_is_told(void **state)
{
    (void) state;
    for (int early = 0; early < 2; early++) {
        check_a_reset_ends_the_call(receive, false, early);
        check_a_reset_ends_the_call(send_block, true, early);
    }
}

/* ---- tombstones ---- */

/* New descriptors take the lowest number that is free: none of these may be `number`. */
static void assert_not_given_away(int number)
{
    int copies[DESCRIPTORS_MAX / 2];
    size_t count = 0;

    assert_false(is_free(number));
    do {
        copies[count] = fcntl(number, F_DUPFD_CLOEXEC, 0);
        assert_true(copies[count] >= 0);
        assert_int_not_equal(copies[count], number);
    } while (copies[count++] < number + 4);
    while (count > 0)
        drop_all(copies[--count], -1);
}

static void test_a_tombstone_holds_the_number(void **state)
{
    struct fin_policy policy = policy_of(FIN_COURTESY_ORDERLY);
    struct fin_receipt receipt;
    struct worker w;
    int fds[2];
    struct fin_handle *handle;

    (void) state;
    tcp_pair(AF_INET, BUFFERS_USUAL, fds);
    handle = handle_of(fds[US]);
    start(&w, handle, stay);
    await_entry(&w);
    policy.total_ms = 30;
    receipt = closed_handle(handle, &policy);
    assert_int_not_equal(receipt.tombstone, 0);
    assert_int_equal(receipt.held, FIN_NO);
    assert_true(receipt.stage_ns[FIN_STAGE_RELEASED] >= 30000000);
    assert_outcome(&receipt, FIN_OUTCOME_GRACEFUL, FIN_END_FIN);
    assert_true(unverifiable(&receipt, FIN_STAGE_EOF));
    assert_not_given_away(fds[US]);
    assert_cancelled(handle);
    assert_seen_fin(see(fds[THEM]), 0);
    assert_null(fin_handle_free(handle)); /* the thread inside may leave all the same */
    atomic_store(&w.release, 1);
    assert_int_equal(join(&w), -ENOTSOCK);
    assert_true(is_free(fds[US]));
    drop_all(fds[THEM], -1);
}

static void test_scope_descriptor_wakes_no_foreign_call(void **state)
{
    struct fin_policy policy = policy_hasty(FIN_COURTESY_ORDERLY);
    struct fin_receipt receipt;
    struct worker own, foreign;
    int fds[2];
    struct fin_handle *handle;

    (void) state;
    tcp_pair(AF_INET, BUFFERS_USUAL, fds);
    handle = handle_of(fds[US]);
    start(&own, handle, receive);
    start(&foreign, handle, receive_alone);
    await_call(&own, SYS_ppoll);
    await_call(&foreign, SYS_recvfrom);
    policy.scope = FIN_SCOPE_DESCRIPTOR;
    receipt = closed_handle(handle, &policy);
    assert_int_equal(join(&own), -ECANCELED);
    assert_int_not_equal(receipt.tombstone, 0);
    assert_int_equal(receipt.held, FIN_YES); /* by the call that goes on */
    assert_int_equal(receipt.end, FIN_END_NONE);
    assert_not_given_away(fds[US]);
    give(fds[THEM], "still here");
    assert_int_equal(join(&foreign), 10);
    assert_true(is_free(fds[US]));
    assert_seen_fin(see(fds[THEM]), 0);
    assert_null(fin_handle_free(handle));
    drop_all(fds[THEM], -1);
}

/* The last of several. */
static void test_the_last_thread_frees_the_number(void **state)
{
    struct fin_policy policy = policy_hasty(FIN_COURTESY_PROMPT);
    struct worker w[2];
    int fds[2];
    struct fin_handle *handle;

    (void) state;
    unix_pair(SOCK_STREAM, fds);
    handle = handle_of(fds[US]);
    policy.total_ms = 0;
    start(&w[0], handle, stay);
    start(&w[1], handle, stay);
    await_entry(&w[0]);
    await_entry(&w[1]);
    assert_int_not_equal(closed_handle(handle, &policy).tombstone, 0);
    atomic_store(&w[1].release, 1);
    assert_int_equal(join(&w[1]), -ENOTSOCK);
    assert_not_given_away(fds[US]);
    atomic_store(&w[0].release, 1);
    assert_int_equal(join(&w[0]), -ENOTSOCK);
    assert_true(is_free(fds[US]));
    assert_null(fin_handle_free(handle));
    drop_all(fds[THEM], -1);
}

/* It would wait for itself. */
static void test_close_between_enter_and_leave(void **state)
{
    struct fin_policy policy = policy_hasty(FIN_COURTESY_PROMPT);
    int fds[2];
    struct fin_handle *handle;

    (void) state;
    unix_pair(SOCK_STREAM, fds);
    handle = handle_of(fds[US]);
    policy.total_ms = 10;
    assert_int_equal(fin_handle_enter(handle), fds[US]);
    assert_int_not_equal(closed_handle(handle, &policy).tombstone, 0);
    assert_not_given_away(fds[US]);
    fin_handle_leave(handle);
    assert_true(is_free(fds[US]));
    assert_null(fin_handle_free(handle));
    drop_all(fds[THEM], -1);
}

/* ---- when there is nothing left ---- */

/* No descriptor may be opened above what is open now. */
static void forbid_descriptors(void)
{
    int lowest = fcntl(0, F_DUPFD_CLOEXEC, 0);

    assert_true(lowest >= 0);
    drop_all(lowest, -1);
    limit_descriptors((rlim_t) lowest);
    assert_int_equal(fcntl(0, F_DUPFD_CLOEXEC, 0), -1);
}

/* A program without a stdin: the number is like any other. */
static void test_what_tombstones_are_made_of_may_be_descriptor_0(void **state)
{
    int kept = fcntl(STDIN_FILENO, F_DUPFD_CLOEXEC, 3), fds[2];
    struct fin_handle *handle;

    (void) state;
    assert_true(kept >= 0);
    unix_pair(SOCK_STREAM, fds);
    assert_int_equal(close(STDIN_FILENO), 0);
    handle = handle_of(fds[US]);
    assert_false(is_free(STDIN_FILENO));
    assert_null(fin_handle_free(handle));
    assert_true(is_free(STDIN_FILENO));
    assert_int_equal(dup2(kept, STDIN_FILENO), STDIN_FILENO);
    drop_all(fds[THEM], kept, -1);
}

static void test_new_without_descriptors_leaves_the_socket(void **state)
{
    struct fin_handle *handle = NULL, *copy = NULL;
    int fds[2];

    (void) state;
    unix_pair(SOCK_STREAM, fds);
    forbid_descriptors();
    assert_int_equal(fin_handle_new(fds[US], &handle), -EMFILE);
    unlimit_descriptors();
    assert_null(handle);
    handle = handle_of(fds[US]);
    forbid_descriptors();
    assert_int_equal(fin_handle_dup_ref(handle, &copy), -EMFILE);
    unlimit_descriptors();
    assert_null(copy);
    assert_int_equal(fin_handle_send(handle, "fine", 4, 0, -1), 4);
    assert_null(fin_handle_free(handle));
    drop_all(fds[THEM], -1);
}

static void test_close_without_descriptors(void **state)
{
    struct fin_policy policy = policy_hasty(FIN_COURTESY_PROMPT);
    struct fin_receipt receipt;
    struct worker own, inside;
    int fds[2];
    struct fin_handle *handle;

    (void) state;
    tcp_pair(AF_INET, BUFFERS_USUAL, fds);
    handle = handle_of(fds[US]);
    start(&own, handle, receive);
    start(&inside, handle, stay);
    await_call(&own, SYS_ppoll);
    await_entry(&inside);
    policy.total_ms = 20;
    forbid_descriptors();
    receipt = closed_handle(handle, &policy);
    unlimit_descriptors();
    assert_int_equal(join(&own), -ECANCELED);
    assert_int_not_equal(receipt.tombstone, 0);
    assert_seen_fin(see(fds[THEM]), 0);
    atomic_store(&inside.release, 1);
    assert_int_equal(join(&inside), -ENOTSOCK);
    assert_true(is_free(fds[US]));
    assert_null(fin_handle_free(handle));
    drop_all(fds[THEM], -1);
}

/* Nothing of the call is with the peer, so that nothing is missing. */
static void test_no_part_is_no_loss(void **state)
{
    struct fin_policy policy = policy_of(FIN_COURTESY_PROMPT);
    struct fin_receipt receipt;
    struct fin_handle *handle;
    struct worker w;
    size_t bytes;
    int fds[2];

    (void) state;
    unix_pair(SOCK_STREAM, fds);
    bytes = fill(fds[US]);
    handle = handle_of(fds[US]);
    start(&w, handle, send_block);
    await_call(&w, SYS_ppoll);
    receipt = closed_handle(handle, &policy);
    assert_int_equal(join(&w), -ECANCELED);
    assert_int_equal(receipt.outcome, FIN_OUTCOME_PROMPT);
    assert_int_equal(receipt.unsent, 0);
    assert_seen_fin(see(fds[THEM]), bytes);
    drop_all(fds[THEM], -1);
    assert_null(fin_handle_free(handle));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        GUARDED(test_a_foreign_recv_is_woken),
        GUARDED(test_a_foreign_recv_is_woken_on_any_socket),
        GUARDED(test_an_abort_resets_although_a_thread_is_inside),
        GUARDED(test_an_abort_of_a_unix_socket_ends_it_for_a_thread_inside),
        GUARDED(test_a_foreign_accept_is_woken),
        GUARDED(test_send_to_a_peer_that_resets),
        GUARDED(test_a_reset_is_told),
        GUARDED(test_a_tombstone_holds_the_number),
        GUARDED(test_scope_descriptor_wakes_no_foreign_call),
        GUARDED(test_the_last_thread_frees_the_number),
        GUARDED(test_close_between_enter_and_leave),
        GUARDED(test_what_tombstones_are_made_of_may_be_descriptor_0),
        GUARDED(test_new_without_descriptors_leaves_the_socket),
        GUARDED(test_close_without_descriptors),
        GUARDED(test_no_part_is_no_loss),
    };

    return cmocka_run_group_tests_name("handle_inside", tests, NULL, NULL);
}
