/* SPDX-License-Identifier: MIT */

/*
 * sock_diag(7): what the kernel says of one socket, also after its last descriptor is closed. It
 * does not prove that nothing refers to it: an open socket in state CLOSE is in no table, or is
 * found as the TIME_WAIT that took its place.
 */

#ifndef FIN_DIAG_H
#define FIN_DIAG_H

#include <finack.h>
#include <stdbool.h>

struct mnl_socket;

struct fin__diag {
    struct mnl_socket *socket; /* NULL: none */
    uint32_t sequence;
};

/* clang-format off */
#define FIN__DIAG_INIT { NULL, 0 }
/* clang-format on */

/* Returns 0 or a negative errno; on failure *diag stays empty. */
int fin__diag_open(struct fin__diag *diag);
void fin__diag_close(struct fin__diag *diag);

/* Looks one socket up. Returns 0 and fills all of *state but `exists`, -ENOENT if there is none,
 * another negative errno if the kernel could not be asked. */
int fin__diag_ask(struct fin__diag *diag, const struct fin_identity *id, struct fin_state *state);

/* 1 if the other end of this connected Unix socket has no descriptor any more, 0 if it has one,
 * negative errno if the kernel does not tell. */
int fin__diag_unix_peer_gone(struct fin__diag *diag, const struct fin_identity *id);

/* 1 if handshakes towards this listening TCP socket are under way, else 0 or a negative errno.
 * SYN cookies (tcp(7)) leave no trace to be found. */
int fin__diag_half_open(struct fin__diag *diag, const struct fin_identity *id);

#endif
