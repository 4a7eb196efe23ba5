/* SPDX-License-Identifier: MIT */

#include "common/deadline.h"

#include <errno.h>
#include <limits.h>
#include <time.h>

uint64_t now_ns(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t) t.tv_sec * 1000000000u + (uint64_t) t.tv_nsec;
}

uint64_t deadline_in_ms(int64_t ms)
{
    return now_ns() + (uint64_t) ms * 1000000u;
}

int deadline_left_ms(uint64_t deadline)
{
    uint64_t now = now_ns();
    uint64_t ms = deadline > now ? (deadline - now + 999999u) / 1000000u : 0;

    return ms > INT_MAX ? INT_MAX : (int) ms;
}

int poll_until(struct pollfd *fds, nfds_t count, uint64_t deadline)
{
    int n;

    do
        n = poll(fds, count, deadline_left_ms(deadline));
    while (n < 0 && errno == EINTR);
    if (n < 0)
        return -errno;
    return n > 0;
}
