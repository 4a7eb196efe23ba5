/* SPDX-License-Identifier: MIT */

/* Gets threads out of their calls on a descriptor that is to be released; if one won't leave by
 * `until`, leaves a tombstone: a copy of a dead descriptor on that number (dead.h). A handle
 * counts the threads inside; the Python extension has no count, and searches /proc for them. */

#ifndef FIN_CLEAR_H
#define FIN_CLEAR_H

#include <stdbool.h>
#include <stdint.h>

struct fin__clear {
    /* Wakes the threads inside that are to be woken. Called once, at the beginning. */
    void (*wake)(void *arg);

    /* Is somebody inside for whom to wait? */
    bool (*awaited)(void *arg);

    /* Returns once a thread may have left, at *until of fin__now() at the latest, which it may
     * put off. May wake again. */
    void (*pause)(void *arg, uint64_t *until);

    /* Nobody leaves from here to unlock(). Returns whether anybody is inside, awaited or not. */
    bool (*lock)(void *arg);
    int (*dead)(
        void *arg); /* what a tombstone is a copy of (fin__dead_take()), or a negative errno */
    void (*unlock)(void *arg, bool tombstone);
};

/* Returns when no thread is awaited any more, or at `until`. */
void fin__clear_out(const struct fin__clear *clear, void *arg, uint64_t until);

/* Clears out, and releases `fd` if no thread is inside; else a tombstone takes its number until
 * the last of them has left. Returns 0 or a negative errno; if no tombstone could be made `fd`
 * stays open. */
int fin__clear_and_release(const struct fin__clear *clear, void *arg, int fd, uint64_t until);

#endif
