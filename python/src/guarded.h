/* SPDX-License-Identifier: MIT */

/* fin_close() for a descriptor on which other threads may be inside a call. */

#ifndef FIN_PY_GUARDED_H
#define FIN_PY_GUARDED_H

#include "inside.h"

#include <finack.h>
#include <stdbool.h>

/* A dead descriptor on the number of a closed socket, until the threads have left. */
struct fin__tomb {
    int fd;
    struct fin__inside inside;
    void *user; /* the caller's: who else may be inside */
    struct fin__tomb *next;
};

struct fin__guarded_options {
    uint64_t requested;     /* when the program asked, 0: now */
    bool (*cut)(void *arg); /* returns whether to abort the close now; called every 100 ms. NULL:
                               never */
    /* Whether a thread uses the number that is between two calls on it. NULL: none */
    bool (*in_use)(void *arg);
    void *arg;
    bool half_written; /* half a record of a layer, which can't be completed any more */
};

/* Threads that receive are woken, and the rest of the input is lost; threads that send have
 * policy->flush_ms to finish, and if they can't the peer gets RST. If a thread does not leave
 * until policy->total_ms have passed, *tomb is set (fin__tomb_is_left()); else it is NULL.
 * Nobody may begin to use the number meanwhile. Errors: as fin_close(). */
int fin__close_guarded(int fd, const struct fin_policy *policy,
                       const struct fin__guarded_options *guarded, struct fin_receipt *receipt,
                       struct fin__tomb **tomb);

/* Releases a copy of a socket that ends anyway: threads inside a call on it are woken, and have
 * until `deadline` to leave. If one does not, *tomb is set, else it is NULL. Returns 0 or a
 * negative errno: if a tomb is set then, the copy itself still has its number. */
int fin__release_guarded(int fd, uint64_t deadline, const struct fin__guarded_options *options,
                         struct fin__tomb **tomb);

/* Have all threads left their calls? */
bool fin__tomb_is_left(struct fin__tomb *tomb);

/* Releases the number, and frees the tomb. */
void fin__tomb_open(struct fin__tomb *tomb);

#endif
