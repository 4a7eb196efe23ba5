/* SPDX-License-Identifier: MIT */

/* Stale epoll entries: found, and removed without touching a number of the program's. */

#include "base/alloc.h"
#include "keeper.h"
#include "support.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/kcmp.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define DATA 0x1234567890abcdefu
#define THREADS 4
#define ROUNDS 5000
#define HEALS 300
#define MANY 200

/* ---- a set with a stale entry ---- */

static int new_set(void)
{
    int set = epoll_create1(EPOLL_CLOEXEC);

    assert_true(set >= 0);
    return set;
}

static void enter(int set, int fd, uint64_t data)
{
    struct epoll_event entry = { .events = EPOLLIN, .data.u64 = data };

    assert_int_equal(epoll_ctl(set, EPOLL_CTL_ADD, fd, &entry), 0);
}

static int copy_of(int fd)
{
    int copy = fcntl(fd, F_DUPFD_CLOEXEC, 0);

    assert_true(copy >= 0);
    return copy;
}

static uint64_t inode_of(int fd)
{
    struct stat st;

    assert_int_equal(fstat(fd, &st), 0);
    return st.st_ino;
}

/* The entries that are ready, at most 2; their data. */
static int ready(int set, uint64_t data[2])
{
    struct epoll_event entry[2];
    int n = epoll_wait(set, entry, 2, 0);

    for (int i = 0; i < n; i++)
        data[i] = entry[i].data.u64;
    return n;
}

static void assert_silent(int set)
{
    uint64_t data[2];

    assert_int_equal(ready(set, data), 0);
}

static void assert_ready(int set, uint64_t expected)
{
    uint64_t data[2];

    assert_int_equal(ready(set, data), 1);
    assert_int_equal(data[0], expected);
}

static struct fin_stale only_stale(int pid)
{
    struct fin_stale found;

    memset(&found, 0x5a, sizeof found);
    assert_int_equal(fin_epoll_audit(pid, &found, 1), 1);
    return found;
}

static void assert_none_stale(void)
{
    assert_int_equal(fin_epoll_audit(0, NULL, 0), 0);
}

static bool compares(void)
{
    return syscall(SYS_kcmp, getpid(), getpid(), KCMP_FILE, 0ul, 0ul) >= 0;
}

/* ---- finding and healing ---- */

static void test_dup_survives(void **state)
{
    struct fin_stale stale;
    int set = new_set(), fds[2], copy;

    (void) state;
    tcp_pair(AF_INET, BUFFERS_USUAL, fds);
    enter(set, fds[US], DATA);
    assert_none_stale();
    copy = copy_of(fds[US]);
    assert_int_equal(close(fds[US]), 0);
    stale = only_stale(0);
    assert_int_equal(stale.pid, getpid());
    assert_int_equal(stale.epoll_fd, set);
    assert_int_equal(stale.fd, fds[US]);
    assert_int_equal(stale.events, EPOLLIN | EPOLLERR | EPOLLHUP);
    assert_int_equal(stale.data, DATA);
    assert_int_equal(stale.inode, inode_of(copy));
    assert_int_equal(stale.holder_pid, getpid());
    assert_int_equal(stale.holder_fd, copy);
    give(fds[THEM], "x");
    await_input(copy);
    assert_ready(set, DATA);
    assert_int_equal(fin_epoll_heal(&stale), 0);
    assert_silent(set);
    assert_none_stale();
    assert_true(is_free(fds[US]));
    expect_text(copy, "x");
    assert_int_equal(fin_epoll_heal(&stale), -ENOENT);
    drop_all(set, copy, fds[THEM], -1);
}

static void test_survivor_in_child(void **state)
{
    struct fin_stale stale;
    struct keeper k;
    int set = new_set(), fds[2];

    (void) state;
    unix_pair(SOCK_STREAM, fds);
    enter(set, fds[US], DATA);
    keeper_start(&k, NULL, NULL);
    assert_int_equal(close(fds[US]), 0);
    stale = only_stale(0);
    assert_int_equal(stale.holder_pid, k.pid);
    assert_int_equal(stale.holder_fd, fds[US]);
    give(fds[THEM], "x");
    assert_ready(set, DATA);
    assert_int_equal(fin_epoll_heal(&stale), 0);
    assert_silent(set);
    assert_none_stale();
    keeper_stop(&k);
    drop_all(set, fds[THEM], -1);
}

