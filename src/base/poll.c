/* SPDX-License-Identifier: MIT */

#include "base/poll.h"

#include "base/again.h"

#include <stddef.h>

#define PAUSE_MS 10

int fin__events(int fd, short wanted)
{
    struct pollfd entry = { .fd = fd, .events = wanted };
    int tries = 0, result;

    do
        result = poll(&entry, 1, 0);
    while (fin__again(result, &tries));
    return result < 0 ? -errno : entry.revents;
}

int fin__poll(struct pollfd *entries, nfds_t count, int timeout_ms)
{
    int result = poll(entries, count, timeout_ms);

    if (result < 0 && errno != EINTR)
        (void) poll(NULL, 0, timeout_ms < 0 || timeout_ms > PAUSE_MS ? PAUSE_MS : timeout_ms);
    return result;
}
