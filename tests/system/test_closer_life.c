/* SPDX-License-Identifier: MIT */

/* The closer as a part of a program: its end, fork, and what it costs while nothing happens. */

#include "closer_support.h"
#include "keeper.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/wait.h>
#include <unistd.h>

#define MANY 40

struct load {
    struct fin_closer *closer;
    struct one list[MANY];
    int peer[MANY];
};

/* Closes that wait for peers who say nothing. */
static void load(struct load *l, uint32_t cap)
{
    struct fin_policy policy = policy_of(FIN_COURTESY_ORDERLY);

    policy.linger_ms = 10000;
    memset(l, 0, sizeof *l);
    l->closer = closer_of(cap);
    for (int i = 0; i < MANY; i++) {
        int fds[2];

        tcp_pair(AF_INET, BUFFERS_USUAL, fds);
        l->peer[i] = fds[THEM];
        submit(l->closer, &l->list[i], fds[US], &policy);
    }
}

static void hang_up(struct load *l)
{
    for (int i = 0; i < MANY; i++)
        drop_all(l->peer[i], -1);
}

static void assert_cut(const struct load *l, int i)
{
    assert_int_equal(l->list[i].calls, 1);
    assert_int_equal(l->list[i].receipt.outcome, FIN_OUTCOME_ABORTED);
    assert_int_equal(l->list[i].receipt.end, FIN_END_RESET);
    assert_sound(&l->list[i].receipt);
    assert_true(is_free(l->list[i].fd));
    assert_int_equal(see(l->peer[i]).next_send, EPIPE);
}

/* ---- the end ---- */

static void test_free_with_closes_pending(void **state)
{
    struct load l;

    (void) state;
    for (int started = 0; started < 2; started++) {
        load(&l, 0);
        if (started)
            assert_int_equal(turn(l.closer), 0);
        assert_null(fin_closer_free(l.closer));
        for (int i = 0; i < MANY; i++)
            assert_cut(&l, i);
        hang_up(&l);
    }
}

static void test_drain_with_stragglers(void **state)
{
    struct load l;
    uint64_t begin;

    (void) state;
    load(&l, 0);
    for (int i = 0; i < MANY; i += 2)
        assert_int_equal(shutdown(l.peer[i], SHUT_WR), 0);
    begin = clock_ns();
    assert_int_equal(fin_closer_drain(l.closer, 200), MANY / 2);
    assert_true(clock_ns() - begin >= 200000000);
    for (int i = 0; i < MANY; i++) {
        if (i % 2) {
            assert_cut(&l, i);
        } else {
            assert_int_equal(l.list[i].calls, 1);
            assert_outcome(&l.list[i].receipt, FIN_OUTCOME_GRACEFUL, FIN_END_FIN);
        }
    }
    assert_int_equal(pending(l.closer), 0);
    hang_up(&l);
    fin_closer_free(l.closer);
}

/* Its time begins when the flush has ended, however little of the flush's own is left. */
static void test_farewell_has_its_own_time(void **state)
{
    struct fin_policy policy = policy_of(FIN_COURTESY_ORDERLY);
    struct fin_closer *closer = closer_of(0);
    struct one one = { 0 };
    struct fake_layer fake;
    uint64_t begin = clock_ns();
    int fds[2];

    (void) state;
    policy.flush_ms = policy.linger_ms = 0;
    policy.farewell_ms = 100;
    tcp_pair(AF_INET, BUFFERS_USUAL, fds);
    fake_layer(&fake);
    fake.notify = FIN_LAYER_WANT_READ;
    submit_fake(closer, &one, fds[US], &fake, &policy);
    await(closer, &one);
    assert_true(clock_ns() - begin >= 100000000);
    assert_int_equal(one.receipt.outcome, FIN_OUTCOME_TIMED_OUT);
    assert_int_equal(one.receipt.phase, FIN_PHASE_FAREWELL);
    drop_all(fds[THEM], -1);
    fin_closer_free(closer);
}

