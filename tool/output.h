/* SPDX-License-Identifier: MIT */

#ifndef TOOL_OUTPUT_H
#define TOOL_OUTPUT_H

#include "options.h"
#include "result.h"

/* Prints the results as a table with `note` below it ("" for none), or as JSON without it, as the
 * options say; on a terminal that can show it, the table has a waterfall below it. Writes the page,
 * if there is to be one. Returns 0, or EXIT_TROUBLE after one line on stderr. */
int output_results(const struct probe_result *results, size_t count, const struct probe_options *o,
                   const char *note);

#endif
