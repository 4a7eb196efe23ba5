/* SPDX-License-Identifier: MIT */

/* What a trace prints: events while it runs, receipts and ghosts at its end. */

#ifndef TOOL_TRACE_SINK_H
#define TOOL_TRACE_SINK_H

#include "trace_book.h"
#include "trace_options.h"

#include <stdio.h>

enum event_kind {
    EVENT_MADE,
    EVENT_CONNECTING,
    EVENT_CONNECTED,
    EVENT_ACCEPTED,
    EVENT_LISTENING,
    EVENT_REGISTERED,
    EVENT_UNREGISTERED,
    EVENT_SHUT,
    EVENT_CLOSED,
    EVENT_DUPLICATED,
    EVENT_INHERITED,
    EVENT_RECEIVED,
    EVENT_FOUND,
    EVENT_UNREFERENCED,
    EVENT_FINISHED,
    EVENT_GONE,
};

struct event {
    enum event_kind kind;
    const struct thing *socket;
    const struct place *place;
    int other; /* duplicated: from which number; registered, unregistered: the set's; shut: SHUT_* */
    int error; /* connecting, shut: an errno, or 0 */
};

/* Text that is live goes to stderr; everything else is collected and put out whole at the end. */
struct sink {
    const struct trace_options *options;
    FILE *file;
    char *text; /* what was collected */
    size_t size;
    bool live;
    bool some; /* JSON: an event was printed */
    int error; /* live: the first that a write gave, a negative errno */
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

const char *event_name(enum event_kind kind);
const char *shut_name(int how);

/* "tcp 127.0.0.1:1 -> 127.0.0.1:2"; the words are those of the JSON. */
void socket_format(const struct thing *socket, char *buf, size_t size);
const char *family_name(int family, char *buf, size_t size);
const char *type_name(int type, char *buf, size_t size);
const char *protocol_name(const struct thing *socket, char *buf, size_t size);

#endif