/* There is room to send, but that is not what it waits for. The guard notices no spin where the
 * machine has no time for one. */
static void test_a_layer_that_waits_for_input_is_left_alone(void **state)
{
    struct fin_policy policy = policy_of(FIN_COURTESY_ORDERLY);
    struct fin_receipt receipt = FIN_RECEIPT_INIT;
    struct fin_closer *closer = closer_of(0);
    struct one one = { 0 };
    struct fake_layer fake;
    int fds[2];

    (void) state;
    policy.flush_ms = 100;
    fake_layer(&fake);
    fake.flush = FIN_LAYER_WANT_READ;
    tcp_pair(AF_INET, BUFFERS_USUAL, fds);
    assert_int_equal(fin_close_layered(NULL, fds[US], &fake.layer, &policy, &receipt), 0);
    assert_int_equal(receipt.phase, FIN_PHASE_FLUSH);
    assert_in_range(fake.flushes, 1, 3);
    drop_all(fds[THEM], -1);
    fake.flushes = 0;
    tcp_pair(AF_INET, BUFFERS_USUAL, fds);
    submit_fake(closer, &one, fds[US], &fake, &policy);
    await(closer, &one);
    assert_int_equal(one.receipt.phase, FIN_PHASE_FLUSH);
    assert_in_range(fake.flushes, 1, 3);
    drop_all(fds[THEM], -1);
    fin_closer_free(closer);
}

/* It returns when the last one has ended, not later; and the closer is as good as new. */
static void test_drain_without_stragglers(void **state)
{
    struct fin_policy policy = policy_of(FIN_COURTESY_PROMPT);
    struct one one = { 0 };
    struct load l;
    int fds[2];

    (void) state;
    load(&l, 0);
    hang_up(&l);
    assert_int_equal(fin_closer_drain(l.closer, GUARD_S * 1000), 0);
    for (int i = 0; i < MANY; i++)
        assert_outcome(&l.list[i].receipt, FIN_OUTCOME_GRACEFUL, FIN_END_FIN);
    assert_int_equal(fin_closer_drain(l.closer, 0), 0);
    tcp_pair(AF_INET, BUFFERS_USUAL, fds);
    submit(l.closer, &one, fds[US], &policy);
    await(l.closer, &one);
    drop_all(fds[THEM], -1);
    fin_closer_free(l.closer);
}

/* ---- identifiers ---- */

#define SLOTS 300 /* more than are made at once: each of them is in use again */

static void test_stale_identifiers(void **state)
{
    struct fin_policy policy = policy_of(FIN_COURTESY_PROMPT);
    struct fin_closer *closer = closer_of(0);
    struct one first = { 0 };
    static struct one list[SLOTS];
    int fds[2];

    (void) state;
    policy.scope = FIN_SCOPE_DESCRIPTOR;
    policy.find_holders = 0;
    unix_pair(SOCK_STREAM, fds);
    submit(closer, &first, fcntl(fds[US], F_DUPFD_CLOEXEC, 0), &policy);
    assert_int_equal(fin_closer_abort(closer, first.op), 0);
    await(closer, &first);
    for (int i = 0; i < SLOTS; i++) { /* held, so that they stay for a while */
        list[i] = (struct one) { 0 };
        submit(closer, &list[i], fcntl(fds[US], F_DUPFD_CLOEXEC, 100 + i), &policy);
        assert_true(list[i].op != first.op);
    }
    assert_int_equal(fin_closer_abort(closer, first.op), -ENOENT);
    for (int i = 0; i < 4; i++)
        assert_int_equal(turn(closer), 0);
    assert_int_equal(pending(closer), SLOTS);
    assert_int_equal(first.calls, 1);
    drop_all(fds[US], -1);
    await_all(closer, list, SLOTS);
    for (int i = 0; i < SLOTS; i++)
        assert_int_equal(list[i].receipt.held, FIN_NO);
    assert_seen_fin(see(fds[THEM]), 0);
    drop_all(fds[THEM], -1);
    fin_closer_free(closer);
}

