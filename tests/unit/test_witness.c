/* SPDX-License-Identifier: MIT */

/* The witness, and what it reads: fdinfo of few and of thousands of entries, whole and mangled. */

#include "support.h"

#include "kernel/fdinfo.h"
#include "kernel/witness.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

/* ---- parsing ---- */

#define SEEN_MAX 2048

struct seen_entries {
    size_t count;
    struct fin__entry entry[SEEN_MAX];
};

static void note(const struct fin__entry *entry, void *arg)
{
    struct seen_entries *all = arg;

    assert_true(all->count < SEEN_MAX);
    all->entry[all->count++] = *entry;
}

static int parse(const char *text, size_t size, struct seen_entries *all)
{
    int fd = memfd_create("fdinfo", MFD_CLOEXEC), result;

    assert_true(fd >= 0);
    assert_int_equal(write(fd, text, size), size);
    all->count = 0;
    result = fin__fdinfo_read(fd, note, all);
    drop_all(fd, -1);
    return result;
}

static void test_lines(void **state)
{
    static const char text[] = "pos:\t0\nflags:\t02000002\nmnt_id:\t15\nino:\t2057\n"
                               "tfd:        5 events: 80000019 data:               2a  pos:0 "
                               "ino:1b sdev:8\n"
                               "tfd:       17 events:        1 data: ffffffffffffffff  pos:0 "
                               "ino:ffffffff01 sdev:e\n";
    static struct seen_entries all;

    (void) state;
    assert_int_equal(parse(text, sizeof text - 1, &all), 0);
    assert_int_equal(all.count, 2);
    assert_int_equal(all.entry[0].fd, 5);
    assert_int_equal(all.entry[0].events, 0x80000019);
    assert_int_equal(all.entry[0].data, 0x2a);
    assert_int_equal(all.entry[0].inode, 0x1b);
    assert_int_equal(all.entry[1].fd, 17);
    assert_true(all.entry[1].data == UINT64_MAX);
    assert_true(all.entry[1].inode == 0xffffffff01);
}

/* Kernels before 4.13 tell no inode. */
static void test_old_lines(void **state)
{
    static const char text[] = "tfd:        5 events:       19 data:               2a\n";
    static struct seen_entries all;

    (void) state;
    assert_int_equal(parse(text, sizeof text - 1, &all), 0);
    assert_int_equal(all.count, 1);
    assert_int_equal(all.entry[0].data, 0x2a);
    assert_int_equal(all.entry[0].inode, 0);
}

static void test_mangled(void **state)
{
    static const char *const texts[] = {
        "tfd:\n",
        "tfd: x events: 1 data: 1\n",
        "tfd: 1 events: data: 1\n",
        "tfd: 1 events: 1\n",
        "tfd: 1 events: 1 data:\n",
        "tfd: 99999999999999999999 events: 1 data: 1\n",
        "tfd: 1 events: 100000000 data: 1\n",
        "xtfd: 1 events: 1 data: 1 ino:1 sdev:1\n",
        "data: 1 events: 1 tfd: 1\n",
        "tfd: 1 events: 1 data: 1", /* cut: no end of line */
        "\n\n\n",
    };
    static struct seen_entries all;
    char nothing[] = { 't', 'f', 'd', ':', '\0', '1', '\n' };

    (void) state;
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        assert_int_equal(parse(texts[i], strlen(texts[i]), &all), 0);
        assert_int_equal(all.count, 0);
    }
    assert_int_equal(parse(nothing, sizeof nothing, &all), 0);
    assert_int_equal(all.count, 0);
    assert_true(parse("", 0, &all) < 0);
}

/* Lines of every length, so that the ends of the reader's buffer fall everywhere in them. */
static void test_across_buffers(void **state)
{
    static char text[SEEN_MAX * 64];
    static struct seen_entries all;

    (void) state;
    for (int shift = 0; shift < 80; shift++) {
        size_t size = (size_t) sprintf(text, "%*s\n", shift, "");

        for (int i = 0; i < 500; i++)
            size += (size_t) sprintf(
                text + size, "tfd: %d events: 19 data: %x pos:0 ino:%x sdev:8\n", i, i + 1, i + 2);
        assert_int_equal(parse(text, size, &all), 0);
        assert_int_equal(all.count, 500);
        for (size_t i = 0; i < 500; i++) {
            assert_int_equal(all.entry[i].fd, i);
            assert_int_equal(all.entry[i].data, i + 1);
            assert_int_equal(all.entry[i].inode, i + 2);
        }
    }
}

