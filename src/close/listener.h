/* SPDX-License-Identifier: MIT */

#ifndef FIN_LISTENER_H
#define FIN_LISTENER_H

#include "close/machine.h"
#include "kernel/kernel.h"

/* Lets no new connection into the queue; handshakes under way may complete. 0 or negative errno. */
int fin__listener_refuse(int fd, int family);

/* Takes one connection out of the queue and hands it over, or closes it in what is left of the
 * total. Answers with BYTES (one connection), AGAIN (more may come), END (no more can come),
 * FAILED. Never blocks. */
void fin__listener_accept(struct fin_kernel *kernel, int fd, const struct fin__machine *m,
                          struct fin__event *ev);

#endif