/* A second close of the same number is the program's mistake; the first goes on. */
static void test_submitted_twice(void **state)
{
    struct fin_policy policy = policy_of(FIN_COURTESY_ORDERLY);
    struct fin_closer *closer = closer_of(0);
    struct one one = { 0 };
    int fds[2];

    (void) state;
    tcp_pair(AF_INET, BUFFERS_USUAL, fds);
    submit(closer, &one, fds[US], &policy);
    assert_true(fin_closer_submit(closer, fds[US], &policy, NULL, NULL, NULL) < 0);
    assert_int_equal(pending(closer), 1);
    drop_all(fds[THEM], -1);
    await(closer, &one);
    assert_outcome(&one.receipt, FIN_OUTCOME_GRACEFUL, FIN_END_FIN);
    fin_closer_free(closer);
}

/* ---- fork ---- */

static bool child_leaves_us_alone(void *arg)
{
    struct load *l = arg;
    struct fin_closer_counters counters = FIN_CLOSER_COUNTERS_INIT;
    struct fin_policy policy = policy_of(FIN_COURTESY_PROMPT);
    bool refused = fin_closer_fd(l->closer) == -ECHILD && fin_closer_dispatch(l->closer) == -ECHILD
        && fin_closer_drain(l->closer, 10) == -ECHILD
        && fin_closer_abort(l->closer, l->list[0].op) == -ECHILD
        && fin_closer_count(l->closer, &counters) == -ECHILD
        && fin_closer_submit(l->closer, l->peer[0], &policy, NULL, NULL, NULL) == -ECHILD;

    fin_closer_free(l->closer);
    for (int i = 0; i < MANY; i++) /* its copies are gone, and no completion ran */
        refused = refused && l->list[i].calls == 0 && is_free(l->list[i].fd);
    for (int i = 0; i < MANY; i++)
        (void) close(l->peer[i]);
    return refused;
}

static void fork_in_the_middle(bool started, bool followed)
{
    struct fin_policy policy = policy_of(FIN_COURTESY_ORDERLY);
    struct one late = { 0 };
    int fds[2], copy = -1;
    struct load l;

    load(&l, 0);
    if (started)
        assert_int_equal(turn(l.closer), 0);
    if (followed) { /* one that has joined the destroy groups */
        tcp_pair(AF_INET, BUFFERS_USUAL, fds);
        copy = fcntl(fds[US], F_DUPFD_CLOEXEC, 0);
        drop_all(fds[THEM], -1);
        submit(l.closer, &late, fds[US], &policy);
        while (!memberships())
            (void) turn(l.closer);
    }
    child_join(child_start(child_leaves_us_alone, &l));
    if (followed) {
        assert_int_equal(memberships(), 1);
        drop_all(copy, -1);
        await(l.closer, &late);
        assert_int_equal(late.receipt.held, FIN_NO);
    }
    hang_up(&l);
    await_all(l.closer, l.list, MANY);
    for (int i = 0; i < MANY; i++) {
        assert_outcome(&l.list[i].receipt, FIN_OUTCOME_GRACEFUL, FIN_END_FIN);
        assert_int_equal(l.list[i].receipt.held, FIN_NO);
    }
    fin_closer_free(l.closer);
}

static void test_fork(void **state)
{
    (void) state;
    fork_in_the_middle(false, false);
    fork_in_the_middle(true, false);
    fork_in_the_middle(true, true);
}

