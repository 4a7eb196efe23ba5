/* SPDX-License-Identifier: MIT */

/* The entries of an epoll set that outlive the descriptors under which they were made. */

#ifndef TOOL_EPOLL_SET_H
#define TOOL_EPOLL_SET_H

#include "sockets/holders.h"

/* Reads the set with number `set` of the process whose folder of descriptors is `fds`, and adds to
 * found->stales what may be stale entries for sockets, as entries of the set with index
 * found->sets.count. `own`: the sockets of the process, `count` of them, by ascending number; those
 * that are in the set are marked as watched. What
 * finack itself put into a set to see the end of a socket is left out. Errors: -ENOMEM, -EACCES,
 * -EMFILE; a set that is closed meanwhile is none. */
int epoll_set_read(int fds, int32_t set, struct reference *own, size_t count, struct scan *found);

/* Keeps the stale entries: those still in the set after their number was seen to be another
 * file. So a program that changes the set meanwhile gives no false ones. Of a set that several
 * processes share by fork the eldest counts, since it made the set. Errors: -ENOMEM, -EMFILE,
 * -ENFILE. */
int epoll_sets_settle(struct scan *scan);

#endif
