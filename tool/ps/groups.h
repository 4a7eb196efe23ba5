/* SPDX-License-Identifier: MIT */

/* Sockets summed up: by process, command, remote address or container. */

#ifndef TOOL_PS_GROUPS_H
#define TOOL_PS_GROUPS_H

#include "ps/rows.h"

#include <stdio.h>

/* A line for each group, the largest first. Returns 0 or -ENOMEM. */
int ps_groups_print(FILE *out, const struct snapshot *snapshot, const struct ps_rows *rows,
                    enum ps_group by);

/* The same as a JSON array. */
int ps_groups_json(FILE *out, const struct snapshot *snapshot, const struct ps_rows *rows,
                   enum ps_group by);

#endif
