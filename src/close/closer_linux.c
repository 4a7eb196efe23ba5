/* SPDX-License-Identifier: MIT */

/* The closer's backend on Linux: one epoll set with every socket, a timerfd, an eventfd and the
 * destroy events in it; two witnesses, so that one full of entries given up can be replaced. */

#include "base/alloc.h"
#include "base/clock.h"
#include "base/descriptor.h"
#include "close/closer.h"
#include "close/follow.h"
#include "close/policy.h"
#include "close/proof.h"
#include "kernel/holders.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/timerfd.h>
#include <unistd.h>

/* Names no close: its index is beyond every slot. */
#define TIMER_ID 0xffffffffu
#define WAKE_ID 0x1ffffffffu
#define EVENTS_ID 0x2ffffffffu

#define ALL_EDGES (EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET)
#define EPOLL_BATCH 128 /* half of what poll() may return; the other half is for destroy events */

struct linux_closer {
    int set, timer, wake;
    struct fin_kernel kernel; /* of the dispatching thread; its witness is not used */
    struct fin__witness witness[2];
    uint32_t users[2]; /* released closes whose entry is in there */
    unsigned active;
    struct fin__follower_table followers;
};

static uint64_t now(void *self)
{
    (void) self;
    return fin__now();
}

/* ---- any thread ---- */

static int reserve(void *self, struct fin__op *op, uint64_t id)
{
    struct epoll_event entry = { .events = ALL_EDGES, .data.u64 = id };
    struct linux_closer *l = self;
    int result = fin__follower_make(op, id);

    if (result < 0)
        return result;
    if (epoll_ctl(l->set, EPOLL_CTL_ADD, op->ep.fd, &entry) == 0)
        return 0;
    result = -errno;
    fin__free(op->follow);
    return result;
}

static void wake(void *self)
{
    struct linux_closer *l = self;
    uint64_t one = 1;

    while (write(l->wake, &one, sizeof one) < 0 && errno == EINTR)
        ;
}

/* ---- edges ---- */

static void drain_wake(struct linux_closer *l)
{
    uint64_t count;

    while (read(l->wake, &count, sizeof count) < 0 && errno == EINTR)
        ;
}

struct edges {
    struct fin__edge *edges;
    int count;
};

static void add_edge(void *arg, uint64_t id, unsigned facts)
{
    struct edges *list = arg;

    list->edges[list->count++] = (struct fin__edge) { id, facts, true };
}

static void take_event(struct edges *list, const struct epoll_event *event)
{
    list->edges[list->count++] = (struct fin__edge) {
        .id = event->data.u64,
        .facts = (event->events & EPOLLOUT ? FIN__IS_WRITABLE : 0)
            | (event->events & EPOLLERR ? FIN__IS_ERROR : 0),
        .input = event->events & ~(uint32_t) EPOLLOUT,
    };
}

static int poll_edges(void *self, struct fin__edge *edges, int max)
{
    struct epoll_event events[EPOLL_BATCH];
    struct linux_closer *l = self;
    struct edges list = { edges, 0 };
    int n = epoll_wait(l->set, events, EPOLL_BATCH, 0);
    bool destroyed = l->followers.lost;

    for (int i = 0; i < n; i++) {
        if (events[i].data.u64 == WAKE_ID)
            drain_wake(l);
        else if (events[i].data.u64 == EVENTS_ID)
            destroyed = true;
        else if (events[i].data.u64 != TIMER_ID) /* set anew by arm() */
            take_event(&list, &events[i]);
    }
    if (destroyed)
        fin__follower_read(&l->followers, max - EPOLL_BATCH, add_edge, &list);
    if (l->followers.lost)
        wake(l);
    return list.count;
}

/* EPOLL_CTL_MOD reports what is ready at that moment. Input that is there would do so each time:
 * while room to send is all that matters it is left out. */
static void watch(void *self, struct fin__op *op, uint64_t id)
{
    bool narrow = op->machine.interest == FIN__WRITE;
    struct epoll_event entry = {
        .events = narrow ? EPOLLOUT | EPOLLET : ALL_EDGES,
        .data.u64 = id,
    };
    struct linux_closer *l = self;

    if (op->ep.fd >= 0 && (narrow || op->narrowed))
        (void) epoll_ctl(l->set, EPOLL_CTL_MOD, op->ep.fd, &entry);
    op->narrowed = narrow;
}

