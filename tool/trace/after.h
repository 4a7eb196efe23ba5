/* SPDX-License-Identifier: MIT */

/* What happens to a socket once no traced process has it: unreferenced, finished, gone. */

#ifndef TOOL_TRACE_AFTER_H
#define TOOL_TRACE_AFTER_H

#include "trace/trace.h"

/* Adds a socket that is about to lose its last known descriptor to the witness. */
void after_witness(struct trace *trace, struct thing *socket, int borrowed);

/* Its last known descriptor is being closed: trace->fresh until that is looked at. */
void after_release(struct trace *trace, struct thing *socket);

/* Looks for those whose close has happened meanwhile. */
void after_look_fresh(struct trace *trace);

/* Checks all that is not over yet; to be called now and then while trace->pending. */
void after_look(struct trace *trace);

/* Checks until every connection is over, for `ms` at most. */
void after_wait(struct trace *trace, int ms);

#endif
