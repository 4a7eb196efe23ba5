/* SPDX-License-Identifier: MIT */

#ifndef TOOL_OUTPUT_H
#define TOOL_OUTPUT_H

#include "options.h"
#include "result.h"

/* Prints the results as a table with `note` below it ("" for none), or as JSON without it, as the options say.
 * Returns 0, or EXIT_TROUBLE after one line on stderr. */
int output_results(const struct probe_result *results, size_t count, const struct probe_options *o,
                   const char *note);

#endif
