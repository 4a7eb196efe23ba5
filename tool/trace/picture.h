/* SPDX-License-Identifier: MIT */

/* The sockets of a trace as pictures: bars from where each was made to its last reference. */

#ifndef TOOL_TRACE_PICTURE_H
#define TOOL_TRACE_PICTURE_H

#include "picture/picture.h"
#include "trace/trace.h"

struct trace_picture {
    struct picture picture; /* usable while the trace is unchanged */
    const struct trace *trace;
    char *title;
    char **receipts; /* a text for each socket */
};

/* Returns 0, or -ENOMEM. */
int trace_picture_make(struct trace_picture *p, const struct trace *trace);

void trace_picture_free(struct trace_picture *p);

#endif
