/* SPDX-License-Identifier: MIT */

/* The hands of every driver: what is being closed, and the machine's actions as system calls. */

#ifndef FIN_ENDPOINT_H
#define FIN_ENDPOINT_H

#include "close/machine.h"
#include "kernel/holders.h"
#include "kernel/kernel.h"

struct fin__endpoint {
    int fd;
    uint16_t traits;
    uint16_t facts; /* for fin__machine_start() */
    uint8_t family; /* AF_*, AF_INET for both versions; 0: a pipe */
    uint8_t kind;   /* enum fin__kind, to search for holders by */
    bool plain_tcp; /* TCP_INFO speaks of the whole connection (not so under MPTCP) */
    bool seqpacket;
    bool layer_over;    /* nothing more is read through the layer */
    bool eof_ambiguous; /* read(2) = 0 may come from a shutdown on our side */
    const struct fin_layer *layer;
};

/* Finds out what `fd` is; changes nothing. `layer` may be NULL. `kernel` may be asked for the peer
 * of a Unix socket. Errors as fin_close() and fin_close_layered(). */
int fin__endpoint_examine(struct fin_kernel *kernel, int fd, const struct fin_layer *layer,
                          const struct fin_policy *policy, struct fin__endpoint *ep);

/* 0, or -EINVAL for a layer that is not whole. */
int fin__layer_check(const struct fin_layer *layer);

/* An error queue (MSG_ZEROCOPY, time stamps) that nobody reads keeps EPOLLERR up for ever. */
void fin__endpoint_discard_errors(const struct fin__endpoint *ep);

/* A SO_LINGER of the program's would block close(2) or reset; called once the close is certain. */
void fin__endpoint_take_over(struct fin__endpoint *ep, const struct fin__plan *plan);

/* Carries out FLUSH to RESET of enum fin__action and fills the event, but for its time. Never
 * blocks. */
void fin__endpoint_do(struct fin__endpoint *ep, struct fin_kernel *kernel,
                      const struct fin__machine *m, enum fin__action action, struct fin__event *ev);

#endif
