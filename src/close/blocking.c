/* SPDX-License-Identifier: MIT */

/* The blocking driver: one close, from the calling thread. */

#include "close/blocking.h"

#include "base/cancel.h"
#include "base/clock.h"
#include "base/descriptor.h"
#include "close/endpoint.h"
#include "close/given.h"
#include "close/policy.h"
#include "close/proof.h"
#include "close/run.h"
#include "kernel/identity.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>

/* A quick peer answers within this time, even with a delayed ACK (RFC 9293, 3.8.6.3), and the
 * close needs no epoll entry. If this were much shorter, the timer would cost more than the
 * entry. If the peer does not answer, `acked` is seen up to this much late. */
#define QUICK_NS (50ull * FIN__NS_PER_MS)
#define PAUSE_NS FIN__NS_PER_MS /* the first pause if no entry could be made; it doubles */
#define PAUSE_MAX_NS (64ull * FIN__NS_PER_MS)
#define CUT_NS (100ull * FIN__NS_PER_MS) /* between two questions whether to go on */

struct close {
    struct fin_kernel *kernel;
    const struct fin_policy *policy;
    const struct fin__close_options *options;
    struct fin__plan plan;
    struct fin__endpoint ep;
    struct fin__machine machine;
    struct fin__proof proof;
    uint64_t pause;  /* the last pause between two checks, 0: there was none */
    bool quick_over; /* the wait for input alone */
    bool watched;    /* registered in the kernel handle's wait set */
};

/* ---- waiting ---- */

static uint64_t left(const struct close *c, uint64_t now)
{
    return c->machine.deadline > now ? c->machine.deadline - now : 0;
}

static void saw(const struct close *c, struct fin__event *ev, bool error, bool writable)
{
    ev->kind = FIN__READY;
    ev->facts = writable ? FIN__IS_WRITABLE : 0;
    if (error)
        fin__endpoint_discard_errors(&c->ep);
}

static uint64_t next_pause(struct close *c, uint64_t span)
{
    if (c->pause < PAUSE_MAX_NS)
        c->pause = c->pause ? c->pause * 2 : PAUSE_NS;
    return span < c->pause ? span : c->pause;
}

/* Where nothing can be waited for. */
static bool pause_for(struct close *c, uint64_t span, struct fin__event *ev)
{
    struct timespec pause = { .tv_nsec = (long) next_pause(c, span) };

    (void) ppoll(NULL, 0, &pause, NULL);
    if (span <= c->pause)
        return false;
    saw(c, ev, false, false);
    return true;
}

static bool poll_for(struct close *c, unsigned interest, uint64_t span, struct fin__event *ev)
{
    struct timespec timeout = { (time_t) (span / FIN__NS_PER_S), (long) (span % FIN__NS_PER_S) };
    struct pollfd entry = { .fd = c->ep.fd };
    int result;

    if (interest & FIN__READ)
        entry.events |= POLLIN;
    if (interest & FIN__WRITE)
        entry.events |= POLLOUT;
    result = ppoll(&entry, interest != 0, &timeout, NULL);
    if (result < 0 && errno != EINTR) /* base/poll.h */
        return pause_for(c, span, ev);
    if (result > 0)
        saw(c, ev, entry.revents & POLLERR, entry.revents & POLLOUT);
    return result > 0;
}

static bool blocking_watch(struct close *c)
{
    struct epoll_event entry = { .events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET };

    if (fin__kernel_need_wait_set(c->kernel) < 0)
        return false;
    c->watched = epoll_ctl(c->kernel->wait_set, EPOLL_CTL_ADD, c->ep.fd, &entry) == 0;
    return c->watched;
}

static bool epoll_for(const struct close *c, uint64_t span, struct fin__event *ev)
{
    int ms = (int) ((span + FIN__NS_PER_MS - 1) / FIN__NS_PER_MS);
    struct epoll_event entry;

    if (epoll_wait(c->kernel->wait_set, &entry, 1, ms) <= 0)
        return false;
    saw(c, ev, entry.events & EPOLLERR, entry.events & EPOLLOUT);
    return true;
}

/* If no entry could be made: checks after pauses that double. Level-triggered events other than
 * input would come back at once. */
static bool look_again_later(struct close *c, unsigned interest, uint64_t span,
                             struct fin__event *ev)
{
    if (poll_for(c, interest & FIN__READ, next_pause(c, span), ev))
        return true;
    if (span <= c->pause)
        return false;
    saw(c, ev, false, false);
    return true;
}

static bool wait_for_ack(struct close *c, unsigned interest, uint64_t span, struct fin__event *ev)
{
    if (!c->quick_over && interest & FIN__READ) {
        c->quick_over = true;
        if (poll_for(c, FIN__READ, span < QUICK_NS ? span : QUICK_NS, ev))
            return true;
    }
    return blocking_watch(c) ? epoll_for(c, span, ev) : look_again_later(c, interest, span, ev);
}

static bool wait_once(struct close *c, uint64_t span, struct fin__event *ev)
{
    unsigned interest = c->machine.interest;

    if (c->watched && fin__kernel_need_wait_set(c->kernel) < 0)
        c->watched = false; /* a stray close(2) of the program's took the set */
    if (c->watched && interest)
        return epoll_for(c, span, ev);
    if (interest & FIN__ACK)
        return wait_for_ack(c, interest, span, ev);
    return poll_for(c, interest, span, ev);
}