/* The old number is another socket's by now, registered in the same set. */
static void test_number_live(void **state)
{
    struct fin_stale stale;
    int set = new_set(), old[2], new[2], copy;

    (void) state;
    unix_pair(SOCK_STREAM, old);
    unix_pair(SOCK_STREAM, new);
    enter(set, old[US], DATA);
    copy = copy_of(old[US]);
    assert_int_equal(dup3(new[US], old[US], O_CLOEXEC), old[US]);
    enter(set, old[US], 2);
    give(old[THEM], "x");
    stale = only_stale(0);
    assert_int_equal(stale.data, DATA);
    assert_ready(set, DATA);
    assert_int_equal(fin_epoll_heal(&stale), 0);
    assert_silent(set);
    assert_none_stale();
    assert_int_equal(inode_of(old[US]), inode_of(new[US]));
    give(new[THEM], "y");
    assert_ready(set, 2);
    expect_text(old[US], "y");
    stale.data = 2;
    stale.inode = inode_of(old[US]);
    assert_int_equal(fin_epoll_heal(&stale), -ENOENT);
    give(new[THEM], "z");
    assert_ready(set, 2);
    drop_all(set, old[US], old[THEM], new[US], new[THEM], copy, -1);
}

/* What shares an inode is told apart by kcmp(2), or left alone. */
static void same_inode(int first, int second)
{
    struct epoll_event again = { .events = EPOLLIN };
    struct fin_stale stale[2];
    int set = new_set(), copy = copy_of(first), count = compares() ? 1 : 0;

    assert_int_equal(inode_of(first), inode_of(second));
    enter(set, first, 1);
    assert_int_equal(dup3(second, first, O_CLOEXEC), first);
    enter(set, first, 2);
    assert_int_equal(fin_epoll_audit(0, stale, 2), count);
    for (int i = 0; i < count; i++) {
        assert_int_equal(stale[i].data, 1);
        assert_int_equal(stale[i].holder_fd, copy);
        assert_int_equal(fin_epoll_heal(&stale[i]), 0);
        assert_none_stale();
    }
    /* The live entry is still there: it can be added only once. */
    assert_int_equal(epoll_ctl(set, EPOLL_CTL_ADD, first, &again), -1);
    assert_int_equal(errno, EEXIST);
    drop_all(set, copy, -1);
}

static void test_same_inode(void **state)
{
    int ends[2], events[2];

    (void) state;
    assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
    same_inode(ends[0], ends[1]);
    drop_all(ends[0], ends[1], -1);
    events[0] = eventfd(0, EFD_CLOEXEC);
    events[1] = eventfd(0, EFD_CLOEXEC);
    same_inode(events[0], events[1]);
    drop_all(events[0], events[1], -1);
}

/* A pipe's other end has the survivor's inode, and is none. */
static void test_other_end_is_no_survivor(void **state)
{
    struct fin_stale stale;
    int set = new_set(), ends[2], copy;

    (void) state;
    assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
    enter(set, ends[0], DATA);
    copy = copy_of(ends[0]);
    assert_int_equal(close(ends[0]), 0);
    stale = only_stale(0);
    if (compares())
        assert_int_equal(stale.holder_fd, copy);
    assert_int_equal(fin_epoll_heal(&stale), 0);
    assert_none_stale();
    drop_all(set, ends[1], copy, -1);
}

/* The set itself has taken the old number. */
static void test_number_is_the_set(void **state)
{
    struct fin_stale stale;
    int set = new_set(), fds[2], copy;

    (void) state;
    unix_pair(SOCK_STREAM, fds);
    enter(set, fds[US], DATA);
    copy = copy_of(fds[US]);
    assert_int_equal(dup3(set, fds[US], O_CLOEXEC), fds[US]);
    assert_int_equal(close(set), 0);
    stale = only_stale(0);
    assert_int_equal(stale.epoll_fd, fds[US]);
    assert_int_equal(stale.fd, fds[US]);
    assert_int_equal(fin_epoll_heal(&stale), 0);
    assert_none_stale();
    assert_silent(fds[US]);
    drop_all(fds[US], fds[THEM], copy, -1);
}

static void test_many(void **state)
{
    struct fin_stale list[MANY + 1];
    int set = new_set(), fds[2], numbers[MANY];

    (void) state;
    busy();
    unix_pair(SOCK_STREAM, fds);
    for (int i = 0; i < MANY; i++) {
        numbers[i] = copy_of(fds[US]);
        enter(set, numbers[i], (uint64_t) i);
    }
    for (int i = 0; i < MANY; i++)
        drop_all(numbers[i], -1);
    assert_int_equal(fin_epoll_audit(0, NULL, 0), MANY);
    memset(list, 0x5a, sizeof list);
    assert_int_equal(fin_epoll_audit(0, list, MANY / 2), MANY);
    assert_int_equal(list[MANY / 2].pid, 0x5a5a5a5a);
    assert_int_equal(fin_epoll_audit(0, list, MANY + 1), MANY);
    for (int i = 0; i < MANY; i++) {
        assert_int_equal(list[i].fd, numbers[list[i].data]);
        assert_int_equal(list[i].holder_fd, fds[US]);
        assert_int_equal(fin_epoll_heal(&list[i]), 0);
        assert_int_equal(fin_epoll_audit(0, NULL, 0), MANY - 1 - i);
    }
    drop_all(set, fds[US], fds[THEM], -1);
}

