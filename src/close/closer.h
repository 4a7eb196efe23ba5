/* SPDX-License-Identifier: MIT */

/* The closer in two halves: bookkeeping that knows no kernel (closer.c), and a backend that does
 * (closer_linux.c; the tests and benchmarks have a simulated one). */

#ifndef FIN_CLOSER_H
#define FIN_CLOSER_H

#include "close/book.h"

/* Something happened to the socket of the close `id`. */
struct fin__edge {
    uint64_t id;
    unsigned facts; /* enum fin__fact */
    bool input;     /* more than room to send */
};

struct fin__backend {
    uint64_t (*now)(void *self);

    /* Any thread: reserves for `op` all that its close needs: a registration that reports edges
     * under `id`, and what following it takes. Returns 0 or a negative errno. */
    int (*reserve)(void *self, struct fin__op *op, uint64_t id);

    /* Any thread: poll() is to report `woken`. */
    void (*wake)(void *self);

    /* The rest belongs to the dispatching thread. */

    /* `op` waits for op->machine.interest. A wait for room to send must also report room that is
     * there already: a layer may have stopped writing before the socket was full. */
    void (*watch)(void *self, struct fin__op *op, uint64_t id);

    /* Takes at most `max` edges, without blocking. Returns how many, or a negative errno: no
     * edge will come any more, so that nothing can be waited for. */
    int (*poll)(void *self, struct fin__edge *edges, int max);

    /* Carries out any action but WAIT, CHECK and FINISH. */
    void (*act)(void *self, struct fin__op *op, enum fin__action action, struct fin__event *ev);

    /* Reads once which closes are still held: calls visit(id, inode, arg) for each released close
     * that is.
     * Returns 0 or a negative errno: unverifiable. */
    int (*check)(void *self, void (*visit)(uint64_t id, uint64_t inode, void *arg), void *arg);

    /* The facts to give the machine with CHECK's answer YES (IS_ANNOUNCED), or 0. */
    unsigned (*follow)(void *self, struct fin__op *op);

    /* The close has ended: fills what the machine does not know, frees what reserve made. Without a
     * receipt: in a forked child, only the memory. */
    void (*forget)(void *self, struct fin__op *op, struct fin_receipt *receipt);

    /* Be woken at `deadline`; UINT64_MAX: never. */
    void (*arm)(void *self, uint64_t deadline);

    void (*wait)(void *self, int timeout_ms);
    void (*free)(void *self, bool forked);
};

/* Takes the backend over, also on failure. */
int fin__closer_make(const struct fin__backend *backend, void *self,
                     const struct fin_closer_options *options, struct fin_closer **ret);

/* Submits a descriptor that has been examined. */
int fin__closer_submit(struct fin_closer *closer, const struct fin__endpoint *ep,
                       const struct fin_policy *policy, fin_closed_fn closed, void *arg,
                       uint64_t *id);

/* 0, -EINVAL for NULL, -ECHILD in a forked child. */
int fin__closer_check(const struct fin_closer *closer);
void *fin__closer_backend(const struct fin_closer *closer);

#endif