/* A child that lives on without freeing anything holds what the parent closes. */
static void test_fork_that_stays(void **state)
{
    struct fin_policy policy = policy_of(FIN_COURTESY_ORDERLY);
    struct fin_closer *closer = closer_of(0);
    struct one one = { 0 };
    struct keeper keeper;
    int fds[2];

    (void) state;
    busy(); /* the search, where much is open */
    policy.find_holders = 1;
    policy.proof_ms = 20;
    tcp_pair(AF_INET, BUFFERS_USUAL, fds);
    submit(closer, &one, fds[US], &policy);
    assert_int_equal(turn(closer), 0);
    keeper_start(&keeper, NULL, NULL);
    assert_int_equal(shutdown(fds[THEM], SHUT_WR), 0);
    await(closer, &one);
    assert_outcome(&one.receipt, FIN_OUTCOME_GRACEFUL, FIN_END_FIN);
    assert_int_equal(one.receipt.held, FIN_YES);
    assert_true(search_is(&one.receipt, FIN_SEARCH_FOUND));
    assert_int_equal(one.receipt.holders, 1);
    assert_int_equal(one.receipt.holder[0].pid, keeper.pid);
    assert_int_equal(see(fds[THEM]).end, 0);
    keeper_stop(&keeper);
    drop_all(fds[THEM], -1);
    fin_closer_free(closer);
}

/* ---- quiet while nothing happens ---- */

static void expect_quiet(const struct fin_closer *closer)
{
    struct pollfd entry = { .fd = fin_closer_fd(closer), .events = POLLIN };

    assert_int_equal(fin_closer_next_deadline(closer), UINT64_MAX);
    assert_int_equal(poll(&entry, 1, 1000), 0);
    assert_int_equal(memberships(), 0);
}

/* Is a timer of this process set? proc(5), fdinfo of a timerfd. */
static bool is_timer_armed(void)
{
    bool armed = false;

    for (int fd = 0; fd < 64; fd++) {
        char path[64], line[128];
        unsigned long long s, ns;
        FILE *file;

        (void) snprintf(path, sizeof path, "/proc/self/fdinfo/%d", fd);
        file = fopen(path, "re");
        while (file && fgets(line, sizeof line, file))
            if (sscanf(line, "it_value: (%llu, %llu)", &s, &ns) == 2 && (s || ns))
                armed = true;
        if (file)
            (void) fclose(file);
    }
    return armed;
}

static void test_idle(void **state)
{
    struct fin_policy policy = policy_of(FIN_COURTESY_ORDERLY);
    struct fin_closer *closer = closer_of(0);
    struct one one = { 0 };
    int fds[2], copy;

    (void) state;
    assert_false(is_timer_armed());
    policy.proof_ms = 300;
    tcp_pair(AF_INET, BUFFERS_USUAL, fds); /* one that needed a timer, and destroy events */
    copy = fcntl(fds[US], F_DUPFD_CLOEXEC, 0);
    submit(closer, &one, fds[US], &policy);
    (void) turn(closer);
    assert_true(is_timer_armed());
    assert_true(fin_closer_next_deadline(closer) > clock_ns());
    drop_all(fds[THEM], -1);
    await(closer, &one);
    assert_int_equal(one.receipt.held, FIN_YES);
    while (is_readable(closer)) /* what was under way */
        assert_int_equal(fin_closer_dispatch(closer), 0);
    assert_false(is_timer_armed());
    expect_quiet(closer);
    drop_all(copy, -1);
    fin_closer_free(closer);
}

/* Each wake-up must be for something: the start, the ACK of our FIN, the deadline. */
static void test_wakeups_while_lingering(void **state)
{
    struct fin_policy policy = policy_of(FIN_COURTESY_ORDERLY);
    struct fin_closer *closer = closer_of(0);
    struct one one = { 0 };
    unsigned wakeups = 0;
    int fds[2];

    (void) state;
    policy.linger_ms = 300;
    tcp_pair(AF_INET, BUFFERS_USUAL, fds);
    give(fds[US], "all of it");
    submit(closer, &one, fds[US], &policy);
    while (one.calls == 0) {
        (void) turn(closer);
        wakeups++;
    }
    assert_outcome(&one.receipt, FIN_OUTCOME_TIMED_OUT, FIN_END_FIN);
    assert_true(one.receipt.stage_ns[FIN_STAGE_RELEASED] >= 300000000);
    assert_true(wakeups <= 6);
    assert_seen_fin(see(fds[THEM]), 9);
    drop_all(fds[THEM], -1);
    fin_closer_free(closer);
}

