/* SPDX-License-Identifier: MIT */

#ifndef TOOL_TRACE_FILTER_H
#define TOOL_TRACE_FILTER_H

/* Makes the calls of calls.h stop for a tracer, in this process and all its descendants, for
 * ever: without a tracer they fail with ENOSYS. Returns 0 or a negative errno. */
int filter_load(void);

#endif
