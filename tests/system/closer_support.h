/* SPDX-License-Identifier: MIT */

/* What the tests of the closer share: a close in progress with what its completion was told, and
 * the loop that an application would have. */

#ifndef CLOSER_SUPPORT_H
#define CLOSER_SUPPORT_H

#include "support.h"

/* One close. To be kept until its completion. */
struct one {
    struct fin_receipt receipt;
    unsigned calls; /* of the completion */
    unsigned turn;  /* the how manieth completion of the test it was, from 1 */
    pthread_t thread;
    uint64_t op;
    int fd;
    struct fin_closer *closer;
    void (*then)(struct one *one); /* runs inside the completion */
    struct one *other;             /* for `then` */
};

/* The completion; `arg` is a struct one. */
void completed(const struct fin_receipt *receipt, void *arg);

/* How many completions the test has had; guard_begin() does not set it back, this does. */
unsigned completions(void);
void completions_reset(void);

struct fin_closer *closer_of(uint32_t cap);

/* Submits; it must succeed. `one` may have `then` and `other` set, the rest is overwritten. */
void submit(struct fin_closer *closer, struct one *one, int fd, const struct fin_policy *policy);

/* Sets it up as submit() does, for a call of the test's own. */
void prepare(struct fin_closer *closer, struct one *one, int fd);

/* A turn of an application's loop: waits for the closer's descriptor, then dispatches. Returns the
 * completions that were run. */
int turn(struct fin_closer *closer);

/* Turns until the completion of `one` has run. */
void await(struct fin_closer *closer, const struct one *one);
void await_all(struct fin_closer *closer, const struct one *list, size_t count);

/* submit() and await(): the receipt is sound and the number free. */
struct fin_receipt closed_by(struct fin_closer *closer, int fd, const struct fin_policy *policy);

uint64_t pending(struct fin_closer *closer);

/* Is the closer's descriptor readable? */
bool is_readable(const struct fin_closer *closer);

uint64_t clock_ns(void);

/* A layer that does what the test sets. Results are enum fin_layer_result or -errno. */
struct fake_layer {
    struct fin_layer layer;
    int flush, notify, read;
    int flush_fd;            /* flush writes to it until it is full; -1: writes nothing */
    uint64_t unsent;         /* what flush tells */
    uint64_t reads_left;     /* read gives `read`, and one byte, so often; then WANT_READ */
    uint64_t flushes, reads; /* calls */
};

void fake_layer(struct fake_layer *fake);
void submit_fake(struct fin_closer *closer, struct one *one, int fd, struct fake_layer *fake,
                 const struct fin_policy *policy);

/* Does the kernel deliver destroy events to a socket of this network namespace's programs? Counts
 * the memberships (/proc/net/netlink). */
unsigned memberships(void);

#endif
