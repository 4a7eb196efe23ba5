/* SPDX-License-Identifier: MIT */

/* A trace as JSON (docs/trace.schema.json). */

#ifndef TOOL_TRACE_JSON_H
#define TOOL_TRACE_JSON_H

#include "trace/event.h"
#include "trace/trace.h"

#include <jansson.h>
#include <stdio.h>

void json_begin(FILE *out, const struct trace_options *options, pid_t pid);
void json_event(FILE *out, const struct event *event, bool first);
void json_end(FILE *out, const struct trace *trace);

/* The receipt of one socket; NULL if memory is out. */
json_t *json_socket(const struct trace *trace, const struct thing *socket);

#endif
