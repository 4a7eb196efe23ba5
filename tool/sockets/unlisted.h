/* SPDX-License-Identifier: MIT */

/* Sockets that a process has open and that no sock_diag dump lists. */

#ifndef TOOL_UNLISTED_H
#define TOOL_UNLISTED_H

#include "sockets/holders.h"
#include "sockets/netns.h"
#include "sockets/socket.h"

enum unlisted {
    UNLISTED_OTHER, /* gone by now, of another family, or new since the dump: no concern of ours */
    UNLISTED_ELSEWHERE, /* in another network namespace */
    UNLISTED_FRESH,     /* not bound, not connected: never was, or not any more */
    UNLISTED_DEAD,      /* its connection is over */
    UNLISTED_UNKNOWN,   /* TCP, fresh or dead: we may not look closer */
};

/* Finds out what `reference`, a descriptor of `process`, is; fills what it can of *s, for fresh,
 * dead and unknown ones. */
enum unlisted unlisted_identify(const struct reference *reference, struct process *process,
                                const struct netns_list *spaces, struct socket *s);

#endif
