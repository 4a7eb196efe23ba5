/* SPDX-License-Identifier: MIT */

#ifndef FIN_IDENTITY_H
#define FIN_IDENTITY_H

#include <finack.h>

/* SO_COOKIE of a socket, 0 for anything else and on kernels that have none. */
uint64_t fin__cookie(int fd);

/* Fills family, ports and addresses of an IP socket; without a peer, the remote ones are 0. */
void fin__addresses(int fd, struct fin_identity *id);

/* Copies them into a receipt. */
void fin__receipt_addresses(struct fin_receipt *receipt, const struct fin_identity *id);

#endif
