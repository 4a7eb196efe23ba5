/* SPDX-License-Identifier: MIT */

/* The closer's backend on Linux: one epoll set with every socket, a timerfd, an eventfd and the
 * destroy events in it; two witnesses, so that one full of entries given up can be replaced. */

#include "base/alloc.h"
#include "base/cancel.h"
#include "base/clock.h"
#include "base/errors.h"
#include "base/mark.h"
#include "base/poll.h"
#include "close/closer.h"
#include "close/follow.h"
#include "close/policy.h"
#include "close/proof.h"
#include "close/run.h"

#include <errno.h>
#include <stdatomic.h>
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
    int mark;                 /* of all three: base/mark.h */
    _Atomic uint64_t sure;    /* until then they are taken for ours without a look */
    struct fin_kernel kernel; /* of the dispatching thread; its witness is not used */
    struct fin__witness witness[2];
    uint32_t users[2]; /* released closes whose entry is in there */
    unsigned active;
    struct fin__follower_table followers;
};

/* Does the set still have its number? If so the timer and the eventfd are taken to have theirs. */
static bool look(struct linux_closer *l)
{
    bool ours = fin__is_marked(l->set, l->mark);

    atomic_store_explicit(&l->sure, ours ? fin__now() + FIN__SURE_NS : 0, memory_order_relaxed);
    return ours;
}

static bool is_ours(struct linux_closer *l)
{
    return fin__now() < atomic_load_explicit(&l->sure, memory_order_relaxed) || look(l);
}

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
    int result = is_ours(l) ? fin__follower_make(op, id) : -EBADF;

    if (result < 0)
        return result;
    if (epoll_ctl(l->set, EPOLL_CTL_ADD, op->ep.fd, &entry) == 0)
        return 0;
    result = -errno;
    fin__free(op->follow);
    return result;
}

static void closer_linux_wake(void *self)
{
    struct linux_closer *l = self;
    uint64_t one = 1;

    if (is_ours(l))
        (void) !write(l->wake, &one, sizeof one); /* EAGAIN: it is readable anyhow */
}

/* ---- edges ---- */

static void drain_wake(struct linux_closer *l)
{
    uint64_t count;

    (void) !read(l->wake, &count, sizeof count);
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
    bool ours = look(l), destroyed = l->followers.lost;
    int n = ours ? epoll_wait(l->set, events, EPOLL_BATCH, 0) : 0;

    if (!ours)
        return -EBADF;
    for (int i = 0; i < n; i++) {
        if (events[i].data.u64 == WAKE_ID)
            drain_wake(l);
        else if (events[i].data.u64 == EVENTS_ID)
            destroyed = true;
        else if (events[i].data.u64 != TIMER_ID) /* set anew by closer_linux_arm() */
            take_event(&list, &events[i]);
    }
    if (destroyed)
        fin__follower_read(&l->followers, max - EPOLL_BATCH, add_edge, &list);
    if (l->followers.lost)
        closer_linux_wake(l);
    return list.count;
}

/* EPOLL_CTL_MOD reports what is ready at that moment, input too, each time: while only room to
 * send matters EPOLLIN is left out. */
static void closer_linux_watch(void *self, struct fin__op *op, uint64_t id)
{
    bool narrow = op->machine.interest == FIN__WRITE;
    struct epoll_event entry = {
        .events = narrow ? EPOLLOUT | EPOLLET : ALL_EDGES,
        .data.u64 = id,
    };
    struct linux_closer *l = self;

    if (op->ep.fd >= 0 && (narrow || op->narrowed) && is_ours(l))
        (void) epoll_ctl(l->set, EPOLL_CTL_MOD, op->ep.fd, &entry);
    op->narrowed = narrow;
}

static void closer_linux_arm(void *self, uint64_t deadline)
{
    struct linux_closer *l = self;
    struct itimerspec when = { 0 };

    if (deadline != UINT64_MAX) {
        uint64_t at = deadline ? deadline : 1; /* 0 would disarm */

        when.it_value.tv_sec = (time_t) (at / FIN__NS_PER_S);
        when.it_value.tv_nsec = (long) (at % FIN__NS_PER_S);
    }
    if (is_ours(l))
        (void) timerfd_settime(l->timer, TFD_TIMER_ABSTIME, &when, NULL);
}

static void wait_for_work(void *self, int timeout_ms)
{
    struct linux_closer *l = self;
    struct pollfd entry = { .fd = l->set, .events = POLLIN };

    if (!look(l))
        return;
    (void) fin__poll(&entry, 1, timeout_ms);
}

/* ---- the proof ---- */

static void retire_witness(struct linux_closer *l, unsigned which)
{
    if (which != l->active && l->users[which] == 0)
        fin__witness_close(&l->witness[which]);
}

/* Makes a new witness when the old one is full of entries that no close asks about any more; the
 * old one stays until the closes that depend on it have ended. */
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
static void enter_witness(struct linux_closer *l, struct fin__op *op, struct fin__event *ev)
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
        op->witness_index = which & 1;
        l->users[which]++;
    }
}

