/* SPDX-License-Identifier: MIT */

/* Closes that are followed after the release: the connection until it is finished or gone, or a
 * holder until it closes. */

#ifndef FIN_FOLLOW_H
#define FIN_FOLLOW_H

#include "close/book.h"
#include "kernel/events.h"

#define FIN__FOLLOW_BUCKETS 256

struct fin__follower;

struct fin__follower_table {
    struct fin__events events;
    /* By cookie; those that wait for an event. */
    struct fin__follower *buckets[FIN__FOLLOW_BUCKETS];
    bool lost; /* events were lost, and not everybody knows yet: read again */
};

/* Any thread: makes op->follow if the policy will need it, also to keep the addresses for the
 * receipt. 0 or -ENOMEM. */
int fin__follower_make(struct fin__op *op, uint64_t id);

/* Before release. Returns IS_CONFIRMED if sock_diag knows the socket. */
unsigned fin__follower_prepare(struct fin__follower_table *table, struct fin__op *op);

/* Something still holds it. Returns IS_ANNOUNCED if an event will tell when that ends. */
unsigned fin__follower_watch(struct fin__follower_table *table, struct fin__op *op);

/* Answers FIN__INSPECT. */
void fin__follower_inspect(struct fin_kernel *kernel, struct fin__op *op, struct fin__event *ev);

/* Takes at most `max` destroy events and calls wake(arg, id, facts) for the closes they are about;
 * if some were lost, for every close that waits for one. */
void fin__follower_read(struct fin__follower_table *table, int max,
                        void (*wake)(void *arg, uint64_t id, unsigned facts), void *arg);

/* Stops following, writes the addresses to the receipt, and frees op->follow. */
void fin__follower_end(struct fin__follower_table *table, struct fin__op *op,
                       struct fin_receipt *receipt);

void fin__follower_close(struct fin__follower_table *table);

#endif
