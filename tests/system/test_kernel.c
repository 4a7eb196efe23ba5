/* SPDX-License-Identifier: MIT */

/* The kernel handle: fork, threads, many closes; and the check around every test itself. */

#include "support.h"

#include "kernel/fdinfo.h"
#include "kernel/kernel.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

/* ---- the check can fail ---- */

static void test_check_sees_a_leak(void **state)
{
    struct descriptors first, now;
    int leak;

    (void) state;
    descriptors_take(&first);
    descriptors_take(&now);
    assert_int_equal(descriptors_differ(&first, &now), -1);
    leak = open("/dev/null", O_RDONLY | O_CLOEXEC);
    descriptors_take(&now);
    assert_int_equal(descriptors_differ(&first, &now), leak);
    assert_int_equal(descriptors_differ(&now, &first), leak); /* one too few */
    drop_all(leak, -1);
}

static void test_check_sees_an_exchange(void **state)
{
    struct descriptors first, now;
    int a[2], b[2];

    (void) state;
    unix_pair(SOCK_STREAM, a);
    descriptors_take(&first);
    unix_pair(SOCK_STREAM, b);
    assert_int_equal(dup3(b[US], a[US], O_CLOEXEC), a[US]);
    drop_all(b[US], b[THEM], -1);
    descriptors_take(&now);
    assert_int_equal(now.count, first.count);
    assert_int_equal(descriptors_differ(&first, &now), a[US]);
    drop_all(a[US], a[THEM], -1);
}

static void test_guard_fails(void **state)
{
    int leak, fds[2];
    pid_t pid;

    assert_int_equal(guard_begin(state), 0);
    assert_null(guard_finding());
    leak = open("/dev/null", O_RDONLY | O_CLOEXEC);
    assert_non_null(strstr(guard_finding(), "descriptor"));
    drop_all(leak, -1);
    assert_null(guard_finding());

    pid = fork();
    if (pid == 0)
        for (;;)
            (void) pause();
    assert_string_equal(guard_finding(), "a child is left");
    assert_int_equal(kill(pid, SIGKILL), 0);
    assert_int_equal(waitpid(pid, NULL, 0), pid);
    assert_null(guard_finding());

    unix_pair(SOCK_STREAM, fds);
    drop_all(fds[THEM], -1);
    assert_int_equal(write(fds[US], "x", 1), -1);
    drop_all(fds[US], -1);
    assert_string_equal(guard_finding(), "SIGPIPE reached the program");
}

static void fail_and_leave(void **state)
{
    (void) state;
    limit_descriptors((rlim_t) open("/dev/null", O_RDONLY | O_CLOEXEC) + 1);
    assert_int_equal(1, 2);
}

/* A test that fails leaves what it had open; that is not what is wrong. */
static void test_guard_lets_the_test_speak(void **state)
{
    const struct CMUnitTest tests[] = { GUARDED(fail_and_leave), GUARDED(fail_and_leave) };
    char text[4096];
    size_t count = 0;
    ssize_t n;
    int ends[2];
    pid_t pid;

    (void) state;
    assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
    pid = fork();
    if (pid == 0) {
        (void) dup2(ends[1], STDOUT_FILENO);
        (void) dup2(ends[1], STDERR_FILENO);
        (void) cmocka_run_group_tests(tests, NULL, NULL);
        (void) fflush(NULL);
        _exit(0);
    }
    drop_all(ends[1], -1);
    while ((n = read(ends[0], text + count, sizeof text - 1 - count)) > 0)
        count += (size_t) n;
    text[count] = '\0';
    drop_all(ends[0], -1);
    assert_int_equal(waitpid(pid, NULL, 0), pid);
    assert_non_null(strstr(text, "0x1 != 0x2"));
    assert_non_null(strstr(text, "2 FAILED TEST(S)"));
    assert_null(strstr(text, "teardown"));
    assert_null(strstr(text, "Could not run"));
}

/* ---- the handle ---- */

static struct fin_kernel *new_kernel(void)
{
    struct fin_kernel *kernel = NULL;

    assert_int_equal(fin_kernel_new(&kernel), 0);
    assert_non_null(kernel);
    return kernel;
}

