/* SPDX-License-Identifier: MIT */

/* Our end of a connection to an embedded peer: opened, brought into the state that its kind
 * tests, and closed by finack. */

#ifndef TOOL_CLIENT_H
#define TOOL_CLIENT_H

#include "peers/peers.h"

#include <finack.h>
#include <finack/openssl.h>
#include <stddef.h>
#include <sys/types.h>

/* What each client writes, unless it fills the window. */
#define CLIENT_GREETING 1000

struct client {
    int fd;
    SSL *ssl;                        /* NULL: TCP */
    struct fin_ssl_write unfinished; /* buf NULL: no write was interrupted */
    uint64_t written;                /* bytes that were written whole */
    pid_t holder;                    /* the child that holds `fd` as well, or 0 */
    int holder_end;                  /* closing this ends the child */
};

/* Connects to `peer`; `trust` is the client's side of credentials.h, NULL for TCP.
 * Errors: -errno; nothing is open then. */
int client_open(struct client *c, const struct peer *peer, SSL_CTX *trust);

/* Does what the kind needs before the close: writes a greeting; fills the window of a deaf peer
 * (for TLS a write is left unfinished); waits for what `unread` sent, for the close_notify of
 * `notify-then-deaf`; forks a holder for `held`. Errors: -errno, -ETIMEDOUT. */
int client_prepare(struct client *c, enum peer_kind kind);

/* fin_close() or fin_close_ssl(); after success `fd` is closed. */
int client_close(struct client *c, struct fin_kernel *kernel, const struct fin_policy *policy,
                 struct fin_receipt *receipt);

/* Frees what is left, and ends and reaps the holder; resets the connection if it is open still. */
void client_free(struct client *c);

#endif
