/* SPDX-License-Identifier: MIT */

/* Who still holds what was closed: as the receipt tells, and as fin_holders() does. */

#include "keeper.h"
#include "support.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define MANY 500
#define NOBODY 65534

/* ---- closing what is held ---- */

static struct fin_policy hasty(void)
{
    struct fin_policy policy = policy_hasty(FIN_COURTESY_PROMPT);

    policy.scope = FIN_SCOPE_DESCRIPTOR;
    policy.find_holders = 1;
    busy(); /* with reading /proc */
    return policy;
}

static struct fin_receipt closed_held(int fd)
{
    struct fin_policy policy = hasty();
    struct fin_receipt receipt = closed(NULL, fd, &policy);

    assert_int_equal(receipt.held, FIN_YES);
    return receipt;
}

static void assert_search(const struct fin_receipt *receipt, enum fin_search search)
{
    if (!search_is(receipt, search))
        assert_string_equal(fin_search_name(receipt->search), fin_search_name((int) search));
}

static void assert_holder(const struct fin_holder *holder, pid_t pid, int fd)
{
    assert_int_equal(holder->pid, pid);
    assert_int_equal(holder->fd, fd);
}

static void assert_line_has(const struct fin_receipt *receipt, const char *part)
{
    char line[1024];
    int length = fin_receipt_format(receipt, line, sizeof line);

    assert_in_range(length, 1, sizeof line - 1);
    if (!strstr(line, part))
        fail_msg("no \"%s\" in \"%s\"", part, line);
    for (int i = 0; i < length; i++)
        assert_in_range(line[i], ' ', '~');
}

/* An ordinary user can't look at everybody, and then nothing found does not mean that there is
 * nothing to be seen. */
static void assert_nobody_found(const struct fin_receipt *receipt)
{
    struct fin_identity id = FIN_IDENTITY_INIT;
    uint32_t unreadable = 0;

    assert_int_equal(fin_holders(&id, NULL, 0, &unreadable), 0);
    assert_int_equal(receipt->holders, 0);
    assert_search(receipt, unreadable ? FIN_SEARCH_BLIND : FIN_SEARCH_INVISIBLE);
    if (receipt->search != FIN_SEARCH_CUT)
        assert_line_has(receipt, unreadable ? "could not look" : "held by an invisible holder");
}

/* ---- holders that /proc shows ---- */

static void test_child(void **state)
{
    char own[16] = { 0 }, part[64];
    struct fin_receipt receipt;
    struct keeper k;
    int fds[2];

    (void) state;
    tcp_pair(AF_INET, BUFFERS_USUAL, fds);
    keeper_start(&k, NULL, NULL);
    receipt = closed_held(fds[US]);
    assert_search(&receipt, FIN_SEARCH_FOUND);
    assert_int_equal(receipt.holders, 1);
    assert_holder(&receipt.holder[0], k.pid, fds[US]);
    assert_int_equal(prctl(PR_GET_NAME, own), 0);
    assert_string_equal(receipt.holder[0].command, own);
    (void) snprintf(part, sizeof part, "held by %d/%s fd %d", k.pid, own, fds[US]);
    assert_line_has(&receipt, part);
    keeper_stop(&k);
    drop_all(fds[THEM], -1);
}

static int search_with_child(const struct fin_identity *id)
{
    struct fin_holder found[3];
    struct keeper k;
    bool right;

    keeper_start(&k, NULL, NULL);
    right = fin_holders(id, found, 3, NULL) == 3 && found[0].pid == k.pid
        && found[1].pid == getpid() && found[2].pid == getppid();
    keeper_stop(&k);
    return right;
}

/* A search may be cut short: children are the first to be suspected, then the process that asks,
 * whatever is open in those before it. */
static void test_children_first(void **state)
{
    struct fin_identity id = FIN_IDENTITY_INIT;
    int fds[2], status;
    pid_t child;

    (void) state;
    unix_pair(SOCK_STREAM, fds);
    assert_int_equal(fin_identify(fds[US], &id), 0);
    child = fork();
    if (child == 0)
        _exit(!search_with_child(&id));
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
    drop_all(fds[US], fds[THEM], -1);
}

