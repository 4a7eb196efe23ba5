/* SPDX-License-Identifier: MIT */

/* What can fail fails in submit, and leaves the descriptor with its owner; afterwards nothing is
 * allocated. Every allocation, and every system call below, is made to fail in turn. */

#include "closer_support.h"

#include "base/alloc.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

/* Calls until one fails; 0: none does. A failed call is counted in `failed`. */
static unsigned countdown, failed;

static bool is_due(void)
{
    if (countdown == 0 || --countdown > 0)
        return false;
    failed++;
    return true;
}

/* ---- the allocator ---- */

static unsigned allocations, frees, refused;
static bool no_memory, no_watches;

static void *allocate(size_t size)
{
    if (no_memory || is_due()) {
        refused++;
        return NULL;
    }
    allocations++;
    return malloc(size);
}

static void deallocate(void *block)
{
    frees++;
    free(block);
}

static int with_allocator(void **state)
{
    fin__allocator = (struct fin__allocator) { allocate, deallocate };
    allocations = frees = refused = countdown = failed = 0;
    no_memory = no_watches = false;
    return guard_begin(state);
}

static int without_allocator(void **state)
{
    fin__allocator = (struct fin__allocator) { malloc, free };
    if (allocations != frees) {
        print_error("%u allocations, %u of them freed\n", allocations, frees);
        return -1;
    }
    return guard_end(state);
}

/* ---- system calls ---- */

int __real_epoll_ctl(int set, int what, int fd, struct epoll_event *event);
int __wrap_epoll_ctl(int set, int what, int fd, struct epoll_event *event);
int __real_getsockopt(int fd, int level, int name, void *value, socklen_t *size);
int __wrap_getsockopt(int fd, int level, int name, void *value, socklen_t *size);
int __real_epoll_create1(int flags);
int __wrap_epoll_create1(int flags);
int __real_timerfd_create(int clock, int flags);
int __wrap_timerfd_create(int clock, int flags);
int __real_eventfd(unsigned initial, int flags);
int __wrap_eventfd(unsigned initial, int flags);

static unsigned strangers; /* calls on a number that was free: it may be anybody's by then */

int __wrap_epoll_ctl(int set, int what, int fd, struct epoll_event *event)
{
    strangers += fcntl(fd, F_GETFD) < 0;
    if (!is_due() && !(no_watches && what == EPOLL_CTL_ADD))
        return __real_epoll_ctl(set, what, fd, event);
    errno = ENOSPC; /* /proc/sys/fs/epoll/max_user_watches */
    return -1;
}

int __wrap_getsockopt(int fd, int level, int name, void *value, socklen_t *size)
{
    if (!is_due())
        return __real_getsockopt(fd, level, name, value, size);
    errno = EPERM;
    return -1;
}

int __wrap_epoll_create1(int flags)
{
    if (!is_due())
        return __real_epoll_create1(flags);
    errno = EMFILE;
    return -1;
}

int __wrap_timerfd_create(int clock, int flags)
{
    if (!is_due())
        return __real_timerfd_create(clock, flags);
    errno = ENFILE;
    return -1;
}

int __wrap_eventfd(unsigned initial, int flags)
{
    if (!is_due())
        return __real_eventfd(initial, flags);
    errno = ENOMEM;
    return -1;
}

/* ---- making a closer ---- */

/* One that was made in spite of a failure does all that is promised: it can be woken, it has a
 * timer, a proof, and it sees a holder let go in good time. */
static void expect_able(struct fin_closer *closer)
{
    struct fin_policy policy = policy_of(FIN_COURTESY_ORDERLY);
    struct one one = { 0 };
    int fds[2], copy;

    policy.linger_ms = 10;
    policy.proof_ms = 10000;
    tcp_pair(AF_INET, BUFFERS_USUAL, fds);
    submit(closer, &one, fds[US], &policy);
    await(closer, &one);
    assert_int_equal(one.receipt.outcome, FIN_OUTCOME_TIMED_OUT);
    assert_int_equal(one.receipt.held, FIN_NO);
    drop_all(fds[THEM], -1);

    tcp_pair(AF_INET, BUFFERS_USUAL, fds);
    copy = fcntl(fds[US], F_DUPFD_CLOEXEC, 0);
    drop_all(fds[THEM], -1);
    submit(closer, &one, fds[US], &policy);
    while (!is_free(fds[US]) || is_readable(closer))
        (void) turn(closer);
    drop_all(copy, -1);
    await(closer, &one);
    assert_int_equal(one.receipt.held, FIN_NO);
    assert_true(one.receipt.stage_ns[FIN_STAGE_UNREFERENCED] < 5000000000);
}

