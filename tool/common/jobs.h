/* SPDX-License-Identifier: MIT */

/* Jobs that run side by side. */

#ifndef TOOL_JOBS_H
#define TOOL_JOBS_H

#include <stddef.h>

/* Does the `index`th job; after a negative result no further ones are started. */
typedef int job_fn(void *arg, size_t index);

/* Runs jobs 0 to count - 1, at most `width` at a time (JOBS_WIDTH_MAX at the most): in this thread,
 * and in as many others as the system gives. Returns when all that were started are done. May be
 * nested. */
#define JOBS_WIDTH_MAX 64
void jobs_run(size_t count, size_t width, job_fn *job, void *arg);

#endif
