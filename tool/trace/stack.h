/* SPDX-License-Identifier: MIT */

/* Where in the program a thread is. */

#ifndef TOOL_TRACE_STACK_H
#define TOOL_TRACE_STACK_H

#include <stdbool.h>
#include <sys/types.h>

struct stacks;

/* `python`: CPython's frames alone, else between those of C. NULL if memory is out. */
struct stacks *stacks_new(bool python);
struct stacks *stacks_free(struct stacks *stacks);

/* The stack of a stopped thread, a frame a line, innermost first; NULL if there is none to be had.
 * free(3) it. */
char *stacks_take(struct stacks *stacks, pid_t pid, pid_t tid);

/* Reading a file of the traced took for ever: there are no stacks any more. */
bool stacks_given_up(const struct stacks *stacks);

/* The process ended, or runs another program now. `stacks` may be NULL. */
void stacks_forget(struct stacks *stacks, pid_t pid);

#endif