static void test_new(void **state)
{
    int result = -1;

    (void) state;
    for (unsigned n = 1; result < 0 || failed; n++) {
        struct fin_closer *closer = NULL;

        countdown = n;
        failed = 0;
        result = fin_closer_new(NULL, &closer);
        countdown = 0;
        assert_true(n < 100);
        assert_true((result == 0) == (closer != NULL));
        assert_int_equal(allocations - frees == 0, closer == NULL);
        if (n == 1)
            assert_int_equal(result, -ENOMEM);
        if (closer)
            expect_able(closer);
        fin_closer_free(closer);
        assert_int_equal(allocations, frees);
    }
}

/* ---- submitting ---- */

enum kind {
    PLAIN,
    FOLLOWED,
    LAYERED,
    UNIX,
    KINDS,
};

static int try_to_submit(struct fin_closer *closer, enum kind kind, struct one *one, int fd,
                         struct fake_layer *fake)
{
    struct fin_policy policy = policy_of(FIN_COURTESY_ORDERLY);

    prepare(closer, one, fd);
    if (kind == FOLLOWED)
        policy.proof = FIN_STAGE_FINISHED;
    if (kind != LAYERED)
        return fin_closer_submit(closer, fd, &policy, completed, one, &one->op);
    fake_layer(fake);
    fake->read = FIN_LAYER_EOF;
    fake->reads_left = 1;
    return fin_closer_submit_layered(closer, fd, &fake->layer, &policy, completed, one, &one->op);
}

static void open_pair(enum kind kind, int fds[2])
{
    if (kind == UNIX)
        unix_pair(SOCK_STREAM, fds);
    else
        tcp_pair(AF_INET, BUFFERS_USUAL, fds);
}

/* Whatever failed, the caller can go on as if it had not asked. */
static void expect_unchanged(struct fin_closer *closer, const struct one *one, int fds[2])
{
    assert_int_equal(one->calls, 0);
    assert_int_equal(pending(closer), 0);
    give(fds[US], "still mine");
    expect_text(fds[THEM], "still mine");
    give(fds[THEM], "and yours");
    expect_text(fds[US], "and yours");
    drop_all(fds[US], fds[THEM], -1);
    while (is_readable(closer))
        assert_int_equal(fin_closer_dispatch(closer), 0);
}

static void expect_closed(struct fin_closer *closer, const struct one *one, int fds[2])
{
    assert_int_equal(shutdown(fds[THEM], SHUT_WR), 0);
    await(closer, one);
    assert_true(is_free(fds[US]));
    assert_int_equal(one->receipt.end, FIN_END_FIN);
    assert_int_equal(see(fds[THEM]).end, 0);
    drop_all(fds[THEM], -1);
}

/* A closer that is new each time, or one that has closed before. */
static void fail_each(enum kind kind, bool used)
{
    bool went_through = false;

    for (unsigned n = 1; !went_through; n++) {
        struct fin_closer *closer = closer_of(0);
        struct fake_layer fake;
        struct one one = { 0 };
        int fds[2], result;

        assert_true(n < 100);
        open_pair(kind, fds);
        if (used) {
            assert_int_equal(try_to_submit(closer, kind, &one, fds[US], &fake), 0);
            expect_closed(closer, &one, fds);
            open_pair(kind, fds);
        }
        countdown = n;
        failed = 0;
        result = try_to_submit(closer, kind, &one, fds[US], &fake);
        countdown = 0;
        went_through = failed == 0;
        if (result < 0)
            expect_unchanged(closer, &one, fds);
        else
            expect_closed(closer, &one, fds);
        assert_true(result == 0 || failed);
        fin_closer_free(closer);
    }
}

static void test_submit(void **state)
{
    (void) state;
    for (enum kind kind = PLAIN; kind < KINDS; kind++) {
        fail_each(kind, false);
        fail_each(kind, true);
    }
}

/* The limit of watches is reached for one socket: the others are not touched. */
static void test_no_watches(void **state)
{
    struct fin_closer *closer = closer_of(0);
    struct fake_layer fake;
    struct one first = { 0 }, second = { 0 };
    int a[2], b[2];

    (void) state;
    open_pair(PLAIN, a);
    open_pair(PLAIN, b);
    assert_int_equal(try_to_submit(closer, PLAIN, &first, a[US], &fake), 0);
    no_watches = true;
    assert_int_equal(try_to_submit(closer, PLAIN, &second, b[US], &fake), -ENOSPC);
    no_watches = false;
    assert_int_equal(pending(closer), 1);
    give(b[US], "still mine");
    expect_text(b[THEM], "still mine");
    drop_all(b[US], b[THEM], -1);
    expect_closed(closer, &first, a);
    assert_int_equal(second.calls, 0);
    fin_closer_free(closer);
}

