/* SPDX-License-Identifier: MIT */

/* The socket that is being closed, and the machine's actions as system calls: for all drivers. */

#ifndef FIN_ENDPOINT_H
#define FIN_ENDPOINT_H

#include "close/machine.h"
#include "close/subject.h"
#include "kernel/holders.h"
#include "kernel/kernel.h"

/* Finds out what `fd` is; changes nothing. `layer` may be NULL. `kernel` may be asked for the peer
 * of a Unix socket. Errors as fin_close() and fin_close_layered(). */
int fin__endpoint_examine(struct fin_kernel *kernel, int fd, const struct fin_layer *layer,
                          struct fin__endpoint *ep);

/* What the caller has done with a TCP (not MPTCP) socket that it made itself. */
struct fin__past {
    bool accepted; /* it comes from a listening socket */
    bool open;     /* it has connected, and no end of it was seen or made */
    bool ended;    /* read(2) gave 0 */
    uint64_t read; /* bytes before */
};

/* The same for such a socket, with fewer system calls. */
int fin__endpoint_examine_tcp(int fd, const struct fin__past *past, struct fin__endpoint *ep);

/* How many connections wait to be accepted by a listening TCP socket; -1: not to be known. */
int fin__endpoint_queued(int fd);

/* What an accepted socket has from its listening one: the protocol, for good, and SO_LINGER. */
bool fin__endpoint_is_plain_tcp(int fd);
bool fin__endpoint_has_linger(int fd);

/* 0, or -EINVAL for a layer that is not whole. */
int fin__layer_check(const struct fin_layer *layer);

/* An error queue (MSG_ZEROCOPY, time stamps) that nobody reads keeps EPOLLERR up for ever. Takes a
 * bounded part of it; what is left comes with the next event. */
void fin__endpoint_discard_errors(const struct fin__endpoint *ep);

/* What a receipt says was closed. */
enum fin_kind fin__endpoint_kind(const struct fin__endpoint *ep);

/* Has it addresses, and does the plan ask for them? */
bool fin__endpoint_wants_addresses(const struct fin__endpoint *ep, const struct fin__plan *plan);

/* Clears a SO_LINGER of the program, which would block close(2) or reset; called once the close
 * is certain. */
void fin__endpoint_take_over(struct fin__endpoint *ep, const struct fin__plan *plan);

/* Carries out FLUSH to RESET of enum fin__action and fills the event except for its time. Never
 * blocks. */
void fin__endpoint_do(struct fin__endpoint *ep, struct fin_kernel *kernel,
                      const struct fin__machine *m, enum fin__action action, struct fin__event *ev);

#endif
