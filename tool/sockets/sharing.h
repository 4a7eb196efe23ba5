/* SPDX-License-Identifier: MIT */

/* Sockets that several processes have, or that a process has which did not make them. */

#ifndef TOOL_SHARING_H
#define TOOL_SHARING_H

#include "sockets/snapshot.h"

/* The i-th process that has it, and by which descriptor. */
struct process *socket_holder(const struct snapshot *snapshot, const struct socket *s, size_t i);
const struct reference *socket_reference(const struct snapshot *snapshot, const struct socket *s,
                                         size_t i);

bool is_connection(const struct socket *s);

/* Does a process have both? */
bool shares_process(const struct snapshot *snapshot, const struct socket *a,
                    const struct socket *b);

/* Do several processes have it, of which one runs another program? Processes that were forked and
 * work for one program share on purpose, or have forgotten it: that can't be told apart. */
bool is_held(const struct snapshot *snapshot, const struct socket *s);

/* Several processes of one program have it: see above. */
bool is_shared(const struct snapshot *snapshot, const struct socket *s);

/* Only one process has `s`. Did its ancestor, which has `other` (the socket that listens for it,
 * or its other end), close it and leave this child, which runs another program, with a copy?
 * Returns 1 + the index of the ancestor, or 0. */
uint32_t find_closer(const struct snapshot *snapshot, const struct socket *s,
                     const struct socket *other);

#endif
