/* SPDX-License-Identifier: MIT */

/* Getting threads out of their calls on a number that is to be released, or leaving a tombstone on
 * it: one way for all that close what others use. A handle counts who is inside; CPython keeps no
 * count, so that its extension looks the threads up. */

#ifndef FIN_CLEAR_H
#define FIN_CLEAR_H

#include <stdbool.h>
#include <stdint.h>

struct fin__clear {
    /* Ends the calls of those inside that are to be woken. Asked once, before the first look. */
    void (*wake)(void *arg);

    /* Is somebody inside for whom to wait? */
    bool (*awaited)(void *arg);

    /* Returns once somebody may have left, at *until of fin__now() at the latest, which it may put
     * forward. May wake again. */
    void (*pause)(void *arg, uint64_t *until);

    /* Nobody leaves from here to unlock(). Returns whether anybody is inside, awaited or not. */
    bool (*lock)(void *arg);
    int (*dead)(
        void *arg); /* what a tombstone is a copy of (fin__dead_take()), or a negative errno */
    void (*unlock)(void *arg, bool tombstone);
};

/* Returns when nobody is awaited any more, or at `until`. */
void fin__clear_out(const struct fin__clear *clear, void *arg, uint64_t until);

/* Clears out, and releases `fd` if nobody is inside: else a tombstone takes its number, until the
 * last of them has left. Returns 0 or a negative errno; without a tombstone to be had `fd`
 * stays. */
int fin__clear_and_release(const struct fin__clear *clear, void *arg, int fd, uint64_t until);

#endif
