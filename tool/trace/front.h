/* SPDX-License-Identifier: MIT */

/* The front: the process that the user started. It is the parent of the command, as if there were
 * no trace, and takes the signals; the tracer is another child of it. So the command goes on
 * undisturbed when the front is killed, and when the tracer is, the front takes its place. */

#ifndef TOOL_TRACE_FRONT_H
#define TOOL_TRACE_FRONT_H

#include "trace/options.h"

/* Returns the exit status. */
int front_run(const struct trace_options *options);

/* SIGPIPE as it was when we were started: the command gets it so. */
extern void (*front_sigpipe)(int);

#endif
