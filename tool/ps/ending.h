/* SPDX-License-Identifier: MIT */

#ifndef TOOL_PS_ENDING_H
#define TOOL_PS_ENDING_H

#include "ps/rows.h"

/* Ends the connections of the rows that are leaked, half-closed or stalled, one after another, once
 * somebody has said yes; a line for each. Returns the exit status. */
int ps_end(const struct snapshot *snapshot, const struct ps_rows *rows, const struct ps_options *o);

#endif
