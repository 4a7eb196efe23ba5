/* SPDX-License-Identifier: MIT */

/* Reads /proc once: which processes have which sockets open, and what is in their epoll sets. */

#ifndef TOOL_SCAN_H
#define TOOL_SCAN_H

#include "sockets/holders.h"

#include <stdbool.h>

/* Reads /proc, with a thread for each processor. `thorough`: also processes that are forked
 * meanwhile, and threads that have a descriptor table of their own (unshare(CLONE_FILES)), each as
 * a process; but no epoll sets. A process that ends meanwhile is no error. Errors: -ENOENT (no
 * /proc), -EACCES, -ENOMEM, -EMFILE, -ENFILE. */
int scan_proc(struct scan *scan, bool thorough);

/* Is a process about to end that may have files open still, which its table does not show? */
bool scan_any_dying(void);

#endif
