/* SPDX-License-Identifier: MIT */

/* The system calls that stop, and what they do to sockets. */

#ifndef TOOL_TRACE_CALLS_H
#define TOOL_TRACE_CALLS_H

#include "trace/call.h"

#include <stddef.h>

extern const struct call calls[];
extern const size_t call_count;

/* What execve(2) does is seen by its own kind of stop. */
extern const struct call call_exec;

/* Is it a close(2) that has begun? */
bool call_is_close(const struct call *call);

/* The number of a call on this machine, negative if it has none. */
int call_number(const struct call *call);

/* By number, or NULL for one that is none of ours. */
const struct call *call_find(uint64_t number);

/* Do the arguments make it one of ours? */
bool call_matters(const struct call *call, const uint64_t args[6]);

#endif
