/* SPDX-License-Identifier: MIT */

/*
 * What may answer each action. It is freer than a kernel; where it is bounded, the bound is a fact
 * about drivers or kernels that the machine may rely on:
 *   - IS_ACKED comes with no outstanding bytes, and never with IS_UNKNOWN;
 *   - a layer answers once (ANSWER) and breaks once (BROKEN); both carry on with the bare socket;
 *   - after END only END follows;
 *   - BROKEN carries an error, as FAILED does;
 *   - IS_GONE comes with IS_FINISHED, and once told both stay told;
 *   - a listening queue holds at most 2 connections;
 *   - READY comes at most twice without time passing: a poller that wakes its caller for nothing,
 *     for ever, is not the machine's doing;
 *   - only sockets are ASKED about, and only for the proofs that need it.
 */

#include "explore.h"

#include <errno.h>

static const int errors[] = { -ECONNRESET, -EPIPE, -ENOTCONN, -ETIMEDOUT,  -EPERM,
                              -EIO,        -EINTR, -EBUSY,    -EOPNOTSUPP };
#define ERRORS (sizeof errors / sizeof errors[0])

struct list {
    const struct node *node;
    struct fin__event *events;
    unsigned count;
    uint64_t now;
};

static struct fin__event *add(struct list *l, enum fin__event_kind kind)
{
    struct fin__event *ev = &l->events[l->count++];

    *ev = (struct fin__event) { .kind = kind, .now = l->now };
    return ev;
}

static void add_facts(struct list *l, enum fin__event_kind kind, unsigned facts)
{
    add(l, kind)->facts = facts;
}

static void add_bytes(struct list *l, enum fin__event_kind kind, uint64_t bytes)
{
    add(l, kind)->bytes = bytes;
}

static void add_again(struct list *l, unsigned interest, uint64_t bytes)
{
    struct fin__event *ev = add(l, FIN__AGAIN);

    ev->interest = interest;
    ev->bytes = bytes;
}

static void add_broken(struct list *l, uint64_t bytes)
{
    struct fin__event *ev = add(l, FIN__BROKEN);

    ev->error = -EPROTO;
    ev->bytes = bytes;
}

static void add_failures(struct list *l, uint64_t bytes)
{
    for (unsigned i = 0; i < ERRORS; i++) {
        struct fin__event *ev = add(l, FIN__FAILED);

        ev->error = errors[i];
        ev->bytes = bytes;
    }
}

static bool seen(const struct list *l, uint32_t what)
{
    return l->node->monitor.seen & what;
}

static bool is(const struct list *l, unsigned trait)
{
    return l->node->monitor.config->traits & trait;
}

static void for_wait(struct list *l)
{
    const struct node *n = l->node;
    uint64_t deadline = n->machine.deadline;
    bool passed = n->now >= deadline;

    for (uint64_t t = n->now; !passed && n->machine.interest && t <= deadline; t++) {
        if (t == n->now && n->monitor.wakes >= 2)
            continue;
        l->now = t;
        add_facts(l, FIN__READY, 0);
        if (n->machine.interest & FIN__WRITE)
            add_facts(l, FIN__READY, FIN__IS_WRITABLE);
    }
    l->now = n->now;
    add(l, FIN__ABORT);
    l->now = passed ? n->now : deadline;
    add(l, FIN__ABORT);
    for (int late = 0; late < 2; late++, l->now++)
        add(l, FIN__DEADLINE);
}

static void for_flush(struct list *l)
{
    add(l, FIN__DONE);
    for (uint64_t left = 0; left < 2; left++) {
        add_again(l, FIN__WRITE, left);
        add_again(l, FIN__READ, left);
        add_broken(l, left);
        add_failures(l, left);
    }
}

static void for_notify(struct list *l)
{
    add(l, FIN__DONE);
    add(l, FIN__SKIP);
    add_again(l, FIN__WRITE, 0);
    add_again(l, FIN__READ, 0);
    add_broken(l, 0);
    add_failures(l, 0);
}

static void for_look(struct list *l)
{
    add_facts(l, FIN__STATE, 0);
    add_facts(l, FIN__STATE, FIN__IS_ACKED);
    add_facts(l, FIN__STATE, FIN__IS_UNKNOWN);
}

static void add_tally(struct list *l, unsigned facts, uint64_t bytes, uint64_t unread)
{
    struct fin__event *ev = add(l, FIN__STATE);

    ev->facts = facts;
    ev->bytes = bytes;
    ev->unread = unread;
}

