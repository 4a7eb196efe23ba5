/* SPDX-License-Identifier: MIT */

#include "peers/holder.h"

#include <errno.h>
#include <limits.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

/* A copy of any other descriptor would keep other connections alive. */
static void keep_only(int a, int b)
{
    unsigned low = (unsigned) (a < b ? a : b), high = (unsigned) (a < b ? b : a);

    if (low > 0)
        close_range(0, low - 1, 0);
    if (high > low + 1)
        close_range(low + 1, high - 1, 0);
    close_range(high + 1, UINT_MAX, 0);
}

/* Only async-signal-safe calls: the parent may have threads. */
__attribute__((noreturn)) static void hold(int fd, int end)
{
    char byte = 0;

    keep_only(fd, end);
    if (send(end, &byte, 1, MSG_NOSIGNAL) == 1)
        while (read(end, &byte, 1) < 0 && errno == EINTR)
            ;
    _exit(0);
}

static int await_child(int end)
{
    char byte;
    ssize_t n;

    do
        n = read(end, &byte, 1);
    while (n < 0 && errno == EINTR);
    return n == 1 ? 0 : -ECHILD;
}

int holder_start(int fd, pid_t *ret_pid, int *ret_end)
{
    int ends[2], r;
    pid_t pid;

    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) < 0)
        return -errno;
    pid = fork();
    if (pid == 0)
        hold(fd, ends[1]);
    r = pid < 0 ? -errno : 0;
    close(ends[1]);
    if (r == 0)
        r = await_child(ends[0]);
    if (r < 0) {
        holder_end(pid > 0 ? pid : 0, ends[0]);
        return r;
    }
    *ret_pid = pid;
    *ret_end = ends[0];
    return 0;
}

void holder_end(pid_t pid, int end)
{
    if (end >= 0)
        close(end);
    if (pid <= 0)
        return;
    while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
        ;
}
