/* SPDX-License-Identifier: MIT */

/* What the kernel lists, joined with what processes hold. */

#ifndef TOOL_JOIN_H
#define TOOL_JOIN_H

#include "sockets/netns.h"
#include "sockets/snapshot.h"

/* Looks at the namespaces given, and judges every socket. snapshot_free() then, in any case.
 * Returns 0, or EXIT_TROUBLE after one line on stderr. */
int snapshot_take(struct snapshot *snapshot, struct netns_list *spaces);

#endif