static void arm(void *self, uint64_t deadline)
{
    struct linux_closer *l = self;
    struct itimerspec when = { 0 };

    if (deadline != UINT64_MAX) {
        uint64_t at = deadline ? deadline : 1; /* 0 would disarm */

        when.it_value.tv_sec = (time_t) (at / FIN__NS_PER_S);
        when.it_value.tv_nsec = (long) (at % FIN__NS_PER_S);
    }
    (void) timerfd_settime(l->timer, TFD_TIMER_ABSTIME, &when, NULL);
}

static void wait_for_work(void *self, int timeout_ms)
{
    struct linux_closer *l = self;
    struct pollfd entry = { .fd = l->set, .events = POLLIN };

    (void) poll(&entry, 1, timeout_ms);
}

/* ---- the proof ---- */

static void retire_witness(struct linux_closer *l, unsigned which)
{
    if (which != l->active && l->users[which] == 0)
        fin__witness_close(&l->witness[which]);
}

/* A new witness when the old one is full of what will never be asked about again; the old one stays
 * until the closes that it still serves have ended. */
static void replace_witness(struct linux_closer *l)
{
    unsigned other = 1 - l->active;

    if (l->witness[l->active].stale < FIN__WITNESS_STALE_MAX || l->witness[other].set >= 0)
        return;
    if (fin__witness_open(&l->witness[other]) < 0)
        return;
    l->active = other;
    retire_witness(l, 1 - other);
}

/* The entry that the socket had in our own set has just been given back to the kernel: the one
 * needed here is that one again. */
static void witness(struct linux_closer *l, struct fin__op *op, struct fin__event *ev)
{
    unsigned which;
    int result;

    replace_witness(l);
    which = l->active;
    ev->facts = fin__follower_prepare(&l->followers, op);
    result = fin__witness_add(&l->witness[which], op->ep.fd, fin__book_id(op));
    if (result == -EEXIST) { /* an earlier close of the same description under the same number */
        which = 1 - which;
        if (l->witness[which].set < 0)
            (void) fin__witness_open(&l->witness[which]);
        result = fin__witness_add(&l->witness[which], op->ep.fd, fin__book_id(op));
    }
    ev->kind = result < 0 ? FIN__FAILED : FIN__DONE;
    ev->error = result;
    if (result == 0) {
        op->witness = which & 1;
        l->users[which]++;
    }
}

static int check(void *self, void (*visit)(uint64_t id, uint64_t inode, void *arg), void *arg)
{
    struct linux_closer *l = self;
    int result = 0;

    for (unsigned i = 0; i < 2 && result == 0; i++)
        if (l->users[i] > 0)
            result = fin__witness_read(&l->witness[i], visit, arg);
    return result;
}

static unsigned follow(void *self, struct fin__op *op)
{
    struct linux_closer *l = self;

    return fin__follower_watch(&l->followers, op);
}

static void forget(void *self, struct fin__op *op, struct fin_receipt *receipt)
{
    struct linux_closer *l = self;
    uint64_t inode = 0;

    if (!receipt) {
        fin__free(op->follow);
        return;
    }
    fin__follower_end(&l->followers, op);
    if (!op->machine.witnessed)
        return;
    if (op->machine.held == FIN_YES) {
        (void) fin__witness_check(&l->witness[op->witness], fin__book_id(op), &inode);
        fin__witness_give_up(&l->witness[op->witness]);
        fin__receipt_holders(receipt, op->machine.plan->find_holders ? inode : 0,
                             (enum fin__kind) op->ep.kind);
    }
    l->users[op->witness]--;
    retire_witness(l, op->witness);
}

static void act(void *self, struct fin__op *op, enum fin__action action, struct fin__event *ev)
{
    struct linux_closer *l = self;

    *ev = (struct fin__event) { .kind = FIN__DONE };
    switch (action) {
    case FIN__UNWATCH:
        (void) epoll_ctl(l->set, EPOLL_CTL_DEL, op->ep.fd, NULL);
        break;
    case FIN__WITNESS:
        witness(l, op, ev);
        break;
    case FIN__RELEASE:
        fin__proof_release(op->ep.fd, ev);
        op->ep.fd = -1; /* an edge fetched before, or a later wait, must not touch the number */
        break;
    case FIN__INSPECT:
        fin__follower_inspect(&l->kernel, op, ev);
        break;
    default:
        fin__endpoint_do(&op->ep, &l->kernel, &op->machine, action, ev);
        break;
    }
}

