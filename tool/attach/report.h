/* SPDX-License-Identifier: MIT */

/* A Python program's answer about its loops, joined with what the kernel lists. */

#ifndef TOOL_ATTACH_REPORT_H
#define TOOL_ATTACH_REPORT_H

#include "sockets/snapshot.h"

#include <jansson.h>
#include <stdio.h>

/* Gives each connection and server the `socket` that `finack ps --json` would show, or null, and
 * the whole the process. Returns how many ghosts there are, or -ENOMEM. */
int report_join(json_t *said, const struct snapshot *snapshot, int32_t pid);

/* For a person: a line for each, ghosts first. */
void report_print(FILE *out, const json_t *said);

#endif
