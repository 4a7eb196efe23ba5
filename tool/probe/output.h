/* SPDX-License-Identifier: MIT */

#ifndef TOOL_OUTPUT_H
#define TOOL_OUTPUT_H

#include "probe/options.h"
#include "probe/result.h"

/* Prints the results as a table, or as JSON, as the options say; on a terminal that can show it,
 * with a waterfall below the table. `legend` explains the table, `note` comes last ("" for none);
 * neither comes with JSON. Writes the page, if there is to be one. Returns 0, or EXIT_TROUBLE after
 * one line on stderr. */
int output_results(const struct probe_result *results, size_t count, const struct probe_options *o,
                   const char *legend, const char *note);

#endif
