/* SPDX-License-Identifier: MIT */

#ifndef TOOL_BESIDE_H
#define TOOL_BESIDE_H

#include <stddef.h>

/* Runs job(arg, 0) to job(arg, count - 1) side by side, each but the first in a thread of its own;
 * those for which there is none one after another. Returns when all are done. May be nested. */
#define BESIDE_MAX 16
void beside_run(size_t count, void (*job)(void *arg, size_t index), void *arg);

#endif
