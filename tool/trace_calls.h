/* SPDX-License-Identifier: MIT */

/* The system calls that stop, and what they do to sockets. */

#ifndef TOOL_TRACE_CALLS_H
#define TOOL_TRACE_CALLS_H

#include "trace.h"

#define CALL_VALUES 2

struct call {
    const char *name;
    /* Only with one of these values of an argument under a mask: the filter lets others pass. */
    int argument; /* -1: always */
    uint32_t mask;
    uint32_t values[CALL_VALUES];
    /* The call begins; true: its end is awaited, to be given to leave(). */
    bool (*enter)(struct trace *trace, struct task *task);
    void (*leave)(struct trace *trace, struct task *task, int64_t result);
};

extern const struct call calls[];
extern const size_t call_count;

/* What execve(2) does is seen by its own kind of stop. */
extern const struct call call_exec;

/* The number of a call on this machine, negative if it has none. */
int call_number(const struct call *call);

/* By number, or NULL for one that is none of ours. */
const struct call *call_find(uint64_t number);

/* Do the arguments make it one of ours? */
bool call_matters(const struct call *call, const uint64_t args[6]);

#endif
