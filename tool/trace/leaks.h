/* SPDX-License-Identifier: MIT */

/* What is open when we let go although its peer has ended. */

#ifndef TOOL_TRACE_LEAKS_H
#define TOOL_TRACE_LEAKS_H

#include "trace/trace.h"

/* Looks at every socket that a traced process has; to be called while they are traced. */
void leaks_look(struct trace *trace);

#endif
