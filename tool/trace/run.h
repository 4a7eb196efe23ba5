/* SPDX-License-Identifier: MIT */

#ifndef TOOL_TRACE_RUN_H
#define TOOL_TRACE_RUN_H

#include "trace/tasks.h"

struct trace_options;

/* The tracer, from taking `pid` over to the last line. Writes a byte to `go` once the command is
 * traced, and the exit status to `result` once there is nothing more to say; returns when nobody
 * needs it any more. */
int trace_run(const struct trace_options *options, struct roster *roster, pid_t pid, int go,
              int result);

#endif
