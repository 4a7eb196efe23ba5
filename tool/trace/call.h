/* SPDX-License-Identifier: MIT */

/* What is known of a system call that stops. */

#ifndef TOOL_TRACE_CALL_H
#define TOOL_TRACE_CALL_H

#include <stdbool.h>
#include <stdint.h>

struct task;
struct trace;

#define CALL_VALUES 2

struct call {
    const char *name;
    /* Only calls whose argument, masked, has one of these values stop: the filter lets others
     * pass. */
    int argument; /* -1: always */
    uint32_t mask;
    uint32_t values[CALL_VALUES];
    /* The call begins; true: its end is wanted too, for leave(). */
    bool (*enter)(struct trace *trace, struct task *task);
    void (*leave)(struct trace *trace, struct task *task, int64_t result);
};

#endif