static int closer_linux_check(void *self, void (*visit)(uint64_t id, uint64_t inode, void *arg),
                              void *arg)
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
    receipt->kind = (int) fin__endpoint_kind(&op->ep);
    fin__follower_end(&l->followers, op, receipt);
    if (!op->machine.witnessed)
        return;
    if (op->machine.held == FIN_YES) {
        (void) fin__witness_check(&l->witness[op->witness_index], fin__book_id(op), &inode);
        fin__witness_give_up(&l->witness[op->witness_index]);
        fin__proof_holders(&op->machine, inode, (enum fin__kind) op->ep.kind, receipt);
    }
    l->users[op->witness_index]--;
    retire_witness(l, op->witness_index);
}

struct of_one {
    struct linux_closer *l;
    struct fin__op *op;
};

static void unwatch_one(void *self)
{
    const struct of_one *one = self;

    if (is_ours(one->l))
        (void) epoll_ctl(one->l->set, EPOLL_CTL_DEL, one->op->ep.fd, NULL);
}

static void prepare_proof_of_one(void *self, struct fin__event *ev)
{
    const struct of_one *one = self;

    enter_witness(one->l, one->op, ev);
}

static void inspect_one(void *self, struct fin__event *ev)
{
    const struct of_one *one = self;

    fin__follower_inspect(&one->l->kernel, one->op, ev);
}

/* Without check: the bookkeeping asks for all at once. */
static const struct fin__driver driver = {
    .unwatch = unwatch_one,
    .prepare_proof = prepare_proof_of_one,
    .inspect = inspect_one,
};

static void act(void *self, struct fin__op *op, enum fin__action action, struct fin__event *ev)
{
    struct of_one one = { self, op };

    fin__run(&driver, &one, &one.l->kernel, &op->ep, &op->machine, action, ev);
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
    fin__drop_marked(&l->wake, l->mark);
    fin__drop_marked(&l->timer, l->mark);
    fin__drop_marked(&l->set, l->mark);
    fin__free(l);
}

static int add_own(struct linux_closer *l, int fd, uint64_t id)
{
    struct epoll_event entry = { .events = EPOLLIN, .data.u64 = id };

    return fd < 0 || epoll_ctl(l->set, EPOLL_CTL_ADD, fd, &entry) < 0 ? -errno : 0;
}

static int add_marked(struct linux_closer *l, int fd, uint64_t id)
{
    if (fd >= 0 && l->mark != FIN__UNMARKED)
        (void) fin__mark(fd, l->mark);
    return add_own(l, fd, id);
}

static int open_parts(struct linux_closer *l)
{
    int result;

    l->set = epoll_create1(EPOLL_CLOEXEC);
    if (l->set < 0)
        return -errno;
    l->mark = fin__mark_new(l->set);
    l->timer = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
    result = add_marked(l, l->timer, TIMER_ID);
    if (result < 0)
        return result;
    l->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    result = add_marked(l, l->wake, WAKE_ID);
    if (result < 0)
        return result;
    if (fin__events_open(&l->followers.events) == 0)
        (void) add_own(l, fin__events_fd(&l->followers.events), EVENTS_ID);
    (void) fin__kernel_need_diag(&l->kernel);
    result = fin__witness_open(&l->witness[0]);
    return fin__is_lack(result) ? result : 0;
}

static int closer_linux_make(struct linux_closer **ret)
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
    .wake = closer_linux_wake,
    .watch = closer_linux_watch,
    .poll = poll_edges,
    .act = act,
    .check = closer_linux_check,
    .follow = follow,
    .forget = forget,
    .arm = closer_linux_arm,
    .wait = wait_for_work,
    .free = free_backend,
};

int fin_closer_new(const struct fin_closer_options *options, struct fin_closer **ret)
{
    FIN__UNCANCELLED;
    struct linux_closer *l;
    int result;

    if (!ret || (options && options->size != sizeof *options))
        return -EINVAL;
    result = closer_linux_make(&l);
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

    policy = fin__policy_or_default(policy);
    if (result == 0)
        result = fin__policy_check(policy);
    if (result < 0)
        return result;
    fin__kernel_begin(&kernel); /* the closer's own belongs to another thread */
    result = fin__endpoint_examine(&kernel, fd, layer, &ep);
    fin__kernel_end(&kernel);
    return result < 0 ? result : fin__closer_submit(closer, &ep, policy, closed, arg, op);
}

int fin_closer_submit(struct fin_closer *closer, int fd, const struct fin_policy *policy,
                      fin_closed_fn closed, void *arg, uint64_t *op)
{
    FIN__UNCANCELLED;

    return submit(closer, fd, NULL, policy, closed, arg, op);
}

int fin_closer_submit_layered(struct fin_closer *closer, int fd, const struct fin_layer *layer,
                              const struct fin_policy *policy, fin_closed_fn closed, void *arg,
                              uint64_t *op)
{
    FIN__UNCANCELLED;
    int result = fin__layer_check(layer);

    return result < 0 ? result : submit(closer, fd, layer, policy, closed, arg, op);
}
