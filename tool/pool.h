/* SPDX-License-Identifier: MIT */

#ifndef TOOL_POOL_H
#define TOOL_POOL_H

#include <stddef.h>

/* Does the `index`th job; a negative result keeps further ones from being started. */
typedef int pool_job(void *arg, size_t index);

/* Runs jobs 0 to count - 1, at most `width` at a time (POOL_WIDTH_MAX at the most), each in a
 * thread; with fewer if the system gives fewer. Returns when all that were started are done. */
#define POOL_WIDTH_MAX 64
void pool_run(size_t count, size_t width, pool_job *job, void *arg);

#endif
