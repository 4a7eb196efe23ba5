/* SPDX-License-Identifier: MIT */

/* Closing where no descriptor may be opened any more. With RLIMIT_NOFILE at 0, as in a sandbox,
 * poll(2) fails too: nothing may spin, and the receipt claims no more than can be known. */

#include "closer_support.h"
#include "worker.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>

/* ---- by the closer ---- */

static rlim_t open_now(void)
{
    struct descriptors set;

    descriptors_take(&set);
    return (rlim_t) set.entry[set.count - 1].number + 1;
}

static void test_new_closer(void **state)
{
    struct fin_policy policy = policy_of(FIN_COURTESY_PROMPT);
    struct fin_closer *closer = NULL;
    rlim_t first = open_now();
    int result = -EMFILE, fds[2];
    struct fin_receipt r;

    (void) state;
    for (rlim_t count = first; result < 0; count++) {
        assert_true(count < first + 16);
        limit_descriptors(count);
        result = fin_closer_new(NULL, &closer);
        unlimit_descriptors();
        if (result < 0) {
            assert_int_equal(result, -EMFILE);
            assert_null(closer);
            assert_int_equal(open_now(), first);
        }
    }
    assert_int_equal(result, 0);
    unix_pair(SOCK_STREAM, fds); /* it lacks nothing */
    r = closed_by(closer, fds[US], &policy);
    assert_int_equal(r.held, FIN_NO);
    drop_all(fds[THEM], -1);
    fin_closer_free(closer);
}

enum moment {
    BEFORE_SUBMIT,
    AFTER_SUBMIT,
    AFTER_START,
};

static bool is_unix(int fd)
{
    struct sockaddr_storage address;

    (void) address_of(fd, &address);
    return address.ss_family == AF_UNIX;
}

static void close_by_closer(enum moment moment, int fds[2], enum fin_stage proof)
{
    struct fin_policy policy = policy_of(FIN_COURTESY_ORDERLY);
    struct fin_closer *closer = closer_of(0);
    struct one one = { 0 };
    bool blind = moment == BEFORE_SUBMIT && is_unix(fds[US]);

    policy.proof = (int) proof;
    policy.proof_ms = 50;
    if (moment == BEFORE_SUBMIT)
        limit_descriptors(0); /* not even a number that was freed can be had */
    submit(closer, &one, fds[US], &policy);
    if (moment == AFTER_SUBMIT)
        limit_descriptors(0);
    if (moment == AFTER_START) {
        assert_int_equal(turn(closer), 0);
        limit_descriptors(0);
    }
    give(fds[THEM], "unread");
    drop_all(fds[THEM], -1);
    while (one.calls == 0)
        assert_true(fin_closer_dispatch(closer) >= 0); /* poll(2) refuses under this limit */
    unlimit_descriptors();
    assert_true(is_free(fds[US]));
    /* Whether the peer of a Unix socket was there still is asked by poll(2). */
    assert_outcome(&one.receipt, FIN_OUTCOME_GRACEFUL, blind ? FIN_END_KERNEL : FIN_END_FIN);
    assert_int_equal(unverifiable(&one.receipt, FIN_STAGE_ACKED), blind);
    assert_int_equal(reached(&one.receipt, FIN_STAGE_ACKED), !blind);
    assert_int_equal(one.receipt.discarded, 6);
    assert_int_equal(one.receipt.held, FIN_NO);
    fin_closer_free(closer);
}

static void test_closer(void **state)
{
    int fds[2];

    (void) state;
    for (enum moment moment = BEFORE_SUBMIT; moment <= AFTER_START; moment++) {
        tcp_pair(AF_INET, BUFFERS_USUAL, fds);
        close_by_closer(moment, fds, FIN_STAGE_UNREFERENCED);
        tcp_pair(AF_INET, BUFFERS_USUAL, fds);
        close_by_closer(moment, fds, FIN_STAGE_FINISHED);
        unix_pair(SOCK_STREAM, fds);
        close_by_closer(moment, fds, FIN_STAGE_UNREFERENCED);
    }
}

/* The holders can't be searched for, and the receipt does not pretend that there are none. */
static void test_held(void **state)
{
    struct fin_policy policy = policy_of(FIN_COURTESY_PROMPT);
    struct fin_closer *closer = closer_of(0);
    struct one one = { 0 };
    int fds[2], copy;

    (void) state;
    policy.find_holders = 1;
    policy.proof_ms = 0;
    tcp_pair(AF_INET, BUFFERS_USUAL, fds);
    copy = fcntl(fds[US], F_DUPFD_CLOEXEC, 0);
    limit_descriptors(0);
    submit(closer, &one, fds[US], &policy);
    while (one.calls == 0)
        assert_true(fin_closer_dispatch(closer) >= 0);
    unlimit_descriptors();
    assert_int_equal(one.receipt.held, FIN_YES);
    assert_int_equal(one.receipt.search, FIN_SEARCH_BLIND);
    drop_all(copy, fds[THEM], -1);
    fin_closer_free(closer);
}

