/* SPDX-License-Identifier: MIT */

/* Taking processes over, and letting go of them. */

#ifndef TOOL_TRACE_ATTACH_H
#define TOOL_TRACE_ATTACH_H

#include "trace/trace.h"

/* Takes over the command: 0 or a negative errno. With its filter only filtered calls stop it. */
int attach_command(struct trace *trace, pid_t tid);
/* All threads of a process that runs. */
int attach_process(struct trace *trace, pid_t pid);

/* Detaches from all. With a filter that is impossible: use attach_keep() then. */
void attach_let_go(struct trace *trace);
/* Keeps the traced running until the last has ended. */
void attach_keep(void);

/* Takes over from a tracer that died: attach_keep() is next. */
void attach_take_over(const struct roster *roster);

#endif