static void test_endless_line(void **state)
{
    static char text[10000];
    static struct seen_entries all;

    (void) state;
    memset(text, 'x', sizeof text);
    assert_int_equal(parse(text, sizeof text, &all), -EOVERFLOW);
    assert_int_equal(all.count, 0);
}

/* ---- the witness ---- */

static struct fin__witness open_witness(void)
{
    struct fin__witness w = FIN__WITNESS_INIT;

    assert_int_equal(fin__witness_open(&w), 0);
    return w;
}

static void test_every_kind_of_holder(void **state)
{
    struct fin__witness w = open_witness();
    uint64_t inode = 0;
    int fds[2], copy;
    struct stat st;

    (void) state;
    unix_pair(SOCK_STREAM, fds);
    assert_int_equal(fstat(fds[US], &st), 0);
    assert_int_equal(fin__witness_add(&w, fds[US], 7), 0);
    assert_int_equal(fin__witness_check(&w, 7, NULL), FIN_YES);
    copy = fcntl(fds[US], F_DUPFD_CLOEXEC, 0);
    drop_all(fds[US], -1);
    assert_int_equal(fin__witness_check(&w, 7, &inode), FIN_YES);
    assert_int_equal(inode, st.st_ino);
    assert_int_equal(fin__witness_check(&w, 8, NULL), FIN_NO);
    drop_all(copy, -1);
    assert_int_equal(fin__witness_check(&w, 7, NULL), FIN_NO);
    drop_all(fds[THEM], -1);
    fin__witness_close(&w);
}

static void test_no_witness(void **state)
{
    struct fin__witness none = FIN__WITNESS_INIT;

    (void) state;
    assert_true(fin__witness_add(&none, 0, 1) < 0);
    assert_int_equal(fin__witness_check(&none, 1, NULL), FIN_UNVERIFIABLE);
    fin__witness_close(&none);
}

static void test_number_taken_again(void **state)
{
    struct fin__witness w = open_witness();
    int fd = eventfd(0, EFD_CLOEXEC), copy = fcntl(fd, F_DUPFD_CLOEXEC, 0);

    (void) state;
    assert_int_equal(fin__witness_add(&w, fd, 1), 0);
    assert_int_equal(fin__witness_add(&w, fd, 2), -EEXIST);
    assert_int_equal(fin__witness_check(&w, 1, NULL), FIN_YES);
    assert_int_equal(fin__witness_take_over(&w, fd, 2), 0);
    assert_int_equal(fin__witness_check(&w, 2, NULL), FIN_YES);
    drop_all(fd, -1);
    fd = eventfd(0, EFD_CLOEXEC); /* another description under the same number */
    assert_int_equal(fin__witness_add(&w, fd, 3), 0);
    assert_int_equal(fin__witness_check(&w, 2, NULL), FIN_YES);
    assert_int_equal(fin__witness_check(&w, 3, NULL), FIN_YES);
    drop_all(fd, -1);
    assert_int_equal(fin__witness_check(&w, 3, NULL), FIN_NO);
    drop_all(copy, -1);
    assert_int_equal(fin__witness_check(&w, 2, NULL), FIN_NO);
    fin__witness_close(&w);
}

/* Something else has a number of its by now: it is not asked, gets no entry, and stays open. */
static void test_set_closed_behind_its_back(void **state)
{
    (void) state;
    for (int one = 0; one < 2; one++)
        for (int set = 0; set < 2; set++) {
            struct fin__witness w = FIN__WITNESS_INIT;
            int fd = eventfd(0, EFD_CLOEXEC), stranger, lost;
            struct epoll_event event;

            assert_int_equal(one ? fin__witness_open_for_one(&w) : fin__witness_open(&w), 0);
            assert_int_equal(fin__witness_add(&w, fd, 1), 0);
            assert_int_equal(fin__witness_check(&w, 1, NULL), FIN_YES);
            lost = w.set;
            drop_all(lost, -1);
            w.sure = 0; /* time has passed */
            assert_int_equal(fin__witness_check(&w, 1, NULL), FIN_UNVERIFIABLE);
            stranger = set ? epoll_create1(EPOLL_CLOEXEC) : eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
            assert_int_equal(stranger, lost);
            assert_int_equal(fin__witness_check(&w, 1, NULL), FIN_UNVERIFIABLE);
            assert_int_equal(fin__witness_add(&w, fd, 2), -EBADF);
            drop_all(fd, -1);
            assert_int_equal(fin__witness_check(&w, 1, NULL), FIN_UNVERIFIABLE);
            if (set) {
                event = (struct epoll_event) { .events = EPOLLIN };
                fd = eventfd(1, EFD_CLOEXEC);
                assert_int_equal(epoll_ctl(stranger, EPOLL_CTL_ADD, fd, &event), 0);
                assert_int_equal(epoll_wait(stranger, &event, 1, 0), 1);
                drop_all(fd, -1);
            }
            fin__witness_close(&w);
            drop_all(stranger, -1); /* it is there still */
        }
}

