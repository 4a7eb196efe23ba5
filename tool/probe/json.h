/* SPDX-License-Identifier: MIT */

#ifndef TOOL_JSON_H
#define TOOL_JSON_H

#include "probe/result.h"

/* The results that were closed as a JSON array (docs/probe.schema.json), with a newline at its end.
 * NULL if memory is out; free(3) it. */
char *json_format(const struct probe_result *results, size_t count);

#endif
