/* SPDX-License-Identifier: MIT */

#include "common/deadline.h"

#include <errno.h>
#include <limits.h>

uint64_t deadline_in_ms(int64_t ms)
{
    return fin__now() + (uint64_t) ms * FIN__NS_PER_MS;
}

int deadline_left_ms(uint64_t deadline)
{
    uint64_t now = fin__now();
    uint64_t ms = deadline > now ? (deadline - now + FIN__NS_PER_MS - 1) / FIN__NS_PER_MS : 0;

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