/* ---- nothing is allocated between submission and completion ---- */

#define MANY 300

static void test_no_allocation(void **state)
{
    static struct one list[MANY];
    static struct fake_layer fakes[MANY];
    static int peers[MANY];
    struct fin_closer *closer = closer_of(0);
    unsigned before;

    (void) state;
    for (int i = 0; i < MANY; i++) {
        enum kind kind = (enum kind)(i % KINDS);
        int fds[2];

        open_pair(kind, fds);
        peers[i] = fds[THEM];
        list[i] = (struct one) { 0 };
        assert_int_equal(try_to_submit(closer, kind, &list[i], fds[US], &fakes[i]), 0);
    }
    before = refused;
    no_memory = true;
    (void) turn(closer);
    assert_int_equal(fin_closer_abort(closer, list[0].op), 0);
    (void) turn(closer);
    for (int i = 1; i < MANY; i++)
        assert_int_equal(shutdown(peers[i], SHUT_WR), 0);
    await_all(closer, list, MANY);
    no_memory = false;
    assert_int_equal(refused, before);
    for (int i = 0; i < MANY; i++) {
        assert_int_equal(list[i].receipt.held, FIN_NO);
        assert_int_equal(list[i].receipt.end, i ? FIN_END_FIN : FIN_END_RESET);
        drop_all(peers[i], -1);
    }
    fin_closer_free(closer);
}

/* ---- a released number is not touched ---- */

/* Cut while it waited for room to send, and still held: it goes on waiting after the release. */
static void test_released_number(void **state)
{
    struct fin_policy policy = policy_of(FIN_COURTESY_ORDERLY);
    struct fin_closer *closer = closer_of(0);
    struct fake_layer fake;
    struct one one = { 0 };
    int fds[2], copy;

    (void) state;
    strangers = 0;
    policy.flush_ms = 20;
    tcp_pair(AF_INET, BUFFERS_USUAL, fds);
    copy = fcntl(fds[US], F_DUPFD_CLOEXEC, 0);
    fake_layer(&fake);
    fake.flush = FIN_LAYER_WANT_WRITE;
    fake.flush_fd = fds[US];
    fake.unsent = 1;
    submit_fake(closer, &one, fds[US], &fake, &policy);
    await(closer, &one);
    assert_outcome(&one.receipt, FIN_OUTCOME_TIMED_OUT, FIN_END_RESET);
    assert_int_equal(one.receipt.held, FIN_YES);
    assert_int_equal(strangers, 0);
    drop_all(copy, fds[THEM], -1);
    fin_closer_free(closer);
}

#define FAULTED(test) GUARDED_BY(test, with_allocator, without_allocator)

/* Waiting for input that does not come, with room to send: a wait for the wrong one would spin,
 * which the check around the test sees. */
static void test_a_layer_that_wants_to_read(void **state)
{
    struct fin_policy policy = policy_of(FIN_COURTESY_ORDERLY);
    struct fin_receipt receipt = FIN_RECEIPT_INIT;
    struct fin_closer *closer = closer_of(0);
    struct fake_layer fake;
    struct one one = { 0 };
    int fds[2][2];

    (void) state;
    policy.flush_ms = 300;
    fake_layer(&fake);
    fake.flush = FIN_LAYER_WANT_READ;
    fake.unsent = 5;
    tcp_pair(AF_INET, BUFFERS_USUAL, fds[0]);
    tcp_pair(AF_INET, BUFFERS_USUAL, fds[1]);
    assert_int_equal(fin_close_layered(NULL, fds[0][US], &fake.layer, &policy, &receipt), 0);
    assert_int_equal(receipt.outcome, FIN_OUTCOME_TIMED_OUT);
    assert_int_equal(receipt.phase, FIN_PHASE_FLUSH);
    assert_true(fake.flushes < 10);
    submit_fake(closer, &one, fds[1][US], &fake, &policy);
    await(closer, &one);
    assert_int_equal(one.receipt.outcome, FIN_OUTCOME_TIMED_OUT);
    assert_true(fake.flushes < 20);
    fin_closer_free(closer);
    drop_all(fds[0][THEM], fds[1][THEM], -1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        GUARDED(test_a_layer_that_wants_to_read),
        FAULTED(test_new),
        FAULTED(test_submit),
        FAULTED(test_no_watches),
        FAULTED(test_no_allocation),
        FAULTED(test_released_number),
    };

    own_network();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
