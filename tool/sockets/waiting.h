/* SPDX-License-Identifier: MIT */

/* What the threads of a process wait for, from /proc/PID/task/TID/syscall. */

#ifndef TOOL_WAITING_H
#define TOOL_WAITING_H

#include "common/list.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct waiting {
    LIST(int32_t) fds; /* that a thread is inside a call with: accept, read, poll, ... */
    size_t room;       /* for so many */
    bool unknown;      /* a thread could not be looked at, or waits for io_uring */
};

/* How many numbers all processes together may be noted to wait for: 64 MiB. */
#define WAITING_ROOM ((size_t) 16 << 20)

/* waiting_free() then, in any case. `room`: how many may be noted yet, of all processes together.
 * What there was no memory or no room for is unknown. */
void waiting_read(struct waiting *waiting, int32_t pid, size_t room);
void waiting_free(struct waiting *waiting);

bool waiting_has(const struct waiting *waiting, int32_t fd);

#endif
