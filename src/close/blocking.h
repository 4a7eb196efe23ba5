/* SPDX-License-Identifier: MIT */

/* The blocking driver, for callers that release the descriptor in their own way. */

#ifndef FIN_BLOCKING_H
#define FIN_BLOCKING_H

#include <finack.h>
#include <stdbool.h>

struct fin__close_options {
    uint64_t requested; /* when the program asked: the time since then counts. 0: now */
    bool input_shut;    /* by us: a read(2) of 0 says nothing about the peer */
    int (*release)(void *arg, int fd, unsigned *facts); /* as that of struct fin__driver */
    /* Called in each wait, every 100 ms: returns whether to abort the close now. NULL: never */
    bool (*cut)(void *arg);
    void *arg;
};

/* fin_close_layered() with options; `layer` may be NULL. */
int fin__close(struct fin_kernel *kernel, int fd, const struct fin_layer *layer,
               const struct fin_policy *policy, const struct fin__close_options *options,
               struct fin_receipt *receipt);

#endif
