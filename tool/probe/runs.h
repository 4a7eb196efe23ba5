/* SPDX-License-Identifier: MIT */

/* The two runs of `finack probe`. Each prints its results and returns the exit status. */

#ifndef TOOL_RUNS_H
#define TOOL_RUNS_H

#include "probe/options.h"
#include "probe/result.h"

int run_embedded(const struct probe_options *o);
int run_remote(const struct probe_options *o);

#endif
