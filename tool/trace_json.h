/* SPDX-License-Identifier: MIT */

/* A trace as JSON (docs/trace.schema.json). */

#ifndef TOOL_TRACE_JSON_H
#define TOOL_TRACE_JSON_H

#include "trace_sink.h"

#include <jansson.h>

void json_begin(struct sink *sink, pid_t pid);
void json_event(struct sink *sink, const struct event *event);
void json_end(struct sink *sink, const struct trace *trace);

/* The receipt of one socket; NULL if memory is out. */
json_t *json_socket(const struct trace *trace, const struct thing *socket);

#endif