/* A drain that waits for a mute peer takes no processor. */
static void test_drain(void **state)
{
    struct fin_policy policy = policy_of(FIN_COURTESY_ORDERLY);
    struct fin_closer *closer = closer_of(0);
    struct one one = { 0 };
    int fds[2];

    (void) state;
    policy.linger_ms = 300;
    policy.proof = FIN_STAGE_RELEASED;
    tcp_pair(AF_INET, BUFFERS_USUAL, fds);
    submit(closer, &one, fds[US], &policy);
    limit_descriptors(0);
    assert_int_equal(fin_closer_drain(closer, 5000), 0);
    unlimit_descriptors();
    assert_int_equal(one.calls, 1);
    assert_outcome(&one.receipt, FIN_OUTCOME_TIMED_OUT, FIN_END_FIN);
    assert_true(reached(&one.receipt, FIN_STAGE_ACKED));
    assert_seen_fin(see(fds[THEM]), 0);
    drop_all(fds[THEM], -1);
    fin_closer_free(closer);
}

/* ---- by a call, and by the library's own thread ---- */

/* The peer's answer is seen nevertheless, and waiting for one that does not come takes no
 * processor. */
static void test_blocking_close(void **state)
{
    struct fin_policy policy = policy_of(FIN_COURTESY_ORDERLY);
    struct answerer peer;
    struct fin_receipt r;
    struct pollfd entry = { .fd = -1 };
    int quick[2], mute[2];

    (void) state;
    policy.linger_ms = 2000;
    policy.proof = FIN_STAGE_RELEASED;
    tcp_pair(AF_INET, BUFFERS_USUAL, quick);
    tcp_pair(AF_INET, BUFFERS_USUAL, mute);
    give(quick[US], "hello");
    answer(&peer, quick[THEM]);
    limit_descriptors(0);
    assert_int_equal(poll(&entry, 1, 0), -1);
    r = closed(NULL, quick[US], &policy);
    assert_outcome(&r, FIN_OUTCOME_GRACEFUL, FIN_END_FIN);
    assert_true(reached(&r, FIN_STAGE_ACKED));
    assert_true(reached(&r, FIN_STAGE_EOF));
    assert_true(r.stage_ns[FIN_STAGE_EOF] < 1000000000);
    assert_seen_fin(answered(&peer), 5);
    policy.linger_ms = 300;
    r = closed(NULL, mute[US], &policy);
    assert_outcome(&r, FIN_OUTCOME_TIMED_OUT, FIN_END_FIN);
    assert_true(reached(&r, FIN_STAGE_ACKED));
    unlimit_descriptors();
    assert_seen_fin(see(mute[THEM]), 0);
    drop_all(mute[THEM], -1);
}

/* ---- a layer that has to wait twice before its bytes go ---- */

struct slow {
    int fd, calls;
};

static int flush_slowly(void *arg, uint64_t *unsent)
{
    struct slow *layer = arg;

    *unsent = 5;
    if (++layer->calls < 3)
        return FIN_LAYER_WANT_WRITE;
    give(layer->fd, "hello");
    *unsent = 0;
    return FIN_LAYER_DONE;
}

static int notify_nothing(void *arg)
{
    (void) arg;
    return FIN_LAYER_NONE;
}

static int read_nothing(void *arg, uint64_t max, uint64_t *n)
{
    const struct slow *layer = arg;
    char byte;

    (void) max;
    (void) n;
    return recv(layer->fd, &byte, 1, MSG_DONTWAIT) == 0 ? FIN_LAYER_EOF : FIN_LAYER_WANT_READ;
}

/* It is asked again, long before its time is over. */
static void test_blocking_close_layered(void **state)
{
    struct fin_policy policy = policy_of(FIN_COURTESY_ORDERLY);
    struct fin_receipt r = FIN_RECEIPT_INIT;
    struct fin_layer layer = FIN_LAYER_INIT;
    struct answerer peer;
    struct slow slow;
    int fds[2];

    (void) state;
    tcp_pair(AF_INET, BUFFERS_USUAL, fds);
    answer(&peer, fds[THEM]);
    slow = (struct slow) { .fd = fds[US] };
    layer.arg = &slow;
    layer.flush = flush_slowly;
    layer.notify = notify_nothing;
    layer.read = read_nothing;
    limit_descriptors(0);
    assert_int_equal(fin_close_layered(NULL, fds[US], &layer, &policy, &r), 0);
    unlimit_descriptors();
    assert_true(reached(&r, FIN_STAGE_FLUSHED));
    assert_int_equal(r.unsent, 0);
    assert_true(reached(&r, FIN_STAGE_EOF));
    assert_seen_fin(answered(&peer), 5);
}

/* The library's thread goes on, and ends when it is told to. */
static void test_close_later(void **state)
{
    static struct one one;
    int fds[2];

    (void) state;
    tcp_pair(AF_INET, BUFFERS_USUAL, fds);
    assert_int_equal(fin_close_later(fds[US], NULL, completed, &one), 0);
    limit_descriptors(0);
    assert_seen_fin(see_end(fds[THEM]), 0);
    drop_all(fds[THEM], -1);
    assert_int_equal(fin_close_later_drain(10000), 0);
    unlimit_descriptors();
    assert_int_equal(one.calls, 1);
    assert_outcome(&one.receipt, FIN_OUTCOME_GRACEFUL, FIN_END_FIN);
}