static void test_fdinfo_closed_behind_its_back(void **state)
{
    struct fin__witness w = open_witness();
    int fd = eventfd(0, EFD_CLOEXEC), lost = w.fdinfo, stranger;

    (void) state;
    assert_int_equal(fin__witness_add(&w, fd, 1), 0);
    drop_all(lost, -1);
    w.sure = 0;
    stranger = memfd_create("nothing", MFD_CLOEXEC);
    assert_int_equal(stranger, lost);
    assert_int_equal(write(stranger, "pos: 0\n", 7), 7);
    assert_int_equal(fin__witness_check(&w, 1, NULL), FIN_YES);
    drop_all(fd, -1);
    assert_int_equal(fin__witness_check(&w, 1, NULL), FIN_NO);
    fin__witness_close(&w);
    drop_all(stranger, -1);
}

static void count_entry(uint64_t token, uint64_t inode, void *arg)
{
    uint64_t *sum = arg;

    assert_true(inode > 0);
    *sum += token;
}

/* fdinfo of this size is read in many pieces. */
#define MANY 2000

static void test_many(void **state)
{
    struct fin__witness w = open_witness();
    static int fds[MANY];
    uint64_t sum = 0, expected = 0;

    (void) state;
    busy();
    for (uint64_t i = 0; i < MANY; i++) {
        fds[i] = eventfd(0, EFD_CLOEXEC);
        assert_true(fds[i] >= 0);
        assert_int_equal(fin__witness_add(&w, fds[i], i + 1), 0);
    }
    for (uint64_t i = 0; i < MANY; i += 2) {
        drop_all(fds[i], -1);
        expected += i + 2;
    }
    assert_int_equal(fin__witness_read(&w, count_entry, &sum), 0);
    assert_int_equal(sum, expected);
    for (uint64_t i = 0; i < MANY; i += 37)
        assert_int_equal(fin__witness_check(&w, i + 1, NULL), i % 2 ? FIN_YES : FIN_NO);
    for (size_t i = 1; i < MANY; i += 2)
        drop_all(fds[i], -1);
    fin__witness_close(&w);
}

/* ---- a set full of what is held still ---- */

/* Entries that nobody asks about any more. What holds them is written to held[]. */
static void give_up(struct fin__witness *w, int *held, int count)
{
    for (int i = 0; i < count; i++) {
        int fd = eventfd(0, EFD_CLOEXEC);

        held[i] = fcntl(fd, F_DUPFD_CLOEXEC, 0);
        assert_int_equal(fin__witness_add(w, fd, (uint64_t) i + 1), 0);
        drop_all(fd, -1);
        fin__witness_give_up(w);
    }
}

static void let_all_go(const int *held, int count)
{
    for (int i = 0; i < count; i++)
        drop_all(held[i], -1);
}

/* A program counts its descriptors: a new set has the number of the old one. */
static void test_renewed_under_its_number(void **state)
{
    struct fin__witness w = open_witness();
    int set = w.set, fdinfo = w.fdinfo, held[FIN__WITNESS_STALE_MAX], fd;

    (void) state;
    give_up(&w, held, FIN__WITNESS_STALE_MAX);
    fin__witness_renew(&w);
    assert_int_equal(w.set, set);
    assert_int_equal(w.fdinfo, fdinfo);
    assert_int_equal(w.stale, 0);
    for (int i = 0; i < FIN__WITNESS_STALE_MAX; i++)
        assert_int_equal(fin__witness_check(&w, (uint64_t) i + 1, NULL), FIN_NO);
    fd = eventfd(0, EFD_CLOEXEC);
    assert_int_equal(fin__witness_add(&w, fd, 100), 0);
    assert_int_equal(fin__witness_check(&w, 100, NULL), FIN_YES);
    drop_all(fd, -1);
    assert_int_equal(fin__witness_check(&w, 100, NULL), FIN_NO);
    let_all_go(held, FIN__WITNESS_STALE_MAX);
    fin__witness_close(&w);
}

