/* SPDX-License-Identifier: MIT */

/* What a caller's mistake gets: the errno that the header names, and everything as it was. */

#include "support.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/netlink.h>
#include <netinet/in.h>
#include <signal.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <sys/timerfd.h>
#include <unistd.h>

/* ---- what must not change ---- */

struct before {
    struct fin_identity id;
    int flags, descriptor_flags;
    struct linger linger;
    struct stat st;
};

static struct before note(int fd)
{
    struct before b = { .id = FIN_IDENTITY_INIT };
    socklen_t size = sizeof b.linger;

    (void) fin_identify(fd, &b.id);
    b.flags = fcntl(fd, F_GETFL);
    b.descriptor_flags = fcntl(fd, F_GETFD);
    assert_true(b.descriptor_flags >= 0);
    assert_int_equal(fstat(fd, &b.st), 0);
    (void) getsockopt(fd, SOL_SOCKET, SO_LINGER, &b.linger, &size);
    return b;
}

static void assert_untouched(int fd, const struct before *b)
{
    struct before now = note(fd);

    assert_memory_equal(&now.id, &b->id, sizeof now.id);
    assert_int_equal(now.flags, b->flags);
    assert_int_equal(now.descriptor_flags, b->descriptor_flags);
    assert_memory_equal(&now.linger, &b->linger, sizeof now.linger);
    assert_int_equal(now.st.st_dev, b->st.st_dev);
    assert_int_equal(now.st.st_ino, b->st.st_ino);
}

static struct fin_receipt marked(void)
{
    struct fin_receipt receipt;

    memset(&receipt, 0x5a, sizeof receipt);
    receipt.size = sizeof receipt;
    return receipt;
}

static void assert_marked(const struct fin_receipt *receipt, size_t size)
{
    struct fin_receipt expected = marked();

    expected.size = size;
    assert_memory_equal(receipt, &expected, sizeof expected);
}

/* ---- a layer that must not be called ---- */

static int never_flush(void *arg, uint64_t *unsent)
{
    (void) unsent;
    fail_msg("flush was called");
    return arg ? 0 : 1;
}

static int never_notify(void *arg)
{
    fail_msg("notify was called");
    return arg ? 0 : 1;
}

static int never_read(void *arg, uint64_t max, uint64_t *n)
{
    (void) max;
    (void) n;
    fail_msg("read was called");
    return arg ? 0 : 1;
}

static const struct fin_layer never = { sizeof never, NULL,       never_flush,
                                        never_notify, never_read, NULL };

/* ---- refusals ---- */

static void refused(int expected, int fd, const struct fin_policy *policy)
{
    struct fin_receipt receipt = marked();

    assert_int_equal(fin_close(NULL, fd, policy, &receipt), expected);
    assert_marked(&receipt, sizeof receipt);
    assert_int_equal(fin_close_layered(NULL, fd, &never, policy, &receipt), expected);
    assert_marked(&receipt, sizeof receipt);
}

static void refused_open(int expected, int fd, const struct fin_policy *policy)
{
    struct before b = note(fd);

    refused(expected, fd, policy);
    assert_untouched(fd, &b);
}

/* For each courtesy, since they look at different things. */
static void kind_refused(int expected, int fd)
{
    assert_true(fd >= 0);
    for (enum fin_courtesy courtesy = 0; courtesy <= FIN_COURTESY_FULL; courtesy++) {
        struct fin_policy policy = policy_of(courtesy);

        refused_open(expected, fd, &policy);
        policy.scope = FIN_SCOPE_DESCRIPTOR;
        refused_open(expected, fd, &policy);
    }
    assert_int_equal(close(fd), 0);
}

static void test_bad_number(void **state)
{
    struct fin_policy policy = FIN_POLICY_INIT;
    int fds[2];

    (void) state;
    unix_pair(SOCK_STREAM, fds);
    drop_all(fds[US], fds[THEM], -1);
    refused(-EBADF, fds[US], &policy);
    refused(-EBADF, -1, &policy);
    refused(-EBADF, INT_MIN, &policy);
    refused(-EBADF, INT_MAX, &policy);
}

