/* SPDX-License-Identifier: MIT */

/* An epoll set with very many stale entries, as a program that leaks them has: what looking at it
 * costs grows with their number, and not with its square. */

#include "kernel/epoll_audit.h"
#include "support.h"

#include <fcntl.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <time.h>
#include <unistd.h>

#define ENTRIES 500
#define MANY 300000
#define SECONDS 5

static unsigned links; /* read by the library */

ssize_t __real_readlinkat(int folder, const char *path, char *text, size_t size);
ssize_t __wrap_readlinkat(int folder, const char *path, char *text, size_t size);

ssize_t __wrap_readlinkat(int folder, const char *path, char *text, size_t size)
{
    links++;
    return __real_readlinkat(folder, path, text, size);
}

static double processor_time(void)
{
    struct timespec t;

    assert_int_equal(clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t), 0);
    return (double) t.tv_sec + (double) t.tv_nsec / 1e9;
}

/* Entries of different numbers, the numbers of a few that come again and again. */
static void test_offsets(void **state)
{
    struct fin__entry *entry = calloc(MANY, sizeof *entry);
    uint32_t *offset = calloc(MANY, sizeof *offset);
    double begun;

    (void) state;
    busy();
    assert_non_null(entry);
    assert_non_null(offset);
    for (int i = 0; i < MANY; i++)
        entry[i].fd = i % 3 ? i : i % 2;
    begun = processor_time();
    assert_int_equal(fin__offsets(entry, MANY, offset), 0);
    assert_true(processor_time() - begun < SECONDS);
    for (uint32_t i = 0; i < MANY; i++)
        assert_int_equal(offset[i], i % 3 ? 0 : i / 6 + i % 2);
    free(entry);
    free(offset);
}

/* Each descriptor of the process is looked at once for all entries. */
static void test_holders(void **state)
{
    static struct fin_stale list[ENTRIES];
    struct epoll_event event = { .events = EPOLLIN };
    int set = epoll_create1(EPOLL_CLOEXEC), fds[2];

    (void) state;
    unix_pair(SOCK_STREAM, fds);
    for (int i = 0, number = 0; i < ENTRIES; i++) {
        number = fcntl(fds[US], F_DUPFD_CLOEXEC, number + 1);
        assert_int_equal(epoll_ctl(set, EPOLL_CTL_ADD, number, &event), 0);
        assert_int_equal(close(number), 0);
    }
    links = 0;
    assert_int_equal(fin_epoll_audit(0, list, ENTRIES), ENTRIES);
    assert_true(links < ENTRIES);
    for (int i = 0; i < ENTRIES; i++)
        assert_int_equal(list[i].holder_fd, fds[US]);
    drop_all(set, fds[US], fds[THEM], -1);
}

int main(void)
{
    const struct CMUnitTest tests[] = { GUARDED(test_offsets), GUARDED(test_holders) };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