static void test_dup(void **state)
{
    struct fin_receipt receipt;
    int fds[2], copy;

    (void) state;
    unix_pair(SOCK_STREAM, fds);
    copy = fcntl(fds[US], F_DUPFD_CLOEXEC, 0);
    receipt = closed_held(fds[US]);
    assert_search(&receipt, FIN_SEARCH_FOUND);
    assert_int_equal(receipt.holders, 1);
    assert_holder(&receipt.holder[0], getpid(), copy);
    drop_all(copy, fds[THEM], -1);
}

/* Those of the other end are no holders of ours. */
static void test_pipe(void **state)
{
    struct fin_receipt receipt;
    struct keeper k;
    int ends[2];

    (void) state;
    for (int ours = 0; ours < 2; ours++) {
        assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
        keeper_start(&k, NULL, NULL);
        receipt = closed_held(ends[ours]);
        assert_search(&receipt, FIN_SEARCH_FOUND);
        assert_int_equal(receipt.holders, 1);
        assert_holder(&receipt.holder[0], k.pid, ends[ours]);
        keeper_stop(&k);
        drop_all(ends[1 - ours], -1);
    }
}

/* Its link in /proc has no inode. */
static void test_named_fifo(void **state)
{
    char folder[] = "/tmp/finack-test-XXXXXX", path[64];
    struct fin_receipt receipt;
    int fd, copy;

    (void) state;
    assert_non_null(mkdtemp(folder));
    (void) snprintf(path, sizeof path, "%s/fifo", folder);
    assert_int_equal(mkfifo(path, 0600), 0);
    fd = open(path, O_RDWR | O_CLOEXEC);
    assert_true(fd >= 0);
    assert_int_equal(unlink(path), 0);
    assert_int_equal(rmdir(folder), 0);
    copy = fcntl(fd, F_DUPFD_CLOEXEC, 0);
    receipt = closed_held(fd);
    assert_search(&receipt, FIN_SEARCH_FOUND);
    assert_int_equal(receipt.holders, 1);
    assert_holder(&receipt.holder[0], getpid(), copy);
    drop_all(copy, -1);
}

static bool take_evil_name(void *arg)
{
    return prctl(PR_SET_NAME, arg) == 0;
}

static void test_command_of_any_bytes(void **state)
{
    static char evil[] = "\033[31m\\e\nvil\377\n";
    struct fin_receipt receipt;
    struct keeper k;
    int fds[2];

    (void) state;
    unix_pair(SOCK_STREAM, fds);
    keeper_start(&k, take_evil_name, evil);
    receipt = closed_held(fds[US]);
    assert_search(&receipt, FIN_SEARCH_FOUND);
    assert_string_equal(receipt.holder[0].command, evil);
    assert_line_has(&receipt, "/\\x1b[31m\\x5ce\\x0avil\\xff\\x0a fd ");
    keeper_stop(&k);
    drop_all(fds[THEM], -1);
}

static void test_many(void **state)
{
    struct fin_identity id = FIN_IDENTITY_INIT;
    struct fin_holder list[MANY + 1];
    struct fin_receipt receipt;
    int fds[2], copies[MANY];

    (void) state;
    busy();
    unix_pair(SOCK_STREAM, fds);
    for (int i = 0; i < MANY; i++)
        assert_true((copies[i] = fcntl(fds[US], F_DUPFD_CLOEXEC, 0)) >= 0);
    assert_int_equal(fin_identify(fds[US], &id), 0);
    assert_int_equal(fin_holders(&id, NULL, 0, NULL), MANY + 1);
    memset(list, 0x5a, sizeof list);
    assert_int_equal(fin_holders(&id, list, 3, NULL), MANY + 1);
    assert_int_equal(list[2].pid, getpid());
    assert_int_equal(list[3].pid, 0x5a5a5a5a);
    receipt = closed_held(fds[US]);
    assert_search(&receipt, FIN_SEARCH_FOUND);
    if (receipt.search == FIN_SEARCH_FOUND) {
        assert_int_equal(receipt.holders, MANY);
        assert_line_has(&receipt, ", +496 more");
    }
    assert_int_equal(fin_holders(&id, list, MANY + 1, NULL), MANY);
    for (int i = 0; i < MANY; i++)
        assert_holder(&list[i], getpid(), copies[i]);
    for (int i = 0; i < MANY; i++)
        drop_all(copies[i], -1);
    assert_int_equal(fin_holders(&id, NULL, 0, NULL), 0);
    drop_all(fds[THEM], -1);
}

