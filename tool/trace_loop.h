/* SPDX-License-Identifier: MIT */

/* The tracer: the process that ptrace(2) reports to. */

#ifndef TOOL_TRACE_LOOP_H
#define TOOL_TRACE_LOOP_H

#include "trace.h"

/* Takes over a process: 0 or a negative errno. With a filter it stops for that alone. */
int loop_seize(struct trace *trace, pid_t tid);
/* All threads of a process that runs. */
int loop_attach(struct trace *trace, pid_t pid);

enum loop_end {
    LOOP_OVER,     /* nobody is left */
    LOOP_DETACHED, /* as ordered */
    LOOP_ORPHANED, /* the front is dead */
};

enum loop_end loop_run(struct trace *trace);

/* Lets go of all. With a filter that can't be done: keeps them running until the last has ended. */
void loop_let_go(struct trace *trace);
void loop_keep(void);

/* Takes over from a tracer that died: loop_keep() is next. */
void loop_take_over(const struct roster *roster);

#endif
