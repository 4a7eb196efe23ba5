/* SPDX-License-Identifier: MIT */

/* A look in Prometheus' text format. */

#ifndef TOOL_METRICS_H
#define TOOL_METRICS_H

#include "export/options.h"
#include "sockets/snapshot.h"

#include <stdio.h>

/* Prints the metrics of a look. Label values are bounded: verdicts, states, o->commands commands
 * (first those with the most sockets that are not fine), and o->ports. Returns 0 or -ENOMEM. */
int metrics_print(FILE *out, const struct snapshot *snapshot, const struct export_options *o);

/* One metric without labels, or with `labels` such as "version=\"1\"" (NULL for none). */
void metrics_print_one(FILE *out, const char *name, const char *type, const char *help,
                       const char *labels, double value);

#endif
