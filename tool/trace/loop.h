/* SPDX-License-Identifier: MIT */

/* The tracer: the process that ptrace(2) reports to. */

#ifndef TOOL_TRACE_LOOP_H
#define TOOL_TRACE_LOOP_H

#include "trace/trace.h"

enum loop_end {
    LOOP_OVER,     /* nobody is left */
    LOOP_DETACHED, /* as ordered */
    LOOP_ORPHANED, /* the front is dead */
};

enum loop_end loop_run(struct trace *trace);

#endif
