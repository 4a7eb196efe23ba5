/* SPDX-License-Identifier: MIT */

/*
 * What may answer each action. It is freer than a kernel; where it is bounded, the bound is a fact
 * about drivers or kernels that the machine may rely on:
 *   - what is seen of a connection stays so: IS_ACKED, IS_FIN, and with IS_OVER all of it;
 *   - IS_ACKED comes with no outstanding bytes, never with IS_UNKNOWN, and with IS_SHUT;
 *   - it comes only once FIN is out: by us, or by the program where we send none;
 *   - with both FINs acknowledged it is over, and one that is over has nothing to wait for: DRAIN
 *     does not say AGAIN;
 *   - a Unix socket's ends are told by reads; scope descriptor sees its error as IS_OVER;
 *   - a layer answers once (ANSWER) and breaks once (BROKEN); both carry on with the bare socket;
 *   - after END only END follows, and nothing is unread; but where the peer's FIN was not seen, and
 *     our side was shut for reading, more may come;
 *   - a reset that fails does not report what the peer did (no ECONNRESET, EPIPE);
 *   - BROKEN carries an error, as FAILED does;
 *   - IS_GONE comes with IS_FINISHED, and once told both stay told;
 *   - the release may have shut the connection, but under scope descriptor;
 *   - a listening queue holds at most 2 connections;
 *   - READY comes at most once without time passing: a poller that wakes its caller for nothing,
 *     for ever, is not the machine's doing;
 *   - once the total deadline is over, time stands still until release: later is not different;
 *   - only sockets are ASKED about, and only for the proofs that need it.
 */

#include "explore.h"

#include <errno.h>

/* The last 3 are one of each sort: they come after some time, too. The last 5 are what a read says;
 * a layer, which has far more states, reads no others. */
static const int errors[] = { -EPERM, -EINTR,      -EBUSY,    -EOPNOTSUPP, -ETIMEDOUT,
                              -EPIPE, -ECONNRESET, -ENOTCONN, -EIO };
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

static bool may_fail_with(const struct list *l, unsigned error)
{
    bool layered = l->node->monitor.config->traits & FIN__LAYERED;
    bool of_peer = errors[error] == -ECONNRESET || errors[error] == -EPIPE;

    if (l->now != l->node->now && error < ERRORS - 3)
        return false;
    if (l->node->action == FIN__DRAIN && layered && error < ERRORS - 5)
        return false;
    return l->node->action != FIN__RESET || !of_peer;
}

static void add_failures(struct list *l, uint64_t bytes)
{
    for (unsigned i = 0; i < ERRORS; i++) {
        struct fin__event *ev;

        if (!may_fail_with(l, i))
            continue;
        ev = add(l, FIN__FAILED);
        ev->error = errors[i];
        ev->bytes = bytes;
    }
}

static bool seen(const struct list *l, uint64_t what)
{
    return l->node->monitor.seen & what;
}

static bool is(const struct list *l, unsigned trait)
{
    return l->node->monitor.config->traits & trait;
}

static bool is_released(const struct node *node)
{
    return node->monitor.stages & 1u << FIN_STAGE_RELEASED;
}

/* Nothing that is left to happen before release has a later deadline. */
static bool over(const struct node *node)
{
    return !is_released(node)
        && (node->monitor.seen & SEEN_FORCE
            || node->now >= START + node->monitor.config->plan.total);
}

/* After release a wait may be told what the kernel announced meanwhile. */
static void add_wake(struct list *l, enum fin__event_kind kind)
{
    unsigned stages = l->node->monitor.stages;

    if (!is_released(l->node)) {
        add(l, kind);
        return;
    }
    add(l, kind);
    add_facts(l, kind, FIN__IS_FINISHED);
    if (stages & 1u << FIN_STAGE_SHUT && !seen(l, SEEN_ENDED)) {
        add_facts(l, kind, FIN__IS_ACKED);
        add_facts(l, kind, FIN__IS_ACKED | FIN__IS_FINISHED);
    }
}

