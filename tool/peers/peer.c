/* SPDX-License-Identifier: MIT */

#include "peers/peer.h"

#include "common/deadline.h"

static void note_stop(struct peer *p)
{
    uint64_t end = deadline_in_ms(atomic_load(&p->grace_ms));

    p->stopped = true;
    if (end < p->deadline)
        p->deadline = end;
}

short peer_wait(struct peer *p, int fd, short events, uint64_t limit)
{
    struct pollfd fds[] = { { .fd = fd, .events = events },
                            { .fd = p->stopped ? -1 : p->stop, .events = POLLIN } };

    if (poll_until(fds, 2, limit < p->deadline ? limit : p->deadline) <= 0)
        return 0;
    if (fds[1].revents)
        note_stop(p);
    return fds[0].revents;
}
