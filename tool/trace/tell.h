/* SPDX-License-Identifier: MIT */

/* What happened is put down, with where and when. */

#ifndef TOOL_TRACE_TELL_H
#define TOOL_TRACE_TELL_H

#include "trace/event.h"
#include "trace/trace.h"

/* Nanoseconds since the trace began. */
uint64_t trace_now(const struct trace *trace);

/* Makes *ns that, if it is NEVER still. */
void trace_stamp(const struct trace *trace, uint64_t *ns);

/* Remembers a sentence about what can't be seen, once, and prints it if the trace is live. */
__attribute__((format(printf, 2, 3))) void trace_note(struct trace *trace, const char *format, ...);

/* Records what a thread, or the kernel (task NULL), did with a socket; fills event.place. `keep`
 * (may be NULL) becomes the place. */
void trace_tell(struct trace *trace, struct task *task, struct event event, int fd,
                struct place *keep);

#endif
