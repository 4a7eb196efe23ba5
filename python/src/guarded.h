/* SPDX-License-Identifier: MIT */

/* fin_close() for a number that other threads may be inside a call on. */

#ifndef FIN_PY_GUARDED_H
#define FIN_PY_GUARDED_H

#include "inside.h"

#include <finack.h>
#include <stdbool.h>

/* A dead descriptor on the number of a socket that is gone, until the threads have left. */
struct fin__tomb {
    int fd;
    struct fin__inside inside;
    void *user; /* the caller's: who else may be inside */
    struct fin__tomb *next;
};

struct fin__guarded_options {
    uint64_t requested;     /* when the program asked, 0: now */
    bool (*cut)(void *arg); /* whether to abort the close now; asked every 100 ms. NULL: never */
    /* Whether somebody uses the number who is in no call on it between two. NULL: nobody */
    bool (*in_use)(void *arg);
    void *arg;
    bool half_written; /* a record of a layer's, which nobody can complete any more */
};

/* Those who receive are woken, which forfeits the rest of the input; those who send have
 * policy->flush_ms for it, and the peer gets RST if they could not. If a thread does not leave
 * until policy->total_ms have passed, *tomb is set (fin__tomb_is_left()); else it is NULL. Nobody
 * may begin to use the number meanwhile. Errors: as fin_close(). */
int fin__close_guarded(int fd, const struct fin_policy *policy,
                       const struct fin__guarded_options *guarded, struct fin_receipt *receipt,
                       struct fin__tomb **tomb);

/* Releases a copy of a socket that ends anyway: who is inside a call on it is woken, and has until
 * `deadline`. Then *tomb is set, else NULL. Returns 0 or a negative errno: with a tomb it is the
 * copy itself that has its number yet. */
int fin__release_guarded(int fd, uint64_t deadline, const struct fin__guarded_options *options,
                         struct fin__tomb **tomb);

/* Have all threads left their calls? */
bool fin__tomb_is_left(struct fin__tomb *tomb);

/* Releases the number, and frees the tomb. */
void fin__tomb_open(struct fin__tomb *tomb);

#endif
