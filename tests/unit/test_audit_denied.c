/* SPDX-License-Identifier: MIT */

/* An epoll set of which the kernel does not tell everything: what can't be known is no finding. */

#include "support.h"

#include <errno.h>
#include <stdarg.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/syscall.h>
#include <unistd.h>

static bool is_old; /* as before Linux 4.13: an entry is told without its inode */
static int statx_error;

ssize_t __real_pread(int fd, void *buf, size_t size, off_t offset);
ssize_t __real_pread64(int fd, void *buf, size_t size, off_t offset);
ssize_t __wrap_pread(int fd, void *buf, size_t size, off_t offset);
ssize_t __wrap_pread64(int fd, void *buf, size_t size, off_t offset);
long __real_syscall(long number, ...);
long __wrap_syscall(long number, ...);

/* "tfd: 5 events: 19 data: 0  pos:0 ino:6 sdev:8" ends before " pos". */
static ssize_t told(char *text, ssize_t n)
{
    bool is_left_out = false;
    ssize_t kept = 0;

    for (ssize_t i = 0; i < n && is_old; i++) {
        if (text[i] == '\n')
            is_left_out = false;
        else if (n - i >= 4 && !strncmp(text + i, " pos", 4))
            is_left_out = true;
        if (!is_left_out)
            text[kept++] = text[i];
    }
    return is_old && n > 0 ? kept : n;
}

ssize_t __wrap_pread(int fd, void *buf, size_t size, off_t offset)
{
    return told(buf, __real_pread(fd, buf, size, offset));
}

ssize_t __wrap_pread64(int fd, void *buf, size_t size, off_t offset)
{
    return told(buf, __real_pread64(fd, buf, size, offset));
}

long __wrap_syscall(long number, ...)
{
    long value[5];
    va_list list;

    if (number == SYS_statx && statx_error) {
        errno = statx_error;
        return -1;
    }
    va_start(list, number);
    for (int i = 0; i < 5; i++)
        value[i] = va_arg(list, long);
    va_end(list);
    return __real_syscall(number, value[0], value[1], value[2], value[3], value[4]);
}

struct watched {
    int set, fds[2], copy;
};

/* One entry; `gone`: a stale one, of a number that is closed. */
static void watch(struct watched *w, bool gone)
{
    struct epoll_event event = { .events = EPOLLIN };

    w->set = epoll_create1(EPOLL_CLOEXEC);
    unix_pair(SOCK_STREAM, w->fds);
    w->copy = dup(w->fds[US]);
    assert_int_equal(epoll_ctl(w->set, EPOLL_CTL_ADD, w->copy, &event), 0);
    if (gone)
        drop_all(w->copy, -1);
}

static void unwatch(const struct watched *w, bool gone)
{
    drop_all(w->set, w->fds[US], w->fds[THEM], gone ? -1 : w->copy, -1);
}

static int audit(void)
{
    struct fin_stale list[4];

    return fin_epoll_audit(0, list, 4);
}

static void test_of_no_inode(void **state)
{
    struct watched w;

    (void) state;
    for (int gone = 0; gone < 2; gone++) {
        watch(&w, gone);
        assert_int_equal(audit(), gone);
        is_old = true;
        assert_int_equal(audit(), 0);
        is_old = false;
        unwatch(&w, gone);
    }
}

static void test_of_what_may_not_be_looked_at(void **state)
{
    struct watched w;

    (void) state;
    watch(&w, false);
    statx_error = EACCES;
    assert_int_equal(audit(), 0);
    statx_error = ENOENT; /* the number is closed */
    assert_int_equal(audit(), 1);
    statx_error = 0;
    assert_int_equal(audit(), 0);
    unwatch(&w, false);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        GUARDED(test_of_no_inode),
        GUARDED(test_of_what_may_not_be_looked_at),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
