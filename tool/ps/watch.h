/* SPDX-License-Identifier: MIT */

#ifndef TOOL_PS_WATCH_H
#define TOOL_PS_WATCH_H

#include "ps/options.h"
#include "sockets/netns.h"

/* Looks again and again until SIGINT or SIGTERM comes, or nobody reads any more. Returns the exit
 * status that the last look calls for. */
int ps_watch(const struct ps_options *o, struct netns_list *spaces);

#endif
