/* SPDX-License-Identifier: MIT */

/* A trace as lines for a person. */

#ifndef TOOL_TRACE_TEXT_H
#define TOOL_TRACE_TEXT_H

#include "trace/event.h"
#include "trace/trace.h"

#include <stdio.h>

void text_event(FILE *out, const struct event *event);

/* Receipts, a picture ("" for none), and ghosts. */
void text_end(FILE *out, const struct trace *trace, const char *picture);

/* Of one socket, with its ghosts. */
void text_receipt(FILE *out, const struct trace *trace, const struct thing *socket);

#endif