static void close_one(struct fin_kernel *kernel)
{
    struct fin_policy policy = policy_of(FIN_COURTESY_ORDERLY);
    struct answerer peer;
    struct fin_receipt r;
    int fds[2];

    policy.proof = FIN_STAGE_FINISHED;
    tcp_pair(AF_INET, BUFFERS_USUAL, fds);
    answer(&peer, fds[THEM]);
    r = closed(kernel, fds[US], &policy);
    assert_seen_fin(answered(&peer), 0);
    assert_outcome(&r, FIN_OUTCOME_GRACEFUL, FIN_END_FIN);
    assert_int_equal(r.held, FIN_NO);
    assert_int_equal(r.unverifiable, 0);
    assert_true(reached(&r, FIN_STAGE_FINISHED));
}

static bool is_listed(const struct descriptors *set, int fd)
{
    for (size_t i = 0; i < set->count; i++)
        if (set->entry[i].number == fd)
            return true;
    return false;
}

static void test_handle_opens_nothing_later(void **state)
{
    struct descriptors before, first, now;
    struct fin_kernel *kernel;

    (void) state;
    descriptors_take(&before);
    kernel = new_kernel();
    descriptors_take(&first);
    for (int i = 0; i < 20; i++)
        close_one(kernel);
    descriptors_take(&now);
    assert_int_equal(descriptors_differ(&first, &now), -1);
    assert_true(now.count > before.count);
    for (int fd = 3; fd < DESCRIPTORS_MAX; fd++)
        if (!is_listed(&before, fd) && is_listed(&now, fd))
            assert_true(fcntl(fd, F_GETFD) & FD_CLOEXEC);
    assert_null(fin_kernel_free(kernel));
}

static bool use_in_child(void *arg)
{
    struct fin_kernel *kernel = arg;
    struct fin_policy policy = policy_of(FIN_COURTESY_PROMPT);
    struct fin_receipt r = FIN_RECEIPT_INIT;
    struct fin_identity id = FIN_IDENTITY_INIT;
    struct fin_state st = FIN_STATE_INIT;
    int fds[2];

    if (socketpair(AF_UNIX, SOCK_STREAM, 0, fds) < 0 || fin_identify(fds[0], &id) < 0)
        return false;
    if (fin_close(kernel, fds[0], &policy, &r) != -ECHILD || !fin_is(fds[0], &id))
        return false;
    if (fin_inspect(kernel, &id, &st) != -ECHILD)
        return false;
    if (fin_close(NULL, fds[0], &policy, &r) != 0) /* its own is fine */
        return false;
    return fin_kernel_free(kernel) == NULL;
}

static void test_fork(void **state)
{
    struct fin_kernel *kernel = new_kernel();

    (void) state;
    close_one(kernel);
    child_join(child_start(use_in_child, kernel));
    close_one(kernel); /* the child freed its copy; ours works */
    assert_null(fin_kernel_free(kernel));
}

static bool fork_again(void *arg)
{
    pid_t pid = fork();

    if (pid == 0)
        _exit(use_in_child(arg) ? 0 : 1);
    child_join(pid);
    return use_in_child(arg);
}

static void test_fork_twice(void **state)
{
    struct fin_kernel *kernel = new_kernel();

    (void) state;
    child_join(child_start(fork_again, kernel));
    close_one(kernel);
    assert_null(fin_kernel_free(kernel));
}

static void *make_kernel(void *arg)
{
    struct fin_kernel **kernel = arg;

    *kernel = new_kernel();
    close_one(*kernel);
    return NULL;
}

/* /proc/thread-self is bound to the thread that opened it. */
static void test_outlives_its_thread(void **state)
{
    struct fin_kernel *kernel = NULL;
    pthread_t thread;

    (void) state;
    assert_int_equal(pthread_create(&thread, NULL, make_kernel, &kernel), 0);
    assert_int_equal(pthread_join(thread, NULL), 0);
    for (int i = 0; i < 3; i++)
        close_one(kernel);
    assert_null(fin_kernel_free(kernel));
}

static void refuse_entry(const struct fin__entry *entry, void *arg)
{
    (void) arg;
    fail_msg("descriptor %d is still registered", (int) entry->fd);
}

/* A copy keeps the description alive, and with it an entry that nobody took out (epoll(7)). */
static void test_unwatched_before_release(void **state)
{
    struct fin_policy policy = policy_hasty(FIN_COURTESY_ORDERLY);
    struct fin_kernel *kernel = new_kernel();
    struct fin_receipt r;
    int fds[2], copy, fdinfo;
    char path[64];

    (void) state;
    tcp_pair(AF_INET, BUFFERS_SMALL, fds);
    (void) fill(fds[US]); /* acked is waited for, with the poller */
    copy = fcntl(fds[US], F_DUPFD_CLOEXEC, 0);
    r = closed(kernel, fds[US], &policy);
    assert_int_equal(r.outcome, FIN_OUTCOME_TIMED_OUT);
    (void) snprintf(path, sizeof path, "/proc/self/fdinfo/%d", kernel->wait_set);
    fdinfo = open(path, O_RDONLY | O_CLOEXEC);
    assert_int_equal(fin__fdinfo_read(fdinfo, refuse_entry, NULL), 0);
    drop_all(fdinfo, copy, fds[THEM], -1);
    assert_null(fin_kernel_free(kernel));
}

