/* SPDX-License-Identifier: MIT */

/* The front: the process that the user started. It is the parent of the command, as without a
 * trace, and takes the signals; the tracer is another child of it. If the front is killed, the
 * command goes on undisturbed; if the tracer is killed, the front takes its place. */

#ifndef TOOL_TRACE_FRONT_H
#define TOOL_TRACE_FRONT_H

/* SIGPIPE as it was when we were started: the command gets it so. */
extern void (*front_sigpipe)(int);

#endif
