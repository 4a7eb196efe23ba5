/* SPDX-License-Identifier: MIT */

/* One reading of /proc: which processes have which sockets open, and what is in their epoll sets. */

#ifndef TOOL_SCAN_H
#define TOOL_SCAN_H

#include "list.h"
#include "socket.h"

struct scan {
    LIST(struct process) processes; /* those that have a socket or an epoll set */
    LIST(struct reference) references;
    LIST(struct epoll_set) sets;
    LIST(struct stale_entry) stales;
    uint32_t unreadable; /* processes that could not be looked at */
    uint64_t sockfs;     /* the device that all sockets are on */
    bool hidden;         /* /proc does not even show all processes (hidepid) */
};

/* Reads /proc, with a thread for each processor. `thorough`: also processes that are forked meanwhile,
 * and threads that have a descriptor table of their own (unshare(CLONE_FILES)), each as a process;
 * but no epoll sets. A process that ends meanwhile is no error. Errors: -ENOENT (no /proc), -EACCES,
 * -ENOMEM, -EMFILE, -ENFILE. */
int scan_proc(struct scan *scan, bool thorough);

/* Is a process about to end that may have files open still, which its table does not show? */
bool scan_any_dying(void);

void scan_free(struct scan *scan);

#endif