/* ---- entries that are given up ---- */

static void count_entry(uint64_t token, uint64_t inode, void *arg)
{
    size_t *count = arg;

    assert_true(token > 0 && inode > 0);
    (*count)++;
}

static size_t entries(struct fin_kernel *kernel)
{
    size_t count = 0;

    assert_int_equal(fin__witness_read(&kernel->witness, count_entry, &count), 0);
    return count;
}

#define HELD 150

static void test_given_up_entries(void **state)
{
    struct fin_policy policy = policy_of(FIN_COURTESY_PROMPT);
    struct fin_kernel *kernel = new_kernel();
    struct descriptors first, now;
    int copies[HELD];

    (void) state;
    policy.proof_ms = 0;
    policy.find_holders = 0;
    descriptors_take(&first);
    for (size_t i = 0; i < HELD; i++) {
        struct fin_receipt r;
        int fds[2];

        unix_pair(SOCK_STREAM, fds);
        copies[i] = fcntl(fds[US], F_DUPFD_CLOEXEC, 100);
        r = closed(kernel, fds[US], &policy);
        assert_int_equal(r.held, FIN_YES);
        drop_all(fds[THEM], -1);
        assert_true(entries(kernel) <= 65);
    }
    close_one(kernel);
    for (size_t i = 0; i < HELD; i++)
        drop_all(copies[i], -1);
    close_one(kernel);
    descriptors_take(&now);
    assert_int_equal(now.count, first.count);
    assert_null(fin_kernel_free(kernel));
}

/* The same description, closed twice under one number while a copy holds it. */
static void test_same_number_again(void **state)
{
    struct fin_policy policy = policy_of(FIN_COURTESY_PROMPT);
    struct fin_kernel *kernel = new_kernel();
    int fds[2], copy;

    (void) state;
    policy.proof_ms = 0;
    unix_pair(SOCK_STREAM, fds);
    copy = fcntl(fds[US], F_DUPFD_CLOEXEC, 100);
    for (int i = 0; i < 3; i++) {
        struct fin_receipt r = closed(kernel, fds[US], &policy);

        assert_int_equal(r.held, FIN_YES);
        assert_int_equal(dup3(copy, fds[US], O_CLOEXEC), fds[US]);
    }
    drop_all(copy, -1);
    assert_int_equal(closed(kernel, fds[US], &policy).held, FIN_NO);
    assert_int_equal(entries(kernel), 0);
    drop_all(fds[THEM], -1);
    assert_null(fin_kernel_free(kernel));
}

/* Closes of other numbers and other sockets are told apart in one handle. */
static void test_reused_number(void **state)
{
    struct fin_policy policy = policy_of(FIN_COURTESY_PROMPT);
    struct fin_kernel *kernel = new_kernel();
    int first[2], second[2], copy;

    (void) state;
    policy.proof_ms = 0;
    unix_pair(SOCK_STREAM, first);
    copy = fcntl(first[US], F_DUPFD_CLOEXEC, 100);
    assert_int_equal(closed(kernel, first[US], &policy).held, FIN_YES);
    unix_pair(SOCK_STREAM, second);
    assert_int_equal(second[US], first[US]);
    assert_int_equal(closed(kernel, second[US], &policy).held, FIN_NO);
    drop_all(copy, first[THEM], second[THEM], -1);
    assert_null(fin_kernel_free(kernel));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        GUARDED(test_check_sees_a_leak),
        GUARDED(test_check_sees_an_exchange),
        cmocka_unit_test(test_guard_fails),
        GUARDED(test_guard_lets_the_test_speak),
        GUARDED(test_handle_opens_nothing_later),
        GUARDED(test_fork),
        GUARDED(test_fork_twice),
        GUARDED(test_outlives_its_thread),
        GUARDED(test_unwatched_before_release),
        GUARDED(test_given_up_entries),
        GUARDED(test_same_number_again),
        GUARDED(test_reused_number),
    };

    own_network();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