static void for_wait(struct list *l)
{
    const struct node *n = l->node;
    uint64_t deadline = n->machine.deadline;
    bool passed = n->now >= deadline;
    bool wakes = n->machine.interest || is_released(n);

    for (uint64_t t = n->now; !passed && wakes && t <= deadline; t++) {
        if (t == n->now && n->monitor.wakes >= 1)
            continue;
        l->now = t;
        add_wake(l, FIN__READY);
        if (n->machine.interest & FIN__WRITE)
            add_facts(l, FIN__READY, FIN__IS_WRITABLE);
    }
    for (int last = 0; last < 2; last++) {
        l->now = last && !passed ? deadline : n->now;
        add(l, FIN__ABORT);
        add(l, FIN__FORCE);
    }
    for (int late = 0; late < (over(n) ? 1 : 2); late++, l->now++)
        add_wake(l, FIN__DEADLINE);
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

static void for_measure(struct list *l)
{
    for (uint64_t bytes = 0; bytes < 2; bytes++)
        add_bytes(l, FIN__BYTES, bytes);
}

static void for_notify(struct list *l)
{
    add(l, FIN__DONE);
    add(l, FIN__SKIP);
    add_facts(l, FIN__SKIP, FIN__IS_MUTE);
    add_again(l, FIN__WRITE, 0);
    add_again(l, FIN__READ, 0);
    add_broken(l, 0);
    add_failures(l, 0);
}

/* Can our FIN have been acked? */
static bool fin_is_out(const struct list *l)
{
    const struct fin__plan *plan = &l->node->monitor.config->plan;

    return l->node->monitor.stages & 1u << FIN_STAGE_SHUT || plan->descriptor_only
        || plan->courtesy == FIN_COURTESY_ABORT || seen(l, SEEN_OVER | SEEN_ABORT);
}

#define ACKED (FIN__IS_ACKED | FIN__IS_SHUT)
#define OVER FIN__IS_OVER

/* What can be seen of a connection. A layer, which has far more states, sees the first ones. */
static const unsigned sights[] = {
    0,
    FIN__IS_FIN,
    ACKED,
    OVER,
    OVER | ACKED | FIN__IS_FIN,
    OVER | ACKED | FIN__IS_FIN_UNKNOWN,
    FIN__IS_UNKNOWN,
    FIN__IS_UNKNOWN | FIN__IS_FIN_UNKNOWN,
    OVER | FIN__IS_FIN,
    OVER | ACKED,
    OVER | FIN__IS_UNKNOWN | FIN__IS_FIN,
};
#define SIGHTS (sizeof sights / sizeof sights[0])
#define SIGHTS_LAYERED 6

static unsigned sights_of(const struct list *l)
{
    return is(l, FIN__LAYERED) ? SIGHTS_LAYERED : SIGHTS;
}

/* What is seen stays so, and what was not seen of a connection that is over never will be; but for
 * the peer's FIN behind input that was still to be read. */
static bool goes_with(const struct list *l, unsigned sight)
{
    bool over = seen(l, SEEN_ENDED);

    if (over && !(sight & OVER))
        return false;
    if (seen(l, SEEN_ACKED) || over)
        return !(sight & FIN__IS_ACKED) == !seen(l, SEEN_ACKED)
            && (!over || !(sight & FIN__IS_UNKNOWN) == !seen(l, SEEN_ACK_UNKNOWN));
    return true;
}

/* Of a Unix socket whose peer was gone before: whether that had read everything is not known. */
static unsigned gone(const struct list *l)
{
    return is(l, FIN__ACK_AT_SHUT) ? 0 : FIN__IS_UNKNOWN;
}

static bool may_be_seen(const struct list *l, unsigned sight)
{
    if (is(l, FIN__QUENCHABLE)) /* Unix */
        return sight == gone(l) || (sight == OVER && l->node->monitor.config->plan.descriptor_only);
    if (sight & FIN__IS_ACKED && !fin_is_out(l))
        return false;
    if (seen(l, SEEN_FIN) && !(sight & FIN__IS_FIN))
        return false;
    if (seen(l, SEEN_ENDED) && sight & FIN__IS_FIN && !seen(l, SEEN_FIN | SEEN_FIN_UNKNOWN))
        return false;
    if (seen(l, SEEN_ACKED) && seen(l, SEEN_FIN) && !(sight & OVER))
        return false;
    return goes_with(l, sight);
}

static uint64_t left_of(unsigned sight)
{
    return sight & OVER && !(sight & (FIN__IS_ACKED | FIN__IS_UNKNOWN));
}

/* The connection is over, and the error is still there to be taken. */
static void add_deaths(struct list *l)
{
    static const int deaths[] = { -ECONNRESET, -ETIMEDOUT };

    for (unsigned i = 0; i < (is(l, FIN__LAYERED) ? 1 : 2); i++) {
        struct fin__event *ev;
        unsigned sight = i && fin_is_out(l) ? OVER | ACKED : OVER;

        if (is(l, FIN__QUENCHABLE))
            sight = 0;
        else if (seen(l, SEEN_ENDED) || !may_be_seen(l, sight))
            continue;
        ev = add(l, FIN__FAILED);
        ev->error = deaths[i];
        ev->facts = sight;
        ev->bytes = left_of(sight);
    }
}

static void for_look(struct list *l)
{
    for (unsigned i = 0; i < sights_of(l); i++) {
        if (!may_be_seen(l, sights[i]))
            continue;
        add_facts(l, FIN__STATE, sights[i]);
        l->events[l->count - 1].bytes = left_of(sights[i]);
    }
    add_deaths(l);
}

static void add_tally(struct list *l, unsigned facts, uint64_t bytes, uint64_t unread)
{
    struct fin__event *ev = add(l, FIN__STATE);

    ev->facts = facts;
    ev->bytes = bytes;
    ev->unread = unread;
}

static void add_unsent(struct list *l, uint64_t bytes)
{
    add_tally(l, 0, 0, 0);
    l->events[l->count - 1].unsent = bytes;
}

/* Behind an end that was none of the peer's, too: a Unix socket shut for reading stays empty. */
static bool may_be_unread(const struct list *l)
{
    return !seen(l, SEEN_END) || (!is(l, FIN__QUENCHABLE) && !seen(l, SEEN_FIN | SEEN_ENDED));
}

static void tally_stream(struct list *l)
{
    uint64_t most = is(l, FIN__QUENCHABLE) ? 1 : 3;

    for (unsigned i = 0; i < sights_of(l); i++) {
        if (!may_be_seen(l, sights[i]))
            continue;
        for (uint64_t unread = 0; unread < (may_be_unread(l) ? 2 : 1); unread++) {
            if (sights[i] & (OVER | FIN__IS_ACKED))
                add_tally(l, sights[i], left_of(sights[i]), unread);
            for (uint64_t n = 0; !(sights[i] & (OVER | FIN__IS_ACKED)) && n < most; n++)
                add_tally(l, sights[i], n, unread);
        }
    }
    if (may_be_seen(l, ACKED))
        add_tally(l, ACKED | FIN__IS_RESET_ON_CLOSE, 0, 0);
    if (may_be_seen(l, 0) && !is(l, FIN__QUENCHABLE | FIN__CONNECTING))
        add_tally(l, FIN__IS_RESET_UNSURE, 1, may_be_unread(l));
    if (is(l, FIN__QUENCHABLE) && !seen(l, SEEN_END)) /* is there still a peer to be reset? */
        add_tally(l, gone(l) | FIN__IS_RESET_UNSURE, 0, 1);
}

static void for_tally(struct list *l)
{
    bool descriptor = l->node->monitor.config->plan.descriptor_only;

    if (is(l, FIN__STREAM | FIN__CONNECTING))
        tally_stream(l);
    else
        add_tally(l, 0, 0, 0);
    if (descriptor && is(l, FIN__LAYERED)) {
        add_unsent(l, 1);
        add_unsent(l, UINT64_MAX);
    }
    if (!descriptor)
        add_deaths(l);
}

static void add_ends(struct list *l)
{
    if (is(l, FIN__QUENCHABLE)) {
        add_facts(l, FIN__END, gone(l) | FIN__IS_FIN);
        add_facts(l, FIN__END, gone(l) | FIN__IS_FIN_UNKNOWN);
        return;
    }
    for (unsigned i = 0; i < sights_of(l); i++) {
        if (!may_be_seen(l, sights[i]))
            continue;
        add_facts(l, FIN__END, sights[i]);
        l->events[l->count - 1].bytes = left_of(sights[i]);
    }
    add_deaths(l);
}

static void for_drain(struct list *l)
{
    const struct node *n = l->node;
    bool layer = is(l, FIN__LAYERED) && !seen(l, SEEN_LAYER_GONE | SEEN_MUTE);

    add_ends(l);
    if (seen(l, SEEN_END))
        return;
    for (uint64_t bytes = 1; bytes <= fin__drain_left(&n->machine); bytes++)
        add_bytes(l, FIN__BYTES, bytes);
    if (!fin__drain_left(&n->machine))
        add_bytes(l, FIN__BYTES, 0);
    if (!n->machine.reading_out) {
        add_again(l, FIN__READ, 0);
        if (layer)
            add_again(l, FIN__WRITE, 0);
    }
    if (layer && !(n->monitor.stages & 1u << FIN_STAGE_ANSWERED))
        add(l, FIN__ANSWER);
    if (layer)
        add_broken(l, 0);
    add_failures(l, 0);
}

static void for_abandon(struct list *l)
{
    add_bytes(l, FIN__DONE, 0);
    add_bytes(l, FIN__DONE, 1);
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
    if (!seen(l, SEEN_ACKED)) {
        add_bytes(l, FIN__DONE, 1);
        add_facts(l, FIN__DONE, FIN__IS_RESET_UNSURE);
        l->events[l->count - 1].bytes = 1;
    }
    if (is(l, FIN__LAYERED) && !(l->node->monitor.stages & 1u << FIN_STAGE_FLUSHED)) {
        add(l, FIN__DONE)->unsent = 1;
        add(l, FIN__DONE)->unsent = UINT64_MAX;
    }
    for (unsigned i = 0; !is(l, FIN__QUENCHABLE) && i < sights_of(l); i++) {
        if (!(sights[i] & OVER) || !may_be_seen(l, sights[i]))
            continue;
        add_facts(l, FIN__STATE, sights[i]);
        l->events[l->count - 1].bytes = left_of(sights[i]);
    }
    add_failures(l, 0);
    if (!is(l, FIN__QUENCHABLE))
        add_deaths(l);
}

static void for_witness(struct list *l)
{
    add_facts(l, FIN__DONE, 0);
    if (is(l, FIN__SOCKET) && l->node->monitor.config->plan.proof >= FIN_STAGE_FINISHED)
        add_facts(l, FIN__DONE, FIN__IS_CONFIRMED);
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
    if (!gone && stages & 1u << FIN_STAGE_SHUT && !seen(l, SEEN_ENDED))
        add_facts(l, FIN__STATE, FIN__IS_FINISHED | FIN__IS_ACKED);
    add_failures(l, 0);
}

static void for_release(struct list *l)
{
    add(l, FIN__DONE);
    if (!l->node->monitor.config->plan.descriptor_only)
        add_facts(l, FIN__DONE, FIN__IS_SHUT | FIN__IS_RESET_UNSURE);
    add_facts(l, FIN__DONE, FIN__IS_RESET_UNSURE);
    add_failures(l, 0);
    add_facts(l, FIN__FAILED, FIN__IS_KEPT);
    l->events[l->count - 1].error = -EMFILE;
}

static void for_others(struct list *l)
{
    add(l, FIN__DONE);
    add_failures(l, 0);
}

/* A driver that shares its time among many closes may be asked to end one between two actions:
 * before the first one, and before those that a peer can make go on and on. */
static void for_nobody(struct list *l)
{
    enum fin__action action = l->node->action;
    bool repeats = action == FIN__DRAIN || action == FIN__ACCEPT || action == FIN__FLUSH;

    if (repeats || !seen(l, SEEN_BEGUN))
        add(l, FIN__ABORT);
    if (repeats)
        add(l, FIN__FORCE);
}

unsigned environment(const struct node *node, struct fin__event *events)
{
    static void (*const answers[])(struct list *) = {
        [FIN__FLUSH] = for_flush,     [FIN__NOTIFY] = for_notify,   [FIN__LOOK] = for_look,
        [FIN__TALLY] = for_tally,     [FIN__DRAIN] = for_drain,     [FIN__ACCEPT] = for_accept,
        [FIN__RESET] = for_reset,     [FIN__WITNESS] = for_witness, [FIN__CHECK] = for_check,
        [FIN__INSPECT] = for_inspect, [FIN__ABANDON] = for_abandon, [FIN__RELEASE] = for_release,
        [FIN__MEASURE] = for_measure, [FIN__FINISH] = NULL,
    };
    struct list l = { node, events, 0, node->now };

    if (node->action == FIN__WAIT) {
        for_wait(&l);
        return l.count;
    }
    for_nobody(&l);
    for (unsigned passes = 0; passes < (over(node) ? 1 : 2); passes++, l.now++) {
        if (answers[node->action])
            answers[node->action](&l);
        else
            for_others(&l);
    }
    return l.count;
}
