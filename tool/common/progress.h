/* SPDX-License-Identifier: MIT */

/* The progress of long work: one line on stderr, only if that is a terminal, removed at the end. */

#ifndef TOOL_PROGRESS_H
#define TOOL_PROGRESS_H

#include <stddef.h>

/* Shows "`done` of `total` `what`" from the second second on. One at a time; `what` is kept. */
void progress_begin(size_t total, const char *what);

/* One more is done. Any thread; nothing before begin or after end. */
void progress_step(void);

/* Removes the line. */
void progress_end(void);

#endif
