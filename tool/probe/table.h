/* SPDX-License-Identifier: MIT */

#ifndef TOOL_TABLE_H
#define TOOL_TABLE_H

#include "probe/result.h"

#include <stdio.h>

/* Prints a header, and a row for each result that was closed. Stages behind `proof` have a column
 * only if one was reached. */
void table_print(FILE *out, const struct probe_result *results, size_t count, int proof);

/* How many columns of a terminal that takes. */
int table_width(const struct probe_result *results, size_t count, int proof);

/* What the peer saw, such as "notify EOF". */
void format_view(const struct peer_view *view, char *buf, size_t size);

#endif
