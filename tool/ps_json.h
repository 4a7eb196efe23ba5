/* SPDX-License-Identifier: MIT */

#ifndef TOOL_PS_JSON_H
#define TOOL_PS_JSON_H

#include "ps_rows.h"

#include <stdio.h>

/* Prints the rows and what could not be looked at (docs/ps.schema.json): a socket a line, or all of
 * it on one line if `compact`. Returns 0 or -ENOMEM. */
int ps_json_print(FILE *out, const struct look *look, const struct ps_rows *rows, bool compact);

#endif
