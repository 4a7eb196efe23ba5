/* SPDX-License-Identifier: MIT */

#ifndef TOOL_HOLDER_H
#define TOOL_HOLDER_H

#include <sys/types.h>

/* Forks a child that does nothing but hold `fd`, and returns once it holds that and nothing else of
 * ours. Closing *ret_end ends it; it ends also when this process does. May be called with other
 * threads around. Errors: those of fork(2) and socketpair(2), -ECHILD if the child died. */
int holder_start(int fd, pid_t *ret_pid, int *ret_end);

/* Ends the child and reaps it. 0 and -1: does nothing. */
void holder_end(pid_t pid, int end);

#endif
