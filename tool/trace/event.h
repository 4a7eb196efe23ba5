/* SPDX-License-Identifier: MIT */

/* What happens to a socket. */

#ifndef TOOL_TRACE_EVENT_H
#define TOOL_TRACE_EVENT_H

#include "trace/book.h"

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
    const char *call; /* NULL: that of the thread */
    const struct place *place;
    int other; /* duplicated: from which number; registered, unregistered: the set's; shut:
                  SHUT_* */
    int error; /* connecting, shut, closed: an errno, or 0 */
};

#endif
