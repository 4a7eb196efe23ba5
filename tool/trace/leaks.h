/* SPDX-License-Identifier: MIT */

/* Sockets that are open when we detach although the peer has ended. */

#ifndef TOOL_TRACE_LEAKS_H
#define TOOL_TRACE_LEAKS_H

#include "trace/trace.h"

/* Examines every socket that a traced process has; to be called while they are traced. */
void leaks_look(struct trace *trace);

#endif