static void test_files(void **state)
{
    (void) state;
    kind_refused(-EOPNOTSUPP, memfd_create("regular", MFD_CLOEXEC));
    kind_refused(-EOPNOTSUPP, open("/proc/self/exe", O_RDONLY | O_CLOEXEC));
    kind_refused(-EOPNOTSUPP, open("/dev/null", O_RDWR | O_CLOEXEC));
    kind_refused(-EOPNOTSUPP, open("/proc", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
}

static void test_anonymous_kinds(void **state)
{
    sigset_t none;

    (void) state;
    sigemptyset(&none);
    kind_refused(-EOPNOTSUPP, epoll_create1(EPOLL_CLOEXEC));
    kind_refused(-EOPNOTSUPP, eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
    kind_refused(-EOPNOTSUPP, timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC));
    kind_refused(-EOPNOTSUPP, signalfd(-1, &none, SFD_CLOEXEC));
}

/* An O_PATH descriptor is open, and yet EBADF to every call that would use it (open(2)). */
static void test_path_descriptor(void **state)
{
    (void) state;
    kind_refused(-EBADF, open("/dev/null", O_PATH | O_CLOEXEC));
    kind_refused(-EBADF, open("/proc/self", O_PATH | O_CLOEXEC));
}

static void test_other_families(void **state)
{
    (void) state;
    kind_refused(-EOPNOTSUPP, socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_SOCK_DIAG));
    kind_refused(-EOPNOTSUPP, socket(AF_NETLINK, SOCK_DGRAM | SOCK_CLOEXEC, NETLINK_ROUTE));
}

/* An epoll set with a socket in it, which a close of the set must not disturb either. */
static void test_epoll_set_in_use(void **state)
{
    struct epoll_event entry = { .events = EPOLLIN };
    int set = epoll_create1(EPOLL_CLOEXEC), fds[2];

    (void) state;
    unix_pair(SOCK_STREAM, fds);
    assert_int_equal(epoll_ctl(set, EPOLL_CTL_ADD, fds[US], &entry), 0);
    kind_refused(-EOPNOTSUPP, fcntl(set, F_DUPFD_CLOEXEC, 0));
    give(fds[THEM], "x");
    assert_int_equal(epoll_wait(set, &entry, 1, 0), 1);
    drop_all(set, fds[US], fds[THEM], -1);
}

/* ---- policies ---- */

/* A socket that has something to lose. */
static void rich_pair(int fds[2])
{
    struct linger linger = { 1, 7 };

    tcp_pair(AF_INET, BUFFERS_USUAL, fds);
    set_nonblocking(fds[US]);
    assert_int_equal(setsockopt(fds[US], SOL_SOCKET, SO_LINGER, &linger, sizeof linger), 0);
    give(fds[THEM], "unread");
    await_input(fds[US]);
}

static void assert_still_works(int fds[2])
{
    expect_text(fds[US], "unread");
    give(fds[US], "to them");
    expect_text(fds[THEM], "to them");
    give(fds[THEM], "to us");
    await_input(fds[US]);
    expect_text(fds[US], "to us");
}

static void test_times(void **state)
{
    static const int32_t bad[] = { -1, -1000, INT32_MIN, FIN_TIME_MAX_MS + 1, INT32_MAX };
    struct fin_policy policy = FIN_POLICY_INIT;
    int32_t *const fields[] = { &policy.flush_ms, &policy.farewell_ms, &policy.linger_ms,
                                &policy.total_ms, &policy.proof_ms };
    int fds[2];

    (void) state;
    rich_pair(fds);
    for (size_t f = 0; f < sizeof fields / sizeof *fields; f++) {
        int32_t good = *fields[f];

        for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
            *fields[f] = bad[i];
            refused_open(-ERANGE, fds[US], &policy);
        }
        *fields[f] = good;
    }
    assert_still_works(fds);
    drop_all(fds[THEM], fds[US], -1);
}

