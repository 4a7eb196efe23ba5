/* SPDX-License-Identifier: MIT */

/* How each kind of peer behaves at the end of its connection. */

#ifndef TOOL_PEER_KINDS_H
#define TOOL_PEER_KINDS_H

#include "peers/peer_types.h"

struct peer;

/* "notify-then-deaf"; "?" for no such kind. */
const char *peer_kind_name(enum peer_kind kind);

/* True for kinds that exist over TLS only. */
bool peer_needs_tls(enum peer_kind kind);

/* Behaves as its kind does; the caller closes the connection. */
void peer_behave(struct peer *p);

#endif
