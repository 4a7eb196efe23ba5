/* SPDX-License-Identifier: MIT */

/* The descriptors of the traced processes, and what happens to them. */

#ifndef TOOL_TRACE_DESCRIPTORS_H
#define TOOL_TRACE_DESCRIPTORS_H

#include "trace/trace.h"

/* The socket or epoll set of that number, or NULL; what was not seen being made is looked up. */
struct thing *descriptor_get(struct trace *trace, struct task *task, int fd);

/* A number that a call just returned: of a new socket, or of one that there is. */
struct thing *descriptor_made(struct trace *trace, struct task *task, int fd, enum origin origin);
void descriptor_copied(struct trace *trace, struct task *task, struct thing *thing, int from,
                       int to);

/* The number is about to lose its socket: examines that if this is the last reference. */
void descriptor_look(struct trace *trace, struct task *task, int fd);

/* A close begins: the last reference is examined while it exists, and the number is forgotten:
 * the kernel may give it to another thread before we see the call end. Returns the socket, if it
 * is one. */
struct thing *descriptor_close(struct trace *trace, struct task *task, int fd);
/* ... and has ended; `error`: what the call returned, or 0. */
void descriptor_closed(struct trace *trace, struct task *task, struct thing *socket, int fd,
                       int error);

/* The close failed: if the descriptor still exists, for example because a filter of the program
 * refused the call, it goes back into the table, and that is reported. */
bool descriptor_kept(struct trace *trace, struct task *task, struct thing *socket, int fd,
                     int error);

/* Takes what /proc shows and the table lacks. */
void descriptors_found(struct trace *trace, struct task *task, enum origin origin);
/* The same, and drops what /proc does not show: it was closed or, in a new child, was never
 * there. */
void descriptors_compare(struct trace *trace, struct task *task, enum origin origin);
/* Reports each socket that a new process has from its parent. */
void descriptors_inherited(struct trace *trace, struct task *task);

/* The thread gets a table of its own. */
void descriptors_unshare(struct task *task);

/* The last thread of a table is about to end, and has ended. */
void descriptors_before_exit(struct trace *trace, struct task *task);
void descriptors_exit(struct trace *trace, struct task *task, bool killed);

#endif