/* The helper's table refers to the survivor too; nothing of that is left when heal returns. */
static void test_nothing_lingers(void **state)
{
    struct fin_stale stale;
    int set = new_set(), fds[2], copy;
    char byte;

    (void) state;
    busy();
    for (int i = 0; i < MANY; i++) {
        unix_pair(SOCK_STREAM, fds);
        enter(set, fds[US], DATA);
        copy = copy_of(fds[US]);
        drop_all(fds[US], -1);
        stale = only_stale(0);
        assert_int_equal(fin_epoll_heal(&stale), 0);
        drop_all(copy, -1);
        assert_int_equal(recv(fds[THEM], &byte, 1, MSG_DONTWAIT), 0);
        drop_all(fds[THEM], -1);
    }
    drop_all(set, -1);
}

/* ---- other processes ---- */

static bool make_stale(void *arg)
{
    const int *fds = arg;
    int set = epoll_create1(EPOLL_CLOEXEC);
    struct epoll_event entry = { .events = EPOLLOUT, .data.u64 = DATA };

    return set >= 0 && epoll_ctl(set, EPOLL_CTL_ADD, fds[US], &entry) == 0 && close(fds[US]) == 0;
}

static void test_other_process(void **state)
{
    struct fin_stale stale;
    struct keeper k;
    int fds[2], gone;

    (void) state;
    unix_pair(SOCK_STREAM, fds);
    keeper_start(&k, make_stale, fds);
    assert_none_stale();
    stale = only_stale(k.pid);
    assert_int_equal(stale.pid, k.pid);
    assert_int_equal(stale.fd, fds[US]);
    assert_int_equal(stale.events, EPOLLOUT | EPOLLERR | EPOLLHUP);
    assert_int_equal(stale.data, DATA);
    assert_int_equal(stale.inode, inode_of(fds[US]));
    assert_int_equal(stale.holder_pid, getpid());
    assert_int_equal(stale.holder_fd, fds[US]);
    assert_int_equal(fin_epoll_heal(&stale), -EINVAL);
    gone = k.pid;
    keeper_stop(&k);
    assert_int_equal(fin_epoll_audit(gone, &stale, 1), -ESRCH);
    drop_all(fds[US], fds[THEM], -1);
}

/* ---- what is left alone ---- */

static void test_own_witness(void **state)
{
    struct fin_policy policy = policy_hasty(FIN_COURTESY_PROMPT);
    struct fin_kernel *kernel;
    struct fin_receipt receipt;
    int fds[2], copy;

    (void) state;
    assert_int_equal(fin_kernel_new(&kernel), 0);
    unix_pair(SOCK_STREAM, fds);
    copy = copy_of(fds[US]);
    receipt = closed(kernel, fds[US], &policy);
    assert_int_equal(receipt.held, FIN_YES);
    assert_none_stale();
    (void) fin_kernel_free(kernel);
    drop_all(copy, fds[THEM], -1);
}

static void test_survivor_in_flight(void **state)
{
    union {
        struct cmsghdr header;
        char room[CMSG_SPACE(sizeof(int))];
    } control = { .header = { CMSG_LEN(sizeof(int)), SOL_SOCKET, SCM_RIGHTS } };
    struct iovec byte = { "", 1 };
    struct msghdr message = { NULL, 0, &byte, 1, &control, sizeof control, 0 };
    struct fin_stale stale;
    int set = new_set(), fds[2], line[2];

    (void) state;
    unix_pair(SOCK_STREAM, fds);
    unix_pair(SOCK_STREAM, line);
    enter(set, fds[US], DATA);
    memcpy(CMSG_DATA(&control.header), &fds[US], sizeof(int));
    assert_int_equal(sendmsg(line[US], &message, MSG_NOSIGNAL), 1);
    drop_all(fds[US], -1);
    stale = only_stale(0);
    assert_int_equal(stale.holder_pid, 0);
    assert_int_equal(fin_epoll_heal(&stale), -ESRCH);
    drop_all(line[US], line[THEM], -1);
    assert_none_stale();
    assert_int_equal(fin_epoll_heal(&stale), -ENOENT);
    drop_all(set, fds[THEM], -1);
}