/* ---- threads ---- */

struct worker {
    pthread_t thread;
    int fd;
    int line[2];
    atomic_int tid;
};

static void *own_table(void *arg)
{
    struct worker *w = arg;
    char byte;

    if (unshare(CLONE_FILES) < 0)
        return "unshare";
    w->tid = gettid();
    return read(w->line[THEM], &byte, 1) == 1 ? NULL : "read";
}

static void test_thread_with_own_table(void **state)
{
    struct worker w = { 0 };
    struct fin_receipt receipt;
    void *failed;
    int fds[2];

    (void) state;
    unix_pair(SOCK_STREAM, fds);
    unix_pair(SOCK_STREAM, w.line);
    assert_int_equal(pthread_create(&w.thread, NULL, own_table, &w), 0);
    while (w.tid == 0)
        (void) sched_yield();
    receipt = closed_held(fds[US]);
    assert_search(&receipt, FIN_SEARCH_FOUND);
    assert_int_equal(receipt.holders, 1);
    assert_holder(&receipt.holder[0], w.tid, fds[US]);
    give(w.line[US], "-");
    assert_int_equal(pthread_join(w.thread, &failed), 0);
    assert_null(failed);
    drop_all(w.line[US], w.line[THEM], fds[THEM], -1);
}

static void *receive(void *arg)
{
    struct worker *w = arg;
    char byte;

    w->tid = gettid();
    /* Not by recv(3): ThreadSanitizer would find the close meanwhile, which is meant. */
    return syscall(SYS_recvfrom, w->fd, &byte, 1ul, 0, NULL, NULL) == 1 ? NULL : "recv";
}

static void test_thread_in_call(void **state)
{
    struct worker w = { 0 };
    struct fin_receipt receipt;
    void *failed;
    int fds[2];

    (void) state;
    tcp_pair(AF_INET, BUFFERS_USUAL, fds);
    w.fd = fds[US];
    assert_int_equal(pthread_create(&w.thread, NULL, receive, &w), 0);
    while (w.tid == 0)
        (void) sched_yield();
    await_call(w.tid, SYS_recvfrom);
    receipt = closed_held(fds[US]);
    assert_nobody_found(&receipt);
    give(fds[THEM], "x");
    assert_int_equal(pthread_join(w.thread, &failed), 0);
    assert_null(failed);
    drop_all(fds[THEM], -1);
}

/* ---- holders that /proc does not show ---- */

static void send_descriptor(int line, int fd)
{
    union {
        struct cmsghdr header;
        char room[CMSG_SPACE(sizeof(int))];
    } control = { .header = { CMSG_LEN(sizeof fd), SOL_SOCKET, SCM_RIGHTS } };
    struct iovec byte = { "", 1 };
    struct msghdr message = {
        .msg_iov = &byte, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control
    };

    memcpy(CMSG_DATA(&control.header), &fd, sizeof fd);
    assert_int_equal(sendmsg(line, &message, MSG_NOSIGNAL), 1);
}

static void test_in_flight(void **state)
{
    struct fin_receipt receipt;
    int fds[2], line[2];

    (void) state;
    tcp_pair(AF_INET6, BUFFERS_USUAL, fds);
    unix_pair(SOCK_STREAM, line);
    send_descriptor(line[US], fds[US]);
    receipt = closed_held(fds[US]);
    assert_nobody_found(&receipt);
    drop_all(line[US], line[THEM], fds[THEM], -1);
}

static bool become_unreadable(void *arg)
{
    (void) arg;
    return prctl(PR_SET_DUMPABLE, 0) == 0;
}

struct strangers {
    int fds[2];
    int line[2];
};

