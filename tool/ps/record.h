/* SPDX-License-Identifier: MIT */

/* A look that is kept in a file, and what has changed since. */

#ifndef TOOL_PS_RECORD_H
#define TOOL_PS_RECORD_H

#include "ps/rows.h"

/* Drops the rows that are in the file `path`, with the verdict they have now: what is left came
 * since, or has another verdict; rows->changes tells how many. The file is what --record wrote, or
 * any document of
 * --json. Returns 0, or EXIT_TROUBLE after one line on stderr. */
int ps_record_compare(const char *path, struct ps_rows *rows);

#endif