/* Input that nobody reads while our own bytes wait for room. */
static void wakeups_while_flushing(bool input, bool ended)
{
    struct fin_policy policy = policy_of(FIN_COURTESY_ORDERLY);
    struct fin_closer *closer = closer_of(0);
    struct fake_layer fake;
    struct one one = { 0 };
    unsigned wakeups = 0;
    int fds[2];

    policy.flush_ms = 300;
    tcp_pair(AF_INET, BUFFERS_SMALL, fds);
    (void) fill(fds[US]);
    if (input)
        give(fds[THEM], "unread");
    if (ended)
        assert_int_equal(shutdown(fds[THEM], SHUT_WR), 0);
    if (input || ended)
        await_input(fds[US]);
    fake_layer(&fake);
    fake.flush = FIN_LAYER_WANT_WRITE;
    fake.flush_fd = fds[US];
    fake.unsent = 5;
    submit_fake(closer, &one, fds[US], &fake, &policy);
    while (one.calls == 0) {
        (void) turn(closer);
        wakeups++;
    }
    assert_true(wakeups <= 8);
    assert_outcome(&one.receipt, FIN_OUTCOME_TIMED_OUT, FIN_END_RESET);
    assert_int_equal(one.receipt.phase, FIN_PHASE_FLUSH);
    assert_int_equal(one.receipt.unsent, 5);
    assert_seen_reset(see(fds[THEM]));
    drop_all(fds[THEM], -1);
    fin_closer_free(closer);
}

static void test_wakeups_while_flushing(void **state)
{
    (void) state;
    wakeups_while_flushing(false, false);
    wakeups_while_flushing(true, false);
    wakeups_while_flushing(true, true);
}

/* Looks at the witness grow rarer: 1, 2, 4 ... 64 ms. */
static void test_wakeups_while_held(void **state)
{
    struct fin_policy policy = policy_of(FIN_COURTESY_PROMPT);
    struct fin_closer *closer = closer_of(0);
    struct one one = { 0 };
    unsigned wakeups = 0;
    int fds[2], copy;

    (void) state;
    policy.proof_ms = 400;
    unix_pair(SOCK_STREAM, fds);
    copy = fcntl(fds[US], F_DUPFD_CLOEXEC, 0);
    submit(closer, &one, fds[US], &policy);
    while (one.calls == 0) {
        (void) turn(closer);
        wakeups++;
    }
    assert_int_equal(one.receipt.held, FIN_YES);
    assert_true(wakeups <= 16);
    drop_all(copy, fds[THEM], -1);
    fin_closer_free(closer);
}

#define HELD 200

/* However many they are, one look serves them all. */
static void test_wakeups_while_many_are_held(void **state)
{
    struct fin_policy policy = policy_of(FIN_COURTESY_PROMPT);
    struct fin_closer *closer = closer_of(0);
    static struct one list[HELD];
    unsigned wakeups = 0;
    int fds[2];

    (void) state;
    busy();
    policy.scope = FIN_SCOPE_DESCRIPTOR;
    policy.find_holders = 0;
    policy.proof_ms = 400;
    unix_pair(SOCK_STREAM, fds);
    for (int i = 0; i < HELD; i++) {
        list[i] = (struct one) { 0 };
        submit(closer, &list[i], fcntl(fds[US], F_DUPFD_CLOEXEC, 100 + i), &policy);
        assert_true(fin_closer_dispatch(closer) >= 0);
    }
    while (pending(closer) == HELD) {
        (void) turn(closer);
        wakeups++;
    }
    assert_true(wakeups <= HELD);
    await_all(closer, list, HELD);
    for (int i = 0; i < HELD; i++)
        assert_int_equal(list[i].receipt.held, FIN_YES);
    drop_all(fds[US], fds[THEM], -1);
    fin_closer_free(closer);
}

