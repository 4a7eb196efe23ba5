/* SPDX-License-Identifier: MIT */

/* Carries out what the machine asks for: one switch for all drivers. A driver only waits; these
 * hooks take the descriptor out of its poller, release it, and prove that. */

#ifndef FIN_RUN_H
#define FIN_RUN_H

#include "close/endpoint.h"

struct fin__driver {
    /* Takes the descriptor out of the driver's poller. */
    void (*unwatch)(void *self);

    /* Answers FIN__WITNESS, FIN__CHECK and FIN__INSPECT; see proof.h for the usual ones. */
    void (*prepare_proof)(void *self, struct fin__event *ev);
    void (*check)(void *self, struct fin__event *ev);
    void (*inspect)(void *self, struct fin__event *ev);

    /* Closes the descriptor: 0 or a negative errno, and the facts of FIN__RELEASE. It is closed
     * in any case but FIN__IS_KEPT. NULL: fin__release(). */
    int (*release)(void *self, int fd, unsigned *facts);
};

/* Carries out `action`, any but WAIT and FINISH, and fills the event except for its time. Never
 * blocks. After FIN__RELEASE ep->fd is -1: an event that was fetched before must not touch the
 * number. */
void fin__run(const struct fin__driver *driver, void *self, struct fin_kernel *kernel,
              struct fin__endpoint *ep, const struct fin__machine *m, enum fin__action action,
              struct fin__event *ev);

#endif
