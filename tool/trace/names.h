/* SPDX-License-Identifier: MIT */

/* The names of things in a trace's text and JSON. */

#ifndef TOOL_TRACE_NAMES_H
#define TOOL_TRACE_NAMES_H

#include "trace/event.h"

const char *event_name(enum event_kind kind);
const char *shut_name(int how);

/* "tcp 127.0.0.1:1 -> 127.0.0.1:2"; the words are those of the JSON. */
void socket_format(const struct thing *socket, char *buf, size_t size);
const char *family_name(int family, char *buf, size_t size);
const char *type_name(int type, char *buf, size_t size);
const char *protocol_name(const struct thing *socket, char *buf, size_t size);

#endif