static void test_orphan_time(void **state)
{
    static const int32_t bad[] = { -2, INT32_MIN, FIN_TIME_MAX_MS + 1, INT32_MAX };
    struct fin_policy policy = FIN_POLICY_INIT;
    int fds[2];

    (void) state;
    rich_pair(fds);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        policy.orphan_ms = bad[i];
        refused_open(-ERANGE, fds[US], &policy);
    }
    assert_still_works(fds);
    drop_all(fds[THEM], fds[US], -1);
}

static void test_enumerators(void **state)
{
    struct fin_policy policy = FIN_POLICY_INIT;
    const struct {
        int *field;
        int bad[3];
    } cases[] = {
        { &policy.courtesy, { -1, FIN_COURTESY_FULL + 1, INT_MAX } },
        { &policy.scope, { -1, FIN_SCOPE_DESCRIPTOR + 1, INT_MIN } },
        { &policy.proof, { -1, FIN_STAGE_UNWATCHED, FIN_STAGES } },
    };
    int fds[2];

    (void) state;
    rich_pair(fds);
    for (size_t c = 0; c < sizeof cases / sizeof *cases; c++) {
        int good = *cases[c].field;

        for (size_t i = 0; i < 3; i++) {
            *cases[c].field = cases[c].bad[i];
            refused_open(-EINVAL, fds[US], &policy);
        }
        *cases[c].field = good;
    }
    assert_still_works(fds);
    drop_all(fds[THEM], fds[US], -1);
}

static void test_sizes(void **state)
{
    static const size_t bad[] = { 0, 1, sizeof(struct fin_policy) - 1,
                                  sizeof(struct fin_policy) + 8, SIZE_MAX };
    struct fin_policy policy = FIN_POLICY_INIT;
    int fds[2];

    (void) state;
    rich_pair(fds);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct fin_receipt receipt = marked();
        struct fin_policy good = FIN_POLICY_INIT;
        struct before b = note(fds[US]);

        policy.size = bad[i];
        refused_open(-EINVAL, fds[US], &policy);
        receipt.size = bad[i];
        assert_int_equal(fin_close(NULL, fds[US], &good, &receipt), -EINVAL);
        assert_marked(&receipt, bad[i]);
        assert_untouched(fds[US], &b);
    }
    assert_still_works(fds);
    drop_all(fds[THEM], fds[US], -1);
}

static void test_nulls(void **state)
{
    struct fin_policy policy = FIN_POLICY_INIT;
    struct fin_receipt receipt = marked();
    struct before b;
    int fds[2];

    (void) state;
    rich_pair(fds);
    b = note(fds[US]);
    assert_int_equal(fin_close_layered(NULL, fds[US], NULL, &policy, &receipt), -EINVAL);
    assert_marked(&receipt, sizeof receipt);
    assert_untouched(fds[US], &b);
    assert_still_works(fds);
    drop_all(fds[THEM], fds[US], -1);
}

/* ---- layers ---- */

static void layer_refused(int expected, int fd, const struct fin_layer *layer)
{
    struct fin_policy policy = FIN_POLICY_INIT;
    struct fin_receipt receipt = marked();
    struct before b = note(fd);

    assert_int_equal(fin_close_layered(NULL, fd, layer, &policy, &receipt), expected);
    assert_marked(&receipt, sizeof receipt);
    assert_untouched(fd, &b);
}

static void test_layer_not_whole(void **state)
{
    struct fin_layer layer = never;
    int fds[2];

    (void) state;
    rich_pair(fds);
    layer.flush = NULL;
    layer_refused(-EINVAL, fds[US], &layer);
    layer = never;
    layer.notify = NULL;
    layer_refused(-EINVAL, fds[US], &layer);
    layer = never;
    layer.read = NULL;
    layer_refused(-EINVAL, fds[US], &layer);
    layer = never;
    layer.size = sizeof layer + 1;
    layer_refused(-EINVAL, fds[US], &layer);
    assert_still_works(fds);
    drop_all(fds[THEM], fds[US], -1);
}

static void no_stream(int fd)
{
    assert_true(fd >= 0);
    layer_refused(-ENOTCONN, fd, &never);
    assert_int_equal(close(fd), 0);
}

