/* SPDX-License-Identifier: MIT */

/* The blocking driver: one close, from the calling thread. */

#include "close/blocking.h"

#include "base/clock.h"
#include "close/endpoint.h"
#include "close/policy.h"
#include "close/proof.h"
#include "kernel/holders.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>

/* A quick peer answers within this time, its ACK delayed or not (RFC 9293, 3.8.6.3), and the close
 * needs no epoll entry. Much shorter, and the timer would cost more than the entry. If it does not
 * answer, `acked` is seen up to this much late. */
#define QUICK_NS (50ull * FIN__NS_PER_MS)
#define SLICE_NS FIN__NS_PER_MS /* the first pause where no entry is to be had; it doubles */
#define SLICE_MAX_NS (64ull * FIN__NS_PER_MS)

struct close {
    struct fin_kernel *kernel;
    const struct fin_policy *policy;
    const struct fin__close_options *options;
    struct fin__plan plan;
    struct fin__endpoint ep;
    struct fin__machine machine;
    struct fin_identity id; /* for sock_diag after release */
    uint64_t token;         /* of the witness */
    uint64_t inode;         /* what the witness last said is held, 0: nothing */
    uint64_t slice;
    bool watched; /* registered in the kernel handle's wait set */
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

static bool poll_for(const struct close *c, unsigned interest, uint64_t span, struct fin__event *ev)
{
    struct timespec timeout = { (time_t) (span / FIN__NS_PER_S), (long) (span % FIN__NS_PER_S) };
    struct pollfd entry = { .fd = interest ? c->ep.fd : -1 };

    if (interest & FIN__READ)
        entry.events |= POLLIN;
    if (interest & FIN__WRITE)
        entry.events |= POLLOUT;
    if (ppoll(&entry, 1, &timeout, NULL) <= 0)
        return false;
    saw(c, ev, entry.revents & POLLERR, entry.revents & POLLOUT);
    return true;
}

static bool watch(struct close *c)
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

/* Without an entry to be had: looks at pauses that double. Level-triggered events other than input
 * would come back at once. */
static bool look_again_later(struct close *c, unsigned interest, uint64_t span,
                             struct fin__event *ev)
{
    if (c->slice < SLICE_MAX_NS)
        c->slice = c->slice ? c->slice * 2 : SLICE_NS;
    if (poll_for(c, interest & FIN__READ, span < c->slice ? span : c->slice, ev))
        return true;
    if (span <= c->slice)
        return false;
    saw(c, ev, false, false);
    return true;
}

static bool wait_for_ack(struct close *c, unsigned interest, uint64_t span, struct fin__event *ev)
{
    if (c->slice == 0 && interest & FIN__READ) {
        c->slice = SLICE_NS / 2;
        if (poll_for(c, FIN__READ, span < QUICK_NS ? span : QUICK_NS, ev))
            return true;
    }
    return watch(c) ? epoll_for(c, span, ev) : look_again_later(c, interest, span, ev);
}

static void wait_on(struct close *c, struct fin__event *ev)
{
    unsigned interest = c->machine.interest;
    bool ready;

    do {
        uint64_t span = left(c, fin__now());

        if (span == 0)
            ready = false;
        else if (c->watched && interest)
            ready = epoll_for(c, span, ev);
        else if (interest & FIN__ACK)
            ready = wait_for_ack(c, interest, span, ev);
        else
            ready = poll_for(c, interest, span, ev);
    } while (!ready && left(c, fin__now()) > 0); /* EINTR, and time-outs that were rounded */
    if (!ready)
        ev->kind = FIN__DEADLINE;
}

/* ---- the way out ---- */

static void unwatch(struct close *c)
{
    if (c->watched)
        (void) epoll_ctl(c->kernel->wait_set, EPOLL_CTL_DEL, c->ep.fd, NULL);
    c->watched = false;
}

static void release(const struct close *c, struct fin__event *ev)
{
    if (!c->options->release) {
        fin__proof_release(c->ep.fd, ev);
        return;
    }
    ev->error = c->options->release(c->options->arg, c->ep.fd);
    ev->kind = ev->error < 0 ? FIN__FAILED : FIN__DONE;
}

static void carry_out(struct close *c, enum fin__action action, struct fin__event *ev)
{
    *ev = (struct fin__event) { .kind = FIN__DONE };
    switch (action) {
    case FIN__WAIT:
        wait_on(c, ev);
        break;
    case FIN__UNWATCH:
        unwatch(c);
        break;
    case FIN__WITNESS:
        c->token = fin__proof_prepare(c->kernel, c->ep.fd, c->id.confirmed, true, ev);
        break;
    case FIN__RELEASE:
        release(c, ev);
        break;
    case FIN__CHECK:
        fin__proof_check(c->kernel, c->token, &c->inode, ev);
        break;
    case FIN__INSPECT:
        fin__proof_inspect(c->kernel, &c->id, ev);
        break;
    default:
        fin__endpoint_do(&c->ep, c->kernel, &c->machine, action, ev);
        break;
    }
    ev->now = fin__now();
}

static void run(struct close *c)
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

static int begin(struct close *c, int fd, const struct fin_layer *layer)
{
    int result = fin__endpoint_examine(c->kernel, fd, layer, c->policy, &c->ep);

    if (result < 0)
        return result;
    fin__plan_make(c->policy, c->ep.traits & FIN__LISTENING, &c->plan);
    if (c->plan.proof >= FIN_STAGE_FINISHED && c->ep.traits & FIN__SOCKET)
        fin__proof_confirm(c->kernel, fd, &c->id);
    c->ep.eof_ambiguous |= c->options->input_shut;
    fin__endpoint_take_over(&c->ep, &c->plan);
    return 0;
}

static void name_holders(const struct close *c, struct fin_receipt *receipt)
{
    bool wanted = c->policy->find_holders && c->machine.held == FIN_YES;

    fin__receipt_holders(receipt, wanted ? c->inode : 0, (enum fin__kind) c->ep.kind);
}

int fin__close(struct fin_kernel *kernel, int fd, const struct fin_layer *layer,
               const struct fin_policy *policy, const struct fin__close_options *options,
               struct fin_receipt *receipt)
{
    struct fin_kernel own;
    struct close c;
    int result = fin__policy_check(policy);

    if (result < 0)
        return result;
    if (!receipt || receipt->size != sizeof *receipt)
        return -EINVAL;
    if (kernel && fin__kernel_check(kernel) < 0)
        return -ECHILD;
    fin__kernel_begin(&own);
    memset(&c, 0, sizeof c);
    c.kernel = kernel ? kernel : &own;
    c.policy = policy;
    c.options = options;
    result = begin(&c, fd, layer);
    if (result == 0) {
        run(&c);
        fin__machine_report(&c.machine, receipt);
        receipt->tombstone = 0;
        name_holders(&c, receipt);
    }
    fin__kernel_end(&own);
    return result;
}

static const struct fin__close_options usual;

int fin_close(struct fin_kernel *kernel, int fd, const struct fin_policy *policy,
              struct fin_receipt *receipt)
{
    return fin__close(kernel, fd, NULL, policy, &usual, receipt);
}

int fin_close_layered(struct fin_kernel *kernel, int fd, const struct fin_layer *layer,
                      const struct fin_policy *policy, struct fin_receipt *receipt)
{
    int result = fin__layer_check(layer);

    return result < 0 ? result : fin__close(kernel, fd, layer, policy, &usual, receipt);
}