static void wait_on(struct close *c, struct fin__event *ev)
{
    const struct fin__close_options *options = c->options;
    uint64_t span;

    *ev = (struct fin__event) { .kind = FIN__DEADLINE };
    /* Again after EINTR, and time-outs that were rounded. */
    while ((span = left(c, fin__now())) > 0) {
        if (options->cut && options->cut(options->arg)) {
            ev->kind = FIN__ABORT;
            return;
        }
        if (wait_once(c, options->cut && span > CUT_NS ? CUT_NS : span, ev))
            return;
    }
}

/* ---- the way out ---- */

static void blocking_unwatch(void *self)
{
    struct close *c = self;

    if (c->watched && fin__kernel_need_wait_set(c->kernel) == 0)
        (void) epoll_ctl(c->kernel->wait_set, EPOLL_CTL_DEL, c->ep.fd, NULL);
    c->watched = false;
}

static void prepare_proof(void *self, struct fin__event *ev)
{
    struct close *c = self;

    fin__proof_prepare(&c->proof, c->kernel, c->ep.fd, true, ev);
}

static int blocking_release(void *self, int fd, unsigned *facts)
{
    const struct close *c = self;

    return c->options->release ? c->options->release(c->options->arg, fd, facts) : fin__release(fd);
}

static void blocking_check(void *self, struct fin__event *ev)
{
    struct close *c = self;

    fin__proof_check(&c->proof, c->kernel, ev);
}

static void blocking_inspect(void *self, struct fin__event *ev)
{
    struct close *c = self;

    fin__proof_inspect(c->kernel, &c->proof.id, ev);
}

static const struct fin__driver driver = {
    .unwatch = blocking_unwatch,
    .prepare_proof = prepare_proof,
    .check = blocking_check,
    .inspect = blocking_inspect,
    .release = blocking_release,
};

static void carry_out(struct close *c, enum fin__action action, struct fin__event *ev)
{
    if (action == FIN__WAIT)
        wait_on(c, ev);
    else
        fin__run(&driver, c, c->kernel, &c->ep, &c->machine, action, ev);
    ev->now = fin__now();
}

/* This loop ends: the machine waits up to a deadline, and bounds by bytes and time what a peer
 * can make it repeat (RULE_LIVELOCK of tests/model). */
static void blocking_run(struct close *c)
{
    enum fin__action action;
    struct fin__event ev;
    uint64_t start = c->options->requested ? c->options->requested : fin__now();

    action = fin__machine_start(&c->machine, &c->plan, c->ep.traits, c->ep.facts, start);
    while (action != FIN__FINISH) {
        carry_out(c, action, &ev);
        action = fin__machine_step(&c->machine, &ev);
    }
    if (c->machine.held == FIN_YES)
        fin__witness_give_up(&c->kernel->witness);
}

/* ---- the public edge ---- */

static int blocking_begin(struct close *c, int fd, const struct fin_layer *layer)
{
    int result = fin__endpoint_examine(c->kernel, fd, layer, &c->ep);

    if (result < 0)
        return result;
    fin__plan_make(c->policy, c->ep.traits & FIN__LISTENING, &c->plan);
    if (c->plan.proof >= FIN_STAGE_FINISHED && c->ep.traits & FIN__SOCKET)
        fin__proof_confirm(c->kernel, fd, &c->proof.id);
    if (fin__endpoint_wants_addresses(&c->ep, &c->plan))
        fin__addresses(fd, &c->proof.id);
    c->ep.end_forfeited = c->options->input_shut;
    fin__endpoint_take_over(&c->ep, &c->plan);
    return 0;
}

int fin__close(struct fin_kernel *kernel, int fd, const struct fin_layer *layer,
               const struct fin_policy *policy, const struct fin__close_options *options,
               struct fin_receipt *receipt)
{
    struct fin_receipt whole = FIN_RECEIPT_INIT;
    struct fin_kernel own;
    struct close c;
    int result;

    policy = fin__policy_or_default(policy);
    receipt = receipt ? receipt : &whole;
    result = fin__policy_check(policy);
    if (result < 0)
        return result;
    if (!fin__receipt_fits(receipt))
        return -EINVAL;
    if (kernel && fin__kernel_check(kernel) < 0)
        return -ECHILD;
    fin__kernel_begin(&own);
    memset(&c, 0, sizeof c);
    c.kernel = kernel ? kernel : &own;
    c.policy = policy;
    c.options = options;
    result = blocking_begin(&c, fd, layer);
    if (result == 0) {
        blocking_run(&c);
        fin__machine_report(&c.machine, &whole);
        whole.kind = (int) fin__endpoint_kind(&c.ep);
        fin__receipt_addresses(&whole, &c.proof.id);
        fin__proof_holders(&c.machine, c.proof.inode, (enum fin__kind) c.ep.kind, &whole);
        fin__receipt_copy(receipt, &whole);
    }
    fin__kernel_end(&own);
    return result;
}

static const struct fin__close_options usual;

int fin_close(struct fin_kernel *kernel, int fd, const struct fin_policy *policy,
              struct fin_receipt *receipt)
{
    FIN__UNCANCELLED;

    return fin__close(kernel, fd, NULL, policy, &usual, receipt);
}

int fin_close_layered(struct fin_kernel *kernel, int fd, const struct fin_layer *layer,
                      const struct fin_policy *policy, struct fin_receipt *receipt)
{
    FIN__UNCANCELLED;
    int result = fin__layer_check(layer);

    return result < 0 ? result : fin__close(kernel, fd, layer, policy, &usual, receipt);
}
