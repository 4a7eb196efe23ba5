/* SPDX-License-Identifier: MIT */

/* Where in the program a thread is. */

#ifndef TOOL_TRACE_STACK_H
#define TOOL_TRACE_STACK_H

#include <sys/types.h>

struct stacks;

/* NULL if memory is out. */
struct stacks *stacks_new(void);
struct stacks *stacks_free(struct stacks *stacks);

/* The stack of a stopped thread, a frame a line, innermost first; NULL if there is none to be had.
 * free(3) it. */
char *stacks_take(struct stacks *stacks, pid_t pid, pid_t tid);

/* The process ended, or runs another program now. `stacks` may be NULL. */
void stacks_forget(struct stacks *stacks, pid_t pid);

#endif