/* In a child, since root must become somebody to whom something is forbidden. */
static bool close_among_strangers(void *arg)
{
    struct fin_policy policy = hasty();
    struct fin_receipt receipt = FIN_RECEIPT_INIT;
    const struct strangers *s = arg;
    char line[512];

    if (geteuid() == 0 && setresuid(NOBODY, NOBODY, NOBODY) < 0)
        return false;
    /* Before Linux 5.14 who has changed his user can't read his own /proc/self/fdinfo. */
    if (prctl(PR_SET_DUMPABLE, 1) < 0 || read(s->line[THEM], line, 1) != 1)
        return false;
    if (fin_close(NULL, s->fds[US], &policy, &receipt) < 0 || receipt.held != FIN_YES)
        return false;
    (void) fin_receipt_format(&receipt, line, sizeof line);
    return receipt.holders == 0
        && (receipt.search == FIN_SEARCH_CUT
            || (receipt.search == FIN_SEARCH_BLIND && strstr(line, "could not look")));
}

static void test_unreadable_process(void **state)
{
    struct strangers s;
    struct keeper k;
    pid_t closer;

    (void) state;
    unix_pair(SOCK_STREAM, s.fds);
    unix_pair(SOCK_STREAM, s.line);
    keeper_start(&k, become_unreadable, NULL);
    closer = child_start(close_among_strangers, &s);
    drop_all(s.fds[US], -1); /* an ordinary user's child could find it here */
    give(s.line[US], "!");
    child_join(closer);
    keeper_stop(&k);
    drop_all(s.fds[THEM], s.line[US], s.line[THEM], -1);
}

/* As one to whom /proc shows no process but his own. */
static bool close_where_processes_hide(void *arg)
{
    struct fin_policy policy = hasty();
    struct fin_receipt receipt = FIN_RECEIPT_INIT;
    const int *fd = arg;
    uint32_t unreadable = 0;
    struct fin_identity id = FIN_IDENTITY_INIT;
    struct descriptors before, after;
    int found;

    if (geteuid() != 0) /* only root can make such a /proc without a process namespace of its own */
        return true;
    if (unshare(CLONE_NEWNS) < 0 || mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0
        || mount("proc", "/proc", "proc", 0, "hidepid=2") < 0
        || setresgid(NOBODY, NOBODY, NOBODY) < 0 || setgroups(0, NULL) < 0
        || setresuid(NOBODY, NOBODY, NOBODY) < 0 || prctl(PR_SET_DUMPABLE, 1) < 0)
        return false;
    if (fin_close(NULL, *fd, &policy, &receipt) < 0 || receipt.held != FIN_YES)
        return false;
    descriptors_take(&before);
    found = fin_holders(&id, NULL, 0, &unreadable);
    descriptors_take(&after);
    return found == 0 && unreadable > 0 && descriptors_differ(&before, &after) < 0
        && (receipt.search == FIN_SEARCH_BLIND || receipt.search == FIN_SEARCH_CUT);
}

/* As the first process, which sees itself under /proc/1: only the mount tells that others hide. */
static bool close_as_the_first(void *arg)
{
    int status = -1;
    pid_t first;

    if (geteuid() != 0)
        return true;
    if (unshare(CLONE_NEWPID) < 0 || (first = fork()) < 0)
        return false;
    if (first == 0)
        _exit(!close_where_processes_hide(arg));
    return waitpid(first, &status, 0) == first && status == 0;
}

static void hidden_processes(bool (*closer)(void *))
{
    int fds[2], line[2];

    unix_pair(SOCK_STREAM, fds);
    unix_pair(SOCK_STREAM, line);
    send_descriptor(line[US], fds[US]);
    child_join(child_start(closer, &fds[US]));
    drop_all(fds[US], fds[THEM], line[US], line[THEM], -1);
}

static void test_hidden_processes(void **state)
{
    (void) state;
    hidden_processes(close_where_processes_hide);
    hidden_processes(close_as_the_first);
}

/* ---- nothing to find, or nothing to find it with ---- */

