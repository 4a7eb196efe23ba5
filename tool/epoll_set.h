/* SPDX-License-Identifier: MIT */

/* The entries of an epoll set that outlive the descriptors they were made with. */

#ifndef TOOL_EPOLL_SET_H
#define TOOL_EPOLL_SET_H

#include "scan.h"

/* Reads the set with number `set` of the process whose folder of descriptors is `fds`, and adds its
 * stale entries for sockets to found->stales, as entries of the set with index found->sets.count.
 * `own`: the sockets of the process, `count` of them, by ascending number.
 *
 * An entry counts as stale if it is in the set both before and after its number was seen to mean
 * something else: a program that works on the set meanwhile makes no false ones. Those that finack
 * itself made to see the end of a socket are left out. Errors: -ENOMEM, -EACCES, -EMFILE; a set that
 * is closed meanwhile is none. */
int epoll_set_read(int fds, int32_t set, const struct reference *own, size_t count,
                   struct scan *found);

/* Drops entries that are stale only in the eyes of a process that has the set by fork alone: of
 * several processes that share one, the eldest counts, since it made the set. Returns 0 or -ENOMEM.
 */
int epoll_sets_settle(struct scan *scan);

#endif
