/* SPDX-License-Identifier: MIT */

#ifndef FIN_NETLINK_H
#define FIN_NETLINK_H

#include <libmnl/libmnl.h>
#include <stddef.h>
#include <stdint.h>

/* Opens a sock_diag(7) socket. Replies go to its port, so it must not be shared, not over fork
 * either. Returns 0 or a negative errno. */
int fin__netlink_open(struct mnl_socket **ret);

/* NULL is fine. */
void fin__netlink_close(struct mnl_socket *socket);

/* As mnl_cb_run(), after a look at the lengths: libmnl takes one over INT_MAX for a good one, and
 * reads behind what was received. Returns a value over MNL_CB_STOP while more is to come, or a
 * negative errno; -EPROTO for messages that do not fit into what was received. */
int fin__netlink_run(const void *buf, size_t size, uint32_t sequence, unsigned port, mnl_cb_t take,
                     void *arg);

#endif