static void test_nested(void **state)
{
    struct fin_policy policy = policy_of(FIN_COURTESY_ORDERLY);
    struct fin_closer *closer = closer_of(0);
    struct epoll_event entry = { .events = EPOLLIN, .data.u64 = 7 }, event;
    int set = epoll_create1(EPOLL_CLOEXEC), fds[2];
    struct one one = { 0 };

    (void) state;
    policy.linger_ms = 100;
    assert_int_equal(epoll_ctl(set, EPOLL_CTL_ADD, fin_closer_fd(closer), &entry), 0);
    assert_int_equal(epoll_wait(set, &event, 1, 0), 0);
    tcp_pair(AF_INET, BUFFERS_USUAL, fds);
    submit(closer, &one, fds[US], &policy);
    while (one.calls == 0) { /* submission, edges and the deadline, all through it */
        assert_int_equal(epoll_wait(set, &event, 1, GUARD_S * 1000), 1);
        assert_int_equal(event.data.u64, 7);
        assert_true(fin_closer_dispatch(closer) >= 0);
    }
    assert_outcome(&one.receipt, FIN_OUTCOME_TIMED_OUT, FIN_END_FIN);
    drop_all(fds[THEM], set, -1);
    fin_closer_free(closer);
}

/* ---- fair ---- */

/* One that always has more to read gets its turn, and no more than that. */
static void test_bounded_work(void **state)
{
    struct fin_policy policy = policy_of(FIN_COURTESY_ORDERLY);
    struct fin_policy prompt = policy_of(FIN_COURTESY_PROMPT);
    struct fin_closer *closer = closer_of(0);
    struct one talker = { 0 }, other = { 0 };
    struct fake_layer fake;
    int a[2], b[2];

    (void) state;
    policy.drain = UINT64_MAX;
    tcp_pair(AF_INET, BUFFERS_USUAL, a);
    tcp_pair(AF_INET, BUFFERS_USUAL, b);
    fake_layer(&fake);
    fake.reads_left = UINT64_MAX;
    submit_fake(closer, &talker, a[US], &fake, &policy);
    for (uint64_t before = 0, i = 0; i < 10; i++, before = fake.reads) {
        assert_int_equal(turn(closer), 0);
        assert_true(fake.reads > before);
        assert_true(fake.reads - before <= 256);
    }
    submit(closer, &other, b[US], &prompt);
    assert_int_equal(turn(closer), 1); /* next turn, while the talker talks on */
    assert_outcome(&other.receipt, FIN_OUTCOME_PROMPT, FIN_END_KERNEL);
    assert_int_equal(talker.calls, 0);
    fake.reads_left = 0;
    drop_all(a[THEM], b[THEM], -1);
    fake.read = FIN_LAYER_EOF;
    fake.reads_left = 1;
    await(closer, &talker);
    fin_closer_free(closer);
}

/* The program was busy for longer than the linger time; the peer had answered all the same. */
static void test_late_dispatch(void **state)
{
    struct fin_policy policy = policy_of(FIN_COURTESY_ORDERLY);
    struct fin_closer *closer = closer_of(0);
    struct one one = { 0 };
    int fds[2];

    (void) state;
    policy.linger_ms = 20;
    tcp_pair(AF_INET, BUFFERS_USUAL, fds);
    submit(closer, &one, fds[US], &policy);
    assert_int_equal(fin_closer_dispatch(closer), 0);
    give(fds[THEM], "good-bye");
    assert_int_equal(shutdown(fds[THEM], SHUT_WR), 0);
    while (fin_closer_next_deadline(closer) > clock_ns())
        ; /* busy */
    await(closer, &one);
    assert_outcome(&one.receipt, FIN_OUTCOME_GRACEFUL, FIN_END_FIN);
    assert_int_equal(one.receipt.discarded, 8);
    assert_seen_fin(see(fds[THEM]), 0);
    drop_all(fds[THEM], -1);
    fin_closer_free(closer);
}