/* ---- making and freeing ---- */

static void free_backend(void *self, bool forked)
{
    struct linux_closer *l = self;

    (void) forked; /* a child closes its copies; the sets themselves are the parent's */
    fin__follower_close(&l->followers);
    fin__witness_close(&l->witness[0]);
    fin__witness_close(&l->witness[1]);
    fin__kernel_end(&l->kernel);
    fin__drop(&l->wake);
    fin__drop(&l->timer);
    fin__drop(&l->set);
    fin__free(l);
}

static int add_own(struct linux_closer *l, int fd, uint64_t id)
{
    struct epoll_event entry = { .events = EPOLLIN, .data.u64 = id };

    return fd < 0 || epoll_ctl(l->set, EPOLL_CTL_ADD, fd, &entry) < 0 ? -errno : 0;
}

static int open_parts(struct linux_closer *l)
{
    int result;

    l->set = epoll_create1(EPOLL_CLOEXEC);
    if (l->set < 0)
        return -errno;
    l->timer = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
    result = add_own(l, l->timer, TIMER_ID);
    if (result < 0)
        return result;
    l->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    result = add_own(l, l->wake, WAKE_ID);
    if (result < 0)
        return result;
    if (fin__events_open(&l->followers.events) == 0)
        (void) add_own(l, fin__events_fd(&l->followers.events), EVENTS_ID);
    (void) fin__kernel_need_diag(&l->kernel);
    result = fin__witness_open(&l->witness[0]);
    return fin__is_lack(result) ? result : 0;
}

static int make(struct linux_closer **ret)
{
    struct linux_closer *l = fin__alloc(sizeof *l);
    int result;

    if (!l)
        return -ENOMEM;
    l->set = l->timer = l->wake = -1;
    l->witness[0] = l->witness[1] = (struct fin__witness) FIN__WITNESS_INIT;
    fin__kernel_begin(&l->kernel);
    result = open_parts(l);
    if (result < 0) {
        free_backend(l, false);
        return result;
    }
    *ret = l;
    return 0;
}

static const struct fin__backend backend = {
    .now = now,
    .reserve = reserve,
    .wake = wake,
    .watch = watch,
    .poll = poll_edges,
    .act = act,
    .check = check,
    .follow = follow,
    .forget = forget,
    .arm = arm,
    .wait = wait_for_work,
    .free = free_backend,
};

int fin_closer_new(const struct fin_closer_options *options, struct fin_closer **ret)
{
    struct linux_closer *l;
    int result;

    if (!ret || (options && options->size != sizeof *options))
        return -EINVAL;
    result = make(&l);
    return result < 0 ? result : fin__closer_make(&backend, l, options, ret);
}

int fin_closer_fd(const struct fin_closer *closer)
{
    const struct linux_closer *l;
    int result = fin__closer_check(closer);

    if (result < 0)
        return result;
    l = fin__closer_backend(closer);
    return l->set;
}

static int submit(struct fin_closer *closer, int fd, const struct fin_layer *layer,
                  const struct fin_policy *policy, fin_closed_fn closed, void *arg, uint64_t *op)
{
    struct fin__endpoint ep;
    struct fin_kernel kernel;
    int result = fin__closer_check(closer);

    if (result == 0)
        result = fin__policy_check(policy);
    if (result < 0)
        return result;
    fin__kernel_begin(&kernel); /* the closer's own belongs to another thread */
    result = fin__endpoint_examine(&kernel, fd, layer, policy, &ep);
    fin__kernel_end(&kernel);
    return result < 0 ? result : fin__closer_submit(closer, &ep, policy, closed, arg, op);
}

int fin_closer_submit(struct fin_closer *closer, int fd, const struct fin_policy *policy,
                      fin_closed_fn closed, void *arg, uint64_t *op)
{
    return submit(closer, fd, NULL, policy, closed, arg, op);
}

int fin_closer_submit_layered(struct fin_closer *closer, int fd, const struct fin_layer *layer,
                              const struct fin_policy *policy, fin_closed_fn closed, void *arg,
                              uint64_t *op)
{
    int result = fin__layer_check(layer);

    return result < 0 ? result : submit(closer, fd, layer, policy, closed, arg, op);
}