/* ---- by a handle ---- */

static void *close_it(void *arg)
{
    struct fin_receipt receipt = FIN_RECEIPT_INIT;

    assert_int_equal(fin_handle_close(arg, NULL, NULL, &receipt), 0);
    assert_outcome(&receipt, FIN_OUTCOME_GRACEFUL, FIN_END_FIN);
    return NULL;
}

/* Its calls wait as long as they are allowed to, and hear of what comes and of a close. */
static void test_handle(void **state)
{
    struct fin_handle *handle, *other = NULL;
    static const char block[65536];
    int fds[2], more[2];
    char buf[8];
    int64_t n;

    (void) state;
    tcp_pair(AF_INET, BUFFERS_SMALL, fds);
    unix_pair(SOCK_STREAM, more);
    handle = handle_of(fds[US]);
    (void) fill(fds[US]);
    limit_descriptors(0);
    assert_int_equal(fin_handle_new(more[US], &other), -EMFILE);
    assert_int_equal(fin_handle_dup_ref(handle, &other), -EMFILE);
    assert_null(other);
    assert_int_equal(fin_handle_recv(handle, buf, sizeof buf, 0, 300), -ETIMEDOUT);
    give(fds[THEM], "hello");
    assert_int_equal(fin_handle_recv(handle, buf, sizeof buf, 0, -1), 5);
    do /* the window may take some yet */
        n = fin_handle_send(handle, block, sizeof block, 0, 50);
    while (n > 0);
    assert_int_equal(n, -ETIMEDOUT);
    unlimit_descriptors();
    drop_all(more[US], more[THEM], fds[THEM], -1);
    assert_null(fin_handle_free(handle));
}

static void test_handle_that_accepts(void **state)
{
    int listener = listen_tcp(AF_INET, 0, 8, BUFFERS_USUAL), client;
    struct fin_handle *handle = handle_of(listener);

    (void) state;
    client = connect_to(listener, 0, BUFFERS_USUAL);
    limit_descriptors(0);
    assert_int_equal(fin_handle_accept(handle, -1), -EMFILE);
    unlimit_descriptors();
    drop_all(client, -1);
    assert_null(fin_handle_free(handle));
}

static void test_handle_is_closed(void **state)
{
    struct answerer peer;
    struct worker w;
    pthread_t closer;
    int fds[2];
    struct fin_handle *handle;

    (void) state;
    tcp_pair(AF_INET, BUFFERS_USUAL, fds);
    handle = handle_of(fds[US]);
    answer(&peer, fds[THEM]);
    limit_descriptors(0);
    start(&w, handle, receive);
    assert_int_equal(pthread_create(&closer, NULL, close_it, handle), 0);
    assert_int_equal(join(&w), -ECANCELED);
    assert_int_equal(pthread_join(closer, NULL), 0);
    unlimit_descriptors();
    assert_seen_fin(answered(&peer), 0);
    assert_null(fin_handle_free(handle));
}

/* No tombstone can be put on its number: it stays open, and the receipt does not say otherwise. Its
 * peer is told all the same, and who leaves last releases it. */
static void test_handle_whose_number_stays(void **state)
{
    struct fin_policy policy = policy_of(FIN_COURTESY_ORDERLY);
    struct fin_receipt r = FIN_RECEIPT_INIT;
    struct fin_handle *handle;
    struct answerer peer;
    int fds[2];

    (void) state;
    tcp_pair(AF_INET, BUFFERS_USUAL, fds);
    handle = handle_of(fds[US]);
    answer(&peer, fds[THEM]);
    policy.total_ms = 100;
    limit_descriptors(0);
    assert_int_equal(fin_handle_enter(handle), fds[US]);
    assert_int_equal(fin_handle_close(handle, NULL, &policy, &r), 0);
    unlimit_descriptors();
    assert_seen_fin(answered(&peer), 0);
    assert_int_equal(r.outcome, FIN_OUTCOME_ERROR);
    assert_int_equal(r.error, -EMFILE);
    assert_false(reached(&r, FIN_STAGE_RELEASED));
    assert_false(reached(&r, FIN_STAGE_UNREFERENCED));
    assert_int_equal(r.held, FIN_YES);
    assert_int_equal(r.tombstone, 0);
    assert_false(is_free(fds[US]));
    fin_handle_leave(handle);
    assert_true(is_free(fds[US]));
    assert_null(fin_handle_free(handle));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        GUARDED(test_new_closer),
        GUARDED(test_closer),
        GUARDED(test_held),
        GUARDED(test_drain),
        GUARDED(test_blocking_close),
        GUARDED(test_blocking_close_layered),
        GUARDED(test_close_later),
        GUARDED(test_handle),
        GUARDED(test_handle_that_accepts),
        GUARDED(test_handle_is_closed),
        GUARDED(test_handle_whose_number_stays),
    };

    own_network();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