static void test_bad_arguments(void **state)
{
    struct fin_stale stale = { .pid = getpid(), .epoll_fd = 0, .fd = 0 };

    (void) state;
    assert_int_equal(fin_epoll_audit(-1, NULL, 0), -EINVAL);
    assert_int_equal(fin_epoll_audit(0, NULL, 1), -EINVAL);
    assert_int_equal(fin_epoll_heal(NULL), -EINVAL);
    assert_int_equal(fin_epoll_heal(&stale), -ENOENT);
    stale.fd = -1;
    assert_int_equal(fin_epoll_heal(&stale), -EINVAL);
}

static unsigned allocations_left;

static void *alloc_some(size_t size)
{
    return allocations_left && allocations_left-- ? malloc(size) : NULL;
}

/* Every allocation fails in turn; then nothing does. */
static void test_no_memory(void **state)
{
    const struct fin__allocator usual = fin__allocator;
    struct fin_stale stale;
    int set = new_set(), fds[2], copy, result;
    unsigned allowed = 0;

    (void) state;
    unix_pair(SOCK_STREAM, fds);
    enter(set, fds[US], DATA);
    copy = copy_of(fds[US]);
    drop_all(fds[US], -1);
    fin__allocator.alloc = alloc_some;
    do {
        allocations_left = allowed;
        result = fin_epoll_audit(0, &stale, 1);
    } while (result == -ENOMEM && allowed++ < 10);
    fin__allocator = usual;
    assert_int_equal(allowed, 4);
    assert_int_equal(result, 1);
    drop_all(set, fds[THEM], copy, -1);
}

/* ---- threads ---- */

/* ThreadSanitizer takes equal numbers in different descriptor tables for one descriptor. */
const char *__tsan_default_suppressions(void);

const char *__tsan_default_suppressions(void)
{
    return "race:^delete_entry$\n";
}

struct storm {
    atomic_bool over;
    atomic_uint rounds;
};

/* Opens and closes; in between each number must stay what it was. */
static void *open_and_close(void *arg)
{
    struct storm *storm = arg;
    struct stat before, after;

    for (int i = 0; i < ROUNDS || !storm->over; i++) {
        int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

        if (fd < 0 || fstat(fd, &before) < 0)
            return "socket";
        (void) sched_yield();
        if (fstat(fd, &after) < 0 || before.st_ino != after.st_ino)
            return "stolen";
        if (close(fd) < 0)
            return "closed by a stranger";
        storm->rounds++;
    }
    return NULL;
}

static bool heal_one(int set)
{
    struct fin_stale stale = { .pid = getpid(), .epoll_fd = set, .data = DATA };
    int fds[2], copy, result;

    unix_pair(SOCK_STREAM, fds);
    enter(set, fds[US], DATA);
    copy = copy_of(fds[US]);
    stale.fd = fds[US];
    stale.inode = inode_of(copy);
    drop_all(fds[US], -1); /* a thread takes this number now */
    result = fin_epoll_heal(&stale);
    drop_all(copy, fds[THEM], -1);
    return result == 0;
}

static void test_no_number_stolen(void **state)
{
    struct storm storm = { 0 };
    pthread_t thread[THREADS];
    int set = new_set(), healed = 0;
    void *failed;

    (void) state;
    busy();
    for (int i = 0; i < THREADS; i++)
        assert_int_equal(pthread_create(&thread[i], NULL, open_and_close, &storm), 0);
    for (int i = 0; i < HEALS; i++)
        healed += heal_one(set);
    storm.over = true;
    for (int i = 0; i < THREADS; i++) {
        assert_int_equal(pthread_join(thread[i], &failed), 0);
        if (failed)
            fail_msg("a thread's number: %s", (const char *) failed);
    }
    assert_true(storm.rounds >= THREADS * ROUNDS);
    assert_int_equal(healed, HEALS);
    assert_none_stale();
    drop_all(set, -1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        GUARDED(test_dup_survives),
        GUARDED(test_survivor_in_child),
        GUARDED(test_number_live),
        GUARDED(test_same_inode),
        GUARDED(test_other_end_is_no_survivor),
        GUARDED(test_number_is_the_set),
        GUARDED(test_many),
        GUARDED(test_nothing_lingers),
        GUARDED(test_other_process),
        GUARDED(test_own_witness),
        GUARDED(test_survivor_in_flight),
        GUARDED(test_bad_arguments),
        GUARDED(test_no_memory),
        GUARDED(test_no_number_stolen),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