static void test_layer_without_stream(void **state)
{
    int pipes[2];

    (void) state;
    no_stream(listen_tcp(AF_INET, 0, 1, BUFFERS_USUAL));
    no_stream(socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
    no_stream(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    no_stream(socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0));
    assert_int_equal(pipe2(pipes, O_CLOEXEC), 0);
    no_stream(pipes[0]);
    no_stream(pipes[1]);
}

static void test_layer_never_connected(void **state)
{
    (void) state;
    no_stream(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    no_stream(socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0));
}

/* ---- the rest of the header ---- */

static void test_identify(void **state)
{
    struct fin_identity id, expected;
    int fds[2], null = open("/dev/null", O_RDWR | O_CLOEXEC);

    (void) state;
    unix_pair(SOCK_STREAM, fds);
    memset(&id, 0x5a, sizeof id);
    id.size = sizeof id;
    expected = id;
    assert_int_equal(fin_identify(-1, &id), -EBADF);
    assert_int_equal(fin_identify(INT_MAX, &id), -EBADF);
    assert_int_equal(fin_identify(null, &id), -EOPNOTSUPP);
    assert_int_equal(fin_identify(fds[US], NULL), -EINVAL);
    assert_memory_equal(&id, &expected, sizeof id);
    id.size = expected.size = sizeof id - 1;
    assert_int_equal(fin_identify(fds[US], &id), -EINVAL);
    assert_int_equal(fin_is(fds[US], &id), -EINVAL);
    assert_int_equal(fin_is(fds[US], NULL), -EINVAL);
    assert_memory_equal(&id, &expected, sizeof id);
    drop_all(null, fds[US], fds[THEM], -1);
}

static void test_inspect(void **state)
{
    struct fin_identity id = FIN_IDENTITY_INIT, small = FIN_IDENTITY_INIT;
    struct fin_state st, expected;
    int fds[2];

    (void) state;
    unix_pair(SOCK_STREAM, fds);
    assert_int_equal(fin_identify(fds[US], &id), 0);
    memset(&st, 0x5a, sizeof st);
    st.size = sizeof st;
    expected = st;
    small.size--;
    assert_int_equal(fin_inspect(NULL, NULL, &st), -EINVAL);
    assert_int_equal(fin_inspect(NULL, &id, NULL), -EINVAL);
    assert_int_equal(fin_inspect(NULL, &small, &st), -EINVAL);
    assert_memory_equal(&st, &expected, sizeof st);
    st.size = expected.size = sizeof st + 1;
    assert_int_equal(fin_inspect(NULL, &id, &st), -EINVAL);
    assert_memory_equal(&st, &expected, sizeof st);
    drop_all(fds[US], fds[THEM], -1);
}

static void test_kernel_new(void **state)
{
    (void) state;
    assert_int_equal(fin_kernel_new(NULL), -EINVAL);
    assert_null(fin_kernel_free(NULL));
}

static void test_format(void **state)
{
    struct fin_receipt receipt = FIN_RECEIPT_INIT;
    char buf[64] = "as it was";

    (void) state;
    assert_int_equal(fin_receipt_format(NULL, buf, sizeof buf), -EINVAL);
    assert_int_equal(fin_receipt_format(&receipt, NULL, sizeof buf), -EINVAL);
    receipt.size = 4;
    assert_int_equal(fin_receipt_format(&receipt, buf, sizeof buf), -EINVAL);
    assert_string_equal(buf, "as it was");
}

/* ---- a descriptor that somebody else closed ---- */

struct stray {
    int ours, theirs;
};

/* Once the close has sent its FIN. */
static void *close_behind(void *arg)
{
    const struct stray *stray = arg;

    await_input(stray->theirs);
    drop_all(stray->ours, -1);
    return NULL;
}

static void test_stray_close(void **state)
{
    struct fin_policy policy = policy_of(FIN_COURTESY_ORDERLY);
    struct fin_receipt receipt = FIN_RECEIPT_INIT;
    struct stray stray;
    pthread_t thread;
    int fds[2];

    (void) state;
    policy.linger_ms = 300;
    tcp_pair(AF_INET, BUFFERS_USUAL, fds);
    stray = (struct stray) { fds[US], fds[THEM] };
    assert_int_equal(pthread_create(&thread, NULL, close_behind, &stray), 0);
    assert_int_equal(fin_close(NULL, fds[US], &policy, &receipt), 0);
    assert_int_equal(pthread_join(thread, NULL), 0);
    assert_int_equal(receipt.error, -EBADF);
    assert_int_equal(receipt.outcome, FIN_OUTCOME_ERROR);
    drop_all(fds[THEM], -1);
}

static void keep_receipt(const struct fin_receipt *receipt, void *arg)
{
    struct fin_receipt *to = arg;

    *to = *receipt;
}

static void test_stray_close_in_a_closer(void **state)
{
    struct fin_policy policy = policy_of(FIN_COURTESY_ORDERLY);
    struct fin_receipt receipt = FIN_RECEIPT_INIT;
    struct fin_closer *closer = NULL;
    int fds[2];

    (void) state;
    assert_int_equal(fin_closer_new(NULL, &closer), 0);
    tcp_pair(AF_INET, BUFFERS_USUAL, fds);
    assert_int_equal(fin_closer_submit(closer, fds[US], &policy, keep_receipt, &receipt, NULL), 0);
    drop_all(fds[US], -1);
    assert_int_equal(fin_closer_drain(closer, 400), 0);
    assert_int_equal(receipt.error, -EBADF);
    assert_int_equal(receipt.outcome, FIN_OUTCOME_ERROR);
    assert_null(fin_closer_free(closer));
    drop_all(fds[THEM], -1);
}

/* closefrom(3), as a program does that becomes a daemon. */
static void test_stray_close_of_our_own(void **state)
{
    struct descriptors before, after;
    struct fin_handle *handle = NULL;
    struct fin_closer *closer = NULL;
    struct fin_kernel *kernel = NULL;
    int fds[2];

    (void) state;
    unix_pair(SOCK_STREAM, fds);
    descriptors_take(&before);
    assert_int_equal(fin_kernel_new(&kernel), 0);
    assert_int_equal(fin_closer_new(NULL, &closer), 0);
    assert_int_equal(fin_handle_new(fds[US], &handle), 0);
    for (descriptors_take(&after); after.count > before.count; descriptors_take(&after))
        assert_int_equal(close(descriptors_differ(&before, &after)), 0);
    assert_null(fin_kernel_free(kernel));
    assert_null(fin_closer_free(closer));
    assert_null(fin_handle_free(handle));
    assert_true(is_free(fds[US]));
    drop_all(fds[THEM], -1);
}

/* The closer's own descriptor, and another set gets its number: that is left alone, and every close
 * ends as if its deadlines had passed. */
static void test_stray_close_of_a_closer(void **state)
{
    struct fin_policy policy = policy_of(FIN_COURTESY_ORDERLY);
    struct epoll_event event;

    (void) state;
    policy.linger_ms = 10000;
    for (int again = 0; again < 2; again++) {
        struct fin_closer *closer;
        struct fin_receipt r = FIN_RECEIPT_INIT;
        int fds[2], stranger;

        unix_pair(SOCK_STREAM, fds);
        assert_int_equal(fin_closer_new(NULL, &closer), 0);
        assert_int_equal(fin_closer_submit(closer, fds[US], &policy, keep_receipt, &r, NULL), 0);
        assert_int_equal(fin_closer_dispatch(closer), 0);
        stranger = fin_closer_fd(closer);
        drop_all(stranger, -1);
        if (again)
            assert_int_equal(epoll_create1(EPOLL_CLOEXEC), stranger);
        assert_int_equal(fin_closer_dispatch(closer), -EBADF);
        assert_int_equal(fin_closer_drain(closer, 5000), 0);
        assert_int_equal(r.outcome, FIN_OUTCOME_TIMED_OUT);
        assert_true(r.forced);
        assert_true(is_free(fds[US]));
        assert_int_equal(fin_closer_submit(closer, fds[THEM], &policy, keep_receipt, &r, NULL),
                         -EBADF);
        if (again)
            assert_int_equal(epoll_wait(stranger, &event, 1, 0), 0);
        assert_null(fin_closer_free(closer));
        drop_all(fds[THEM], again ? stranger : -1, -1);
    }
}

/* A stray close(2), and another socket gets the number: that is not the handle's to close. */
static void test_stray_close_under_a_handle(void **state)
{
    struct fin_receipt receipt = FIN_RECEIPT_INIT;
    struct fin_handle *handle = NULL;
    int fds[2], others[2];

    (void) state;
    unix_pair(SOCK_STREAM, fds);
    assert_int_equal(fin_handle_new(fds[US], &handle), 0);
    drop_all(fds[US], -1);
    unix_pair(SOCK_STREAM, others);
    assert_int_equal(others[US], fds[US]);
    assert_int_equal(fin_handle_close(handle, NULL, NULL, &receipt), -EBADF);
    give(others[US], "alive");
    expect_text(others[THEM], "alive");
    assert_null(fin_handle_free(handle));
    drop_all(fds[THEM], others[US], others[THEM], -1);
}

/* A program that was built before the receipt had its last members gets the others, and only
 * them. */
static void test_receipt_of_before(void **state)
{
    size_t old = offsetof(struct fin_receipt, kind);
    struct fin_handle *handle;
    char line[300];
    int fds[2];

    (void) state;
    assert_int_equal(old, 280);
    for (int by_handle = 0; by_handle < 2; by_handle++) {
        struct fin_receipt receipt = marked(), after = marked();

        receipt.size = old;
        tcp_pair(AF_INET, BUFFERS_USUAL, fds);
        drop_all(fds[THEM], -1);
        if (by_handle) {
            assert_int_equal(fin_handle_new(fds[US], &handle), 0);
            assert_int_equal(fin_handle_close(handle, NULL, NULL, &receipt), 0);
            assert_null(fin_handle_free(handle));
        } else {
            assert_int_equal(fin_close(NULL, fds[US], NULL, &receipt), 0);
        }
        assert_int_equal(receipt.size, old);
        assert_int_equal(receipt.outcome, FIN_OUTCOME_GRACEFUL);
        assert_int_equal(receipt.tombstone, 0);
        assert_memory_equal(&receipt.kind, &after.kind, sizeof receipt - old);
        assert_true(fin_receipt_format(&receipt, line, sizeof line) > 0);
        assert_true(fin_receipt_json(&receipt, line, sizeof line) > 0);
    }
}

static void test_counters_of_before(void **state)
{
    struct fin_closer_counters counters = FIN_CLOSER_COUNTERS_INIT;
    struct fin_closer *closer;

    (void) state;
    counters.size -= sizeof(uint64_t);
    counters.outcomes[FIN_OUTCOMES - 1] = 77;
    assert_int_equal(fin_closer_new(NULL, &closer), 0);
    assert_int_equal(fin_closer_count(closer, &counters), 0);
    assert_int_equal(counters.size, 96);
    assert_int_equal(counters.outcomes[FIN_OUTCOMES - 1], 77);
    assert_null(fin_closer_free(closer));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        GUARDED(test_bad_number),
        GUARDED(test_files),
        GUARDED(test_anonymous_kinds),
        GUARDED(test_path_descriptor),
        GUARDED(test_other_families),
        GUARDED(test_epoll_set_in_use),
        GUARDED(test_times),
        GUARDED(test_orphan_time),
        GUARDED(test_enumerators),
        GUARDED(test_sizes),
        GUARDED(test_receipt_of_before),
        GUARDED(test_counters_of_before),
        GUARDED(test_nulls),
        GUARDED(test_layer_not_whole),
        GUARDED(test_layer_without_stream),
        GUARDED(test_layer_never_connected),
        GUARDED(test_identify),
        GUARDED(test_inspect),
        GUARDED(test_kernel_new),
        GUARDED(test_format),
        GUARDED(test_stray_close),
        GUARDED(test_stray_close_in_a_closer),
        GUARDED(test_stray_close_of_our_own),
        GUARDED(test_stray_close_of_a_closer),
        GUARDED(test_stray_close_under_a_handle),
    };

    own_network();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