/* The search has what is left of the close's time: here none. */
static void test_no_time(void **state)
{
    struct fin_policy policy = hasty();
    struct fin_receipt receipt;
    int fds[2], copy;

    (void) state;
    policy.total_ms = policy.proof_ms = 0;
    tcp_pair(AF_INET, BUFFERS_USUAL, fds);
    copy = fcntl(fds[US], F_DUPFD_CLOEXEC, 0);
    receipt = closed(NULL, fds[US], &policy);
    assert_int_equal(receipt.held, FIN_YES);
    assert_search(&receipt, FIN_SEARCH_CUT);
    assert_int_equal(receipt.holders, 0);
    assert_line_has(&receipt, "no time to search");
    drop_all(copy, fds[THEM], -1);
}

static void test_no_search(void **state)
{
    struct fin_policy policy = hasty();
    struct fin_receipt receipt;
    int fds[2], copy;

    (void) state;
    unix_pair(SOCK_STREAM, fds);
    copy = fcntl(fds[US], F_DUPFD_CLOEXEC, 0);
    policy.find_holders = 0;
    receipt = closed(NULL, fds[US], &policy);
    assert_int_equal(receipt.held, FIN_YES);
    assert_search(&receipt, FIN_SEARCH_NONE);
    assert_int_equal(receipt.holders, 0);
    policy = policy_of(FIN_COURTESY_PROMPT);
    memset(&receipt, 0x5a, sizeof receipt);
    receipt.size = sizeof receipt;
    assert_int_equal(fin_close(NULL, copy, &policy, &receipt), 0);
    assert_int_equal(receipt.held, FIN_NO);
    assert_search(&receipt, FIN_SEARCH_NONE);
    assert_int_equal(receipt.holders, 0);
    assert_int_equal(receipt.holder[0].pid, 0);
    drop_all(fds[THEM], -1);
}

/* The search comes after the release, so it gets by with as little as the one number freed. */
static void test_no_descriptors(void **state)
{
    struct fin_identity id = FIN_IDENTITY_INIT;
    struct fin_policy policy = hasty();
    struct fin_kernel *kernel;
    struct fin_receipt receipt;
    int fds[2], copy, found;

    (void) state;
    assert_int_equal(fin_kernel_new(&kernel), 0);
    unix_pair(SOCK_STREAM, fds);
    copy = fcntl(fds[US], F_DUPFD_CLOEXEC, 0);
    assert_int_equal(fin_identify(copy, &id), 0);
    limit_descriptors(0);
    found = fin_holders(&id, NULL, 0, NULL);
    receipt = closed(kernel, fds[US], &policy);
    unlimit_descriptors();
    assert_int_equal(found, -EMFILE);
    assert_int_equal(receipt.held, FIN_YES);
    assert_search(&receipt, FIN_SEARCH_BLIND);
    assert_int_equal(receipt.holders, 0);
    (void) fin_kernel_free(kernel);
    drop_all(copy, fds[THEM], -1);
}

static void test_bad_arguments(void **state)
{
    struct fin_identity id = FIN_IDENTITY_INIT;
    uint32_t unreadable = 7;

    (void) state;
    assert_int_equal(fin_holders(NULL, NULL, 0, &unreadable), -EINVAL);
    assert_int_equal(fin_holders(&id, NULL, 1, &unreadable), -EINVAL);
    id.size--;
    assert_int_equal(fin_holders(&id, NULL, 0, &unreadable), -EINVAL);
    assert_int_equal(unreadable, 7);
    assert_string_equal(fin_search_name(FIN_SEARCH_NONE), "none");
    assert_string_equal(fin_search_name(FIN_SEARCH_BLIND), "blind");
    assert_string_equal(fin_search_name(FIN_SEARCH_CUT), "cut");
    assert_string_equal(fin_search_name(-1), "?");
    assert_string_equal(fin_search_name(5), "?");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        GUARDED(test_child),
        GUARDED(test_children_first),
        GUARDED(test_dup),
        GUARDED(test_pipe),
        GUARDED(test_named_fifo),
        GUARDED(test_command_of_any_bytes),
        GUARDED(test_many),
        GUARDED(test_thread_with_own_table),
        GUARDED(test_thread_in_call),
        GUARDED(test_in_flight),
        GUARDED(test_unreadable_process),
        GUARDED(test_hidden_processes),
        GUARDED(test_no_time),
        GUARDED(test_no_search),
        GUARDED(test_no_descriptors),
        GUARDED(test_bad_arguments),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
