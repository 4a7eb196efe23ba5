/* SPDX-License-Identifier: MIT */

/* Prints a trace: events while it runs, receipts and ghosts at its end. */

#ifndef TOOL_TRACE_SINK_H
#define TOOL_TRACE_SINK_H

#include "common/out.h"
#include "trace/event.h"
#include "trace/options.h"

#include <stdio.h>

/* Live text goes to stderr; everything else is collected and written whole at the end. */
struct sink {
    const struct trace_options *options;
    FILE *file;
    struct out out; /* live: behind the file */
    char *text;     /* what was collected */
    size_t size;
    bool live;
    bool some; /* JSON: an event was printed */
};

/* Each returns 0, or EXIT_TROUBLE after one line on stderr. */
int sink_open(struct sink *sink, const struct trace_options *options, pid_t pid);
void sink_event(struct sink *sink, const struct event *event);
void sink_note(struct sink *sink, const char *note);
/* Nothing more will happen for a while. */
void sink_pause(struct sink *sink);

struct trace;
int sink_finish(struct sink *sink, const struct trace *trace);
void sink_discard(struct sink *sink);

#endif
