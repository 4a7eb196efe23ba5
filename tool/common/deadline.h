/* SPDX-License-Identifier: MIT */

/* Absolute deadlines, by fin__now(). */

#ifndef TOOL_DEADLINE_H
#define TOOL_DEADLINE_H

#include "base/clock.h"

#include <poll.h>
#include <stdint.h>

uint64_t deadline_in_ms(int64_t ms);

/* For poll(2): what is left, rounded up, 0 when it has passed. */
int deadline_left_ms(uint64_t deadline);

/* poll(2) until one is ready (1) or the deadline has passed (0); signals change nothing.
 * Errors: those of poll(2). */
int poll_until(struct pollfd *fds, nfds_t count, uint64_t deadline);

#endif