static void for_tally(struct list *l)
{
    for (uint64_t unread = 0; unread < 2; unread++) {
        for (uint64_t bytes = 0; bytes < 3; bytes++) {
            add_tally(l, 0, bytes, unread);
            add_tally(l, FIN__IS_UNKNOWN, bytes, unread);
        }
        add_tally(l, FIN__IS_ACKED, 0, unread);
    }
}

static void add_ends(struct list *l)
{
    for (unsigned fin = 0; fin < 2; fin++) {
        unsigned facts = fin ? FIN__IS_FIN : 0;

        add_facts(l, FIN__END, facts);
        add_facts(l, FIN__END, facts | FIN__IS_ACKED);
        add_facts(l, FIN__END, facts | FIN__IS_UNKNOWN);
    }
}

static void for_drain(struct list *l)
{
    const struct node *n = l->node;
    bool layer = is(l, FIN__LAYERED) && !seen(l, SEEN_LAYER_GONE);

    add_ends(l);
    if (seen(l, SEEN_END))
        return;
    for (uint64_t bytes = 1; bytes <= n->machine.drain_left; bytes++)
        add_bytes(l, FIN__BYTES, bytes);
    if (!n->machine.drain_left)
        add_bytes(l, FIN__BYTES, 0);
    add_again(l, FIN__READ, 0);
    if (layer)
        add_again(l, FIN__WRITE, 0);
    if (layer && !(n->monitor.stages & 1u << FIN_STAGE_ANSWERED))
        add(l, FIN__ANSWER);
    if (layer)
        add_broken(l, 0);
    add_failures(l, 0);
}

static void for_accept(struct list *l)
{
    add(l, FIN__END);
    add_again(l, FIN__READ, 0);
    if (l->node->monitor.accepted < 2)
        add_bytes(l, FIN__BYTES, 1);
    add_failures(l, 0);
}

static void for_reset(struct list *l)
{
    add_facts(l, FIN__DONE, 0);
    add_facts(l, FIN__DONE, FIN__IS_RESET_ON_CLOSE);
    add_failures(l, 0);
}

static void for_witness(struct list *l)
{
    add_facts(l, FIN__DONE, 0);
    if (is(l, FIN__SOCKET) && l->node->monitor.config->plan.proof >= FIN_STAGE_FINISHED)
        add_facts(l, FIN__DONE, FIN__IS_ASKED);
    add_failures(l, 0);
}

static void for_check(struct list *l)
{
    add(l, FIN__YES);
    add(l, FIN__NO);
    add_failures(l, 0);
}

static void for_inspect(struct list *l)
{
    static const uint64_t waits[] = { 0, 1, 2, 9 };
    unsigned stages = l->node->monitor.stages;
    bool finished = stages & 1u << FIN_STAGE_FINISHED, gone = stages & 1u << FIN_STAGE_GONE;

    for (unsigned i = 0; i < sizeof waits / sizeof waits[0]; i++) {
        if (!finished)
            add(l, FIN__STATE)->wait = waits[i];
        if (!gone) {
            add_facts(l, FIN__STATE, FIN__IS_FINISHED);
            l->events[l->count - 1].wait = waits[i];
        }
    }
    add_facts(l, FIN__STATE, FIN__IS_FINISHED | FIN__IS_GONE);
    add_failures(l, 0);
}

static void for_others(struct list *l)
{
    add(l, FIN__DONE);
    add_failures(l, 0);
}

unsigned environment(const struct node *node, struct fin__event *events)
{
    static void (*const answers[])(struct list *) = {
        [FIN__FLUSH] = for_flush,     [FIN__NOTIFY] = for_notify, [FIN__LOOK] = for_look,
        [FIN__TALLY] = for_tally,     [FIN__DRAIN] = for_drain,   [FIN__ACCEPT] = for_accept,
        [FIN__RESET] = for_reset,     [FIN__WITNESS] = for_witness, [FIN__CHECK] = for_check,
        [FIN__INSPECT] = for_inspect, [FIN__FINISH] = NULL,
    };
    struct list l = { node, events, 0, node->now };

    if (node->action == FIN__WAIT) {
        for_wait(&l);
        return l.count;
    }
    for (int passes = 0; passes < 2; passes++, l.now++) {
        if (answers[node->action])
            answers[node->action](&l);
        else
            for_others(&l);
    }
    return l.count;
}
