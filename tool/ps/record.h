/* SPDX-License-Identifier: MIT */

/* A list of sockets kept in a file, and what has changed since. */

#ifndef TOOL_PS_RECORD_H
#define TOOL_PS_RECORD_H

#include "ps/rows.h"

/* Drops the rows that are in the file `path` with the verdict they have now: the rows left are
 * new, or have another verdict; rows->changes has the counts. The file is what --record wrote,
 * or any document of --json. Returns 0, or EXIT_TROUBLE after one line on stderr. */
int ps_record_compare(const char *path, struct ps_rows *rows);

#endif
