/* SPDX-License-Identifier: MIT */

/* What the threads of a process wait for, as /proc/PID/task/TID/syscall has it. */

#ifndef TOOL_WAITING_H
#define TOOL_WAITING_H

#include "common/list.h"

#include <stdbool.h>
#include <stdint.h>

struct waiting {
    LIST(int32_t) fds; /* that a thread is inside a call with: accept, read, poll, ... */
    bool unknown;      /* a thread could not be looked at, or waits for io_uring */
};

/* waiting_free() then, in any case. What memory was missing for is unknown. */
void waiting_read(struct waiting *waiting, int32_t pid);
void waiting_free(struct waiting *waiting);

bool waiting_has(const struct waiting *waiting, int32_t fd);

#endif
