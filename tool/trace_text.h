/* SPDX-License-Identifier: MIT */

/* A trace as lines for a person. */

#ifndef TOOL_TRACE_TEXT_H
#define TOOL_TRACE_TEXT_H

#include "trace_sink.h"

void text_event(FILE *out, const struct event *event);

/* Receipts and ghosts. */
void text_end(FILE *out, const struct trace *trace);

#endif