/* ---- nothing left in the sets ---- */

static unsigned entries_of_all_sets(void)
{
    unsigned count = 0;

    for (int fd = 0; fd < 64; fd++) {
        char path[64], line[256];
        FILE *file;

        (void) snprintf(path, sizeof path, "/proc/self/fdinfo/%d", fd);
        file = fopen(path, "re");
        while (file && fgets(line, sizeof line, file))
            count += strncmp(line, "tfd:", 4) == 0;
        if (file)
            (void) fclose(file);
    }
    return count;
}

/* Entries given up cost every later look: their set is replaced, each time it is full. */
static void test_witness_is_replaced(void **state)
{
    struct fin_policy policy = policy_of(FIN_COURTESY_PROMPT);
    struct fin_closer *closer = closer_of(0);
    int fds[2], copy;
    unsigned empty = entries_of_all_sets();

    (void) state;
    busy();
    policy.proof_ms = 0;
    policy.find_holders = 0;
    unix_pair(SOCK_STREAM, fds);
    for (int i = 0; i < 400; i++) {
        struct one one = { 0 };

        copy = fcntl(fds[US], F_DUPFD_CLOEXEC, 300 + i); /* another number each time */
        submit(closer, &one, copy, &policy);
        await(closer, &one);
        assert_int_equal(one.receipt.held, FIN_YES);
        assert_true(entries_of_all_sets() <= empty + 140);
    }
    drop_all(fds[US], fds[THEM], -1);
    assert_int_equal(entries_of_all_sets(), empty);
    fin_closer_free(closer);
}

static void expect_no_stale_entries(void)
{
    struct fin_stale stale[4];

    assert_int_equal(fin_epoll_audit(0, stale, 4), 0);
}

/* However it ends, the closer's own poller keeps no entry of a description that lives on. */
static void test_unwatched(void **state)
{
    static const int types[] = { SOCK_STREAM, SOCK_DGRAM };
    struct fin_policy policy = policy_of(FIN_COURTESY_ORDERLY);
    struct fin_closer *closer = closer_of(0);

    (void) state;
    policy.proof_ms = 10;
    policy.scope = FIN_SCOPE_DESCRIPTOR;
    for (int i = 0; i < 4; i++) {
        struct one one = { 0 };
        int fds[2], copy;

        unix_pair(types[i % 2], fds);
        copy = fcntl(fds[US], F_DUPFD_CLOEXEC, 0);
        submit(closer, &one, fds[US], &policy);
        if (i >= 2)
            assert_int_equal(fin_closer_abort(closer, one.op), 0);
        await(closer, &one);
        assert_true(is_free(fds[US]));
        assert_int_equal(one.receipt.held, FIN_YES);
        expect_no_stale_entries();
        drop_all(copy, fds[THEM], -1);
    }
    fin_closer_free(closer);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        GUARDED(test_free_with_closes_pending),
        GUARDED(test_drain_with_stragglers),
        GUARDED(test_farewell_has_its_own_time),
        GUARDED(test_a_layer_that_waits_for_input_is_left_alone),
        GUARDED(test_drain_without_stragglers),
        GUARDED(test_stale_identifiers),
        GUARDED(test_submitted_twice),
        GUARDED(test_fork),
        GUARDED(test_fork_that_stays),
        GUARDED(test_idle),
        GUARDED(test_wakeups_while_lingering),
        GUARDED(test_wakeups_while_flushing),
        GUARDED(test_wakeups_while_held),
        GUARDED(test_wakeups_while_many_are_held),
        GUARDED(test_nested),
        GUARDED(test_bounded_work),
        GUARDED(test_late_dispatch),
        GUARDED(test_witness_is_replaced),
        GUARDED(test_unwatched),
    };

    own_network();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
