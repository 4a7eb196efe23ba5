/* SPDX-License-Identifier: MIT */

#ifndef TOOL_PS_JSON_H
#define TOOL_PS_JSON_H

#include "ps/rows.h"

#include <jansson.h>
#include <stdio.h>

/* Prints the rows, or groups of them, and what could not be looked at (docs/ps.schema.json): a
 * socket a line, or all of it on one line if `compact`. Returns 0 or -ENOMEM. */
int ps_json_print(FILE *out, const struct snapshot *snapshot, const struct ps_rows *rows,
                  enum ps_group by, bool compact);

/* One socket, as it is there; NULL: no memory. */
json_t *ps_json_socket(const struct snapshot *snapshot, const struct socket *s);

#endif
