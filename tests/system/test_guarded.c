/* SPDX-License-Identifier: MIT */

/* The blocking close of the Python extension, without an interpreter: threads are inside a call on
 * the number, and a signal's handler may want the close to end. */

#include "support.h"

#include "base/clock.h"
#include "guarded.h"

#include <errno.h>
#include <stdatomic.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

/* That a thread has left its call is read in /proc, which ThreadSanitizer does not take for an
 * order between the call and close(2). */
const char *__tsan_default_suppressions(void);

const char *__tsan_default_suppressions(void)
{
    return "race:^fin__release$\n";
}

struct inside {
    pthread_t thread;
    int fd;
    bool sends;
    ssize_t result;
};

struct cutter {
    pthread_t thread;
    int fd;
    atomic_bool wanted;
};

static void *go_inside(void *arg)
{
    static const char bytes[1 << 20];
    struct inside *in = arg;
    char byte;

    in->result =
        in->sends ? send(in->fd, bytes, sizeof bytes, MSG_NOSIGNAL) : recv(in->fd, &byte, 1, 0);
    return NULL;
}

/* Once it is in the system call. */
static void send_inside(struct inside *in, int fd, bool sends)
{
    const struct timespec pause = { 0, 1000000 };
    struct fin__inside look;

    *in = (struct inside) { .fd = fd, .sends = sends };
    assert_int_equal(pthread_create(&in->thread, NULL, go_inside, in), 0);
    for (bool found = false; !found;) {
        fin__inside_begin(&look, fd);
        fin__inside_settle(&look, 20 * FIN__NS_PER_MS);
        found = sends ? look.sending > 0 : look.receiving > 0;
        fin__inside_end(&look);
        if (!found)
            (void) clock_nanosleep(CLOCK_MONOTONIC, 0, &pause, NULL);
    }
}

static struct fin_receipt close_guarded(int fd, const struct fin_policy *policy,
                                        const struct fin__guarded_options *options)
{
    struct fin_receipt receipt = FIN_RECEIPT_INIT;
    struct fin__tomb *tomb = NULL;

    assert_int_equal(fin__close_guarded(fd, policy, options, &receipt, &tomb), 0);
    assert_null(tomb);
    assert_true(is_free(fd));
    return receipt;
}

static void test_receivers_are_woken(void **state)
{
    const struct fin__guarded_options usual = { 0 };
    struct fin_policy policy = policy_of(FIN_COURTESY_ORDERLY);

    (void) state;
    for (int round = 0; round < 20; round++) {
        struct fin_receipt receipt;
        struct answerer peer;
        struct inside in;
        int fds[2];

        tcp_pair(AF_INET, BUFFERS_USUAL, fds);
        send_inside(&in, fds[US], false);
        answer(&peer, fds[THEM]);
        receipt = close_guarded(fds[US], &policy, &usual);
        assert_int_equal(pthread_join(in.thread, NULL), 0);
        assert_true(in.result <= 0);
        assert_seen_fin(answered(&peer), 0);
        assert_true(reached(&receipt, FIN_STAGE_SHUT) && reached(&receipt, FIN_STAGE_RELEASED));
    }
}

/* The peer does not read: it must not take what it has for all. */
static void test_a_sender_has_its_time(void **state)
{
    const struct fin__guarded_options usual = { 0 };
    struct fin_policy policy = policy_hasty(FIN_COURTESY_ORDERLY);
    struct fin_receipt receipt;
    struct inside in;
    int fds[2];

    (void) state;
    tcp_pair(AF_INET, BUFFERS_SMALL, fds);
    send_inside(&in, fds[US], true);
    receipt = close_guarded(fds[US], &policy, &usual);
    assert_int_equal(pthread_join(in.thread, NULL), 0);
    assert_int_equal(receipt.end, FIN_END_RESET);
    assert_seen_reset(see(fds[THEM]));
    close(fds[THEM]);
}

static bool is_wanted(void *arg)
{
    struct cutter *c = arg;

    return atomic_load(&c->wanted);
}

static void *want_once_shut(void *arg)
{
    struct cutter *c = arg;
    char byte;

    (void) recv(c->fd, &byte, 1, 0); /* its FIN tells that the close is under way */
    atomic_store(&c->wanted, true);
    return NULL;
}

static void test_it_can_be_cut(void **state)
{
    struct fin_policy policy = policy_of(FIN_COURTESY_ORDERLY);
    struct fin_receipt receipt;
    uint64_t begun = fin__now();
    struct cutter c = { 0 };
    const struct fin__guarded_options options = { .cut = is_wanted, .arg = &c };
    int fds[2];

    (void) state;
    policy.linger_ms = policy.total_ms = 60000;
    tcp_pair(AF_INET, BUFFERS_USUAL, fds);
    c.fd = fds[THEM];
    assert_int_equal(pthread_create(&c.thread, NULL, want_once_shut, &c), 0);
    receipt = close_guarded(fds[US], &policy, &options);
    assert_int_equal(pthread_join(c.thread, NULL), 0);
    assert_int_equal(receipt.outcome, FIN_OUTCOME_ABORTED);
    assert_true(reached(&receipt, FIN_STAGE_SHUT));
    assert_true(fin__now() - begun < 10ull * FIN__NS_PER_S);
    close(fds[THEM]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        GUARDED(test_receivers_are_woken),
        GUARDED(test_a_sender_has_its_time),
        GUARDED(test_it_can_be_cut),
    };

    own_network();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