static void test_let_go_since(void **state)
{
    struct fin__witness w = open_witness();
    int held[FIN__WITNESS_STALE_MAX];

    (void) state;
    give_up(&w, held, FIN__WITNESS_STALE_MAX);
    let_all_go(held + 1, FIN__WITNESS_STALE_MAX - 1);
    fin__witness_renew(&w);
    assert_int_equal(w.stale, 1);
    assert_int_equal(fin__witness_check(&w, 1, NULL), FIN_YES);
    drop_all(held[0], -1);
    fin__witness_close(&w);
}

/* ---- a stray close() took the set ---- */

/* What has the number then is open still, and not ours. */
static void assert_forgotten(struct fin__witness *w, int number)
{
    assert_int_equal(w->set, -1);
    assert_int_equal(w->fdinfo, -1);
    fin__witness_close(w);
    assert_true(fcntl(number, F_GETFD) >= 0);
}

static void test_lost(void **state)
{
    struct fin__witness w = open_witness();
    int set = w.set, fd = eventfd(0, EFD_CLOEXEC), other;

    (void) state;
    assert_false(fin__witness_lost(&w));
    drop_all(set, -1);
    other = eventfd(0, EFD_CLOEXEC);
    assert_int_equal(other, set);
    assert_true(fin__witness_add(&w, fd, 1) < 0);
    assert_true(fin__witness_lost(&w));
    assert_false(fin__witness_lost(&w));
    assert_forgotten(&w, other);
    drop_all(other, fd, -1);
}

/* Another epoll set has the number: it gets no entry of ours, and keeps those of its owner. */
static void test_another_set_has_the_number(void **state)
{
    struct fin__witness w = open_witness();
    int set = w.set, fd = eventfd(0, EFD_CLOEXEC), other;
    struct epoll_event entry = { .events = EPOLLIN };

    (void) state;
    drop_all(set, -1);
    other = epoll_create1(EPOLL_CLOEXEC);
    assert_int_equal(other, set);
    assert_int_equal(epoll_ctl(other, EPOLL_CTL_ADD, fd, &entry), 0);
    assert_int_equal(fin__witness_add(&w, fd, 1), -EBADF);
    assert_true(fin__witness_lost(&w));
    assert_forgotten(&w, other);
    assert_int_equal(epoll_ctl(other, EPOLL_CTL_MOD, fd, &entry), 0);
    drop_all(other, fd, -1);
}

/* Its view has gone with it, and its number is a file's that must stay open. */
static void test_the_view_is_lost_too(void **state)
{
    struct fin__witness w = open_witness();
    int set = w.set, fdinfo = w.fdinfo, others[2];

    (void) state;
    drop_all(set, fdinfo, -1);
    others[0] = eventfd(0, EFD_CLOEXEC);
    others[1] = eventfd(0, EFD_CLOEXEC);
    assert_true(fin__witness_lost(&w));
    assert_forgotten(&w, set);
    assert_forgotten(&w, fdinfo);
    drop_all(others[0], others[1], -1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        GUARDED(test_lines),
        GUARDED(test_old_lines),
        GUARDED(test_mangled),
        GUARDED(test_across_buffers),
        GUARDED(test_endless_line),
        GUARDED(test_every_kind_of_holder),
        GUARDED(test_no_witness),
        GUARDED(test_number_taken_again),
        GUARDED(test_set_closed_behind_its_back),
        GUARDED(test_fdinfo_closed_behind_its_back),
        GUARDED(test_many),
        GUARDED(test_renewed_under_its_number),
        GUARDED(test_let_go_since),
        GUARDED(test_lost),
        GUARDED(test_another_set_has_the_number),
        GUARDED(test_the_view_is_lost_too),
    };
    struct rlimit files;

    if (getrlimit(RLIMIT_NOFILE, &files) < 0)
        return 1;
    files.rlim_cur = files.rlim_max;
    if (setrlimit(RLIMIT_NOFILE, &files) < 0)
        return 1;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
