/* SPDX-License-Identifier: MIT */

/* Embedded peers: small servers, each for one connection on a loopback port, that behave as real
 * peers do at the end of a connection, and report afterwards what they saw. */

#ifndef TOOL_PEERS_H
#define TOOL_PEERS_H

#include "peers/peer_kinds.h"

#include <openssl/ssl.h>
#include <sys/socket.h>

struct peer;

/* Starts one on an ephemeral port of the loopback address of `family` (AF_INET or AF_INET6), in a
 * thread of its own. `server`: NULL for TCP; must outlive the peer (credentials.h makes one).
 * Errors: -EINVAL (a kind that needs TLS without it), -EAFNOSUPPORT, -ENOMEM, those of socket(2),
 * bind(2), pthread_create(3). */
int peer_start(enum peer_kind kind, SSL_CTX *server, int family, struct peer **ret);

/* Where it listens. Lives as long as the peer. */
const struct sockaddr *peer_address(const struct peer *peer, socklen_t *ret_size);

/* Asks the peer to finish, waits for it, returns what it saw, and frees it. If its stream is not
 * over yet the peer waits `grace_ms` more; 0: only what has arrived by now counts. */
void peer_finish(struct peer *peer, int grace_ms, struct peer_view *view);

#endif
