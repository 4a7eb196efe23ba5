/* SPDX-License-Identifier: MIT */

#include "close/follow.h"

#include "base/alloc.h"
#include "base/clock.h"
#include "close/proof.h"
#include "close/sight.h"
#include "kernel/identity.h"

#include <errno.h>
#include <linux/tcp.h>
#include <netinet/in.h>
#include <sys/socket.h>

/* For a shorter wait reading the witness is enough. */
#define WORTH_EVENTS (100ull * FIN__NS_PER_MS)

struct fin__follower {
    struct fin_identity id;
    uint64_t op;
    uint64_t acked_at; /* bytes_acked once everything and FIN is; 0: not to be found out */
    struct fin__follower *next;
    bool joined;
};

static bool is_followed(const struct fin__op *op)
{
    const struct fin__plan *plan = op->machine.plan;

    if (plan->proof == FIN_STAGE_RELEASED || !(op->ep.traits & FIN__SOCKET))
        return false;
    return plan->proof != FIN_STAGE_UNREFERENCED
        || (op->ep.plain_tcp && plan->proof_wait > WORTH_EVENTS);
}

int fin__follower_make(struct fin__op *op, uint64_t id)
{
    const struct fin__plan *plan = op->machine.plan;
    bool followed = is_followed(op), addresses = fin__endpoint_wants_addresses(&op->ep, plan);
    struct fin__follower *follower;

    if (!followed && !addresses)
        return 0;
    follower = fin__alloc(sizeof *follower);
    if (!follower)
        return -ENOMEM;
    follower->op = id;
    follower->id.size = sizeof follower->id;
    if (addresses)
        fin__addresses(op->ep.fd, &follower->id);
    if (followed && plan->proof >= FIN_STAGE_FINISHED)
        fin__proof_confirm(NULL, op->ep.fd, &follower->id);
    else if (followed)
        follower->id.cookie = fin__cookie(op->ep.fd);
    op->follow = follower;
    return 0;
}

static struct fin__follower **bucket(struct fin__follower_table *table, uint64_t cookie)
{
    return &table->buckets[cookie % FIN__FOLLOW_BUCKETS];
}

static bool follow_join(struct fin__follower_table *table, struct fin__follower *follower)
{
    struct fin__follower **first = bucket(table, follower->id.cookie);

    if (!follower->id.cookie || fin__events_join(&table->events) < 0)
        return false;
    follower->joined = true;
    follower->next = *first;
    *first = follower;
    return true;
}

static void follow_leave(struct fin__follower_table *table, struct fin__follower *follower)
{
    struct fin__follower **link = bucket(table, follower->id.cookie);

    if (!follower->joined)
        return;
    while (*link != follower)
        link = &(*link)->next;
    *link = follower->next;
    follower->joined = false;
    fin__events_leave(&table->events);
}

/* What bytes_acked will be when the peer has it all. The queue is read between two equal counts,
 * so that both are of the same moment. */
static uint64_t acked_at(int fd)
{
    struct tcp_info before = { 0 }, after = { 0 };
    socklen_t size = sizeof before;

    for (int tries = 0; tries < 3; tries++) {
        int64_t queued;

        if (getsockopt(fd, IPPROTO_TCP, TCP_INFO, &before, &size) < 0
            || (queued = fin__outstanding(fd)) < 0
            || getsockopt(fd, IPPROTO_TCP, TCP_INFO, &after, &size) < 0)
            return 0;
        if (before.tcpi_bytes_acked == after.tcpi_bytes_acked)
            return (uint64_t) after.tcpi_bytes_acked + (uint64_t) queued;
    }
    return 0;
}

unsigned fin__follower_prepare(struct fin__follower_table *table, struct fin__op *op)
{
    struct fin__follower *follower = op->follow;
    const struct fin__machine *m = &op->machine;

    if (!follower || !follower->id.confirmed)
        return 0;
    if (op->ep.plain_tcp && follow_join(table, follower) && fin__reached(m, FIN_STAGE_SHUT)
        && !fin__reached(m, FIN_STAGE_ACKED) && !fin__shuns_fin_wait2(op->ep.fd))
        follower->acked_at = acked_at(op->ep.fd);
    return FIN__IS_CONFIRMED;
}

unsigned fin__follower_watch(struct fin__follower_table *table, struct fin__op *op)
{
    struct fin__follower *follower = op->follow;

    /* While bytes are not acked the socket outlives its last descriptor: no event to rely on. */
    if (!follower || !op->ep.plain_tcp || !fin__reached(&op->machine, FIN_STAGE_ACKED))
        return 0;
    if (follower->joined)
        return FIN__IS_ANNOUNCED;
    /* The holder may have closed before we joined: check once more before relying on the event. */
    (void) follow_join(table, follower);
    return 0;
}

void fin__follower_inspect(struct fin_kernel *kernel, struct fin__op *op, struct fin__event *ev)
{
    struct fin__follower *follower = op->follow;

    fin__proof_inspect(kernel, &follower->id, ev);
    /* Held by others it may finish without being destroyed. */
    if (follower->joined && op->machine.held == FIN_NO && !(ev->facts & FIN__IS_FINISHED))
        ev->facts |= FIN__IS_ANNOUNCED;
}

struct reading {
    struct fin__follower_table *table;
    void (*wake)(void *arg, uint64_t id, unsigned facts);
    void *arg;
};

static void follow_take(const struct fin__destroyed *destroyed, void *arg)
{
    struct reading *reading = arg;
    struct fin__follower *follower = *bucket(reading->table, destroyed->cookie);
    unsigned facts = 0;

    while (follower && follower->id.cookie != destroyed->cookie)
        follower = follower->next;
    if (!follower)
        return;
    if (follower->acked_at && destroyed->counted && destroyed->bytes_acked >= follower->acked_at)
        facts = FIN__IS_ACKED;
    follow_leave(reading->table, follower); /* a socket is destroyed once */
    reading->wake(reading->arg, follower->op, facts);
}

/* Events were lost: all closes check by themselves again. False if some still have to be told. */
static bool give_up_events(struct reading *reading, int max)
{
    for (int i = 0; i < FIN__FOLLOW_BUCKETS; i++) {
        while (max > 0 && reading->table->buckets[i]) {
            struct fin__follower *follower = reading->table->buckets[i];

            follow_leave(reading->table, follower);
            reading->wake(reading->arg, follower->op, 0);
            max--;
        }
    }
    return max > 0;
}

void fin__follower_read(struct fin__follower_table *table, int max,
                        void (*wake)(void *arg, uint64_t id, unsigned facts), void *arg)
{
    struct reading reading = { table, wake, arg };

    if (!table->lost)
        table->lost = fin__events_read(&table->events, max / 2, follow_take, &reading) < 0;
    if (table->lost)
        table->lost = !give_up_events(&reading, max / 2);
}

void fin__follower_end(struct fin__follower_table *table, struct fin__op *op,
                       struct fin_receipt *receipt)
{
    struct fin__follower *follower = op->follow;

    if (!follower)
        return;
    if (op->machine.plan->addresses)
        fin__receipt_addresses(receipt, &follower->id);
    follow_leave(table, follower);
    fin__free(follower);
    op->follow = NULL;
}

void fin__follower_close(struct fin__follower_table *table)
{
    fin__events_close(&table->events);
}
