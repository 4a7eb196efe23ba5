/* SPDX-License-Identifier: MIT */

#ifndef FIN_NETLINK_H
#define FIN_NETLINK_H

struct mnl_socket;

/* A sock_diag(7) socket of its own: replies go by port, so that none may be shared, not over fork
 * either. Returns 0 or a negative errno. */
int fin__netlink_open(struct mnl_socket **ret);

/* NULL is fine. */
void fin__netlink_close(struct mnl_socket *socket);

#endif
