/* SPDX-License-Identifier: MIT */

#include "base/cancel.h"
#include "base/clock.h"
#include "base/mark.h"
#include "close/blocking.h"
#include "close/given.h"
#include "close/machine.h"
#include "close/policy.h"
#include "handle/clear.h"
#include "handle/handle.h"
#include "kernel/kernel.h"

#include <errno.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>

struct handle_close {
    struct fin__core *core;
    const struct fin_policy *policy;
    bool descriptor_only;
    bool woken;     /* threads in calls of their own */
    bool shut;      /* by that */
    bool tombstone; /* on the number */
    uint64_t start, deadline;
};

/* ---- getting the threads out ---- */

static bool foreign_inside(struct fin__core *core)
{
    bool inside;

    fin__core_lock(core);
    inside = core->foreign > 0;
    fin__core_unlock(core);
    return inside;
}

/* Nothing else wakes a thread that is in a system call on the socket. Also where it says ENOTCONN,
 * as for UDP (inet_shutdown()). */
static void handle_close_wake(void *arg)
{
    struct handle_close *c = arg;
    int on = 1;

    if (c->woken || c->descriptor_only || !foreign_inside(c->core))
        return;
    if (c->policy->rebindable) /* before FIN, see fin_policy */
        (void) setsockopt(c->core->fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    c->shut = shutdown(c->core->fd, SHUT_RDWR) == 0;
    c->woken = true;
}

/* With scope descriptor a thread in a call of its own is not woken, so there is nothing to wait
 * for. */
static unsigned count_awaited(const struct handle_close *c)
{
    return c->core->inside - (c->descriptor_only ? c->core->foreign : 0);
}

static bool awaited(void *arg)
{
    const struct handle_close *c = arg;
    bool any;

    fin__core_lock(c->core);
    any = count_awaited(c) > 0;
    fin__core_unlock(c->core);
    return any;
}

static void pause_until(void *arg, uint64_t *until)
{
    struct handle_close *c = arg;
    struct timespec end = { (time_t) (*until / FIN__NS_PER_S), (long) (*until % FIN__NS_PER_S) };

    fin__core_lock(c->core);
    if (count_awaited(c) > 0)
        (void) pthread_cond_timedwait(&c->core->left, &c->core->lock.mutex, &end);
    fin__core_unlock(c->core);
}

static bool lock(void *arg)
{
    const struct handle_close *c = arg;

    fin__core_lock(c->core);
    return c->core->inside > 0;
}

static int dead(void *arg)
{
    const struct handle_close *c = arg;

    return c->core->dead;
}

/* A thread that leaves must find either nothing or the tombstone. A child, forked at any time,
 * must find no state ahead of what was done. */
static void handle_close_unlock(void *arg, bool tombstone)
{
    struct handle_close *c = arg;

    c->tombstone = tombstone;
    c->core->state = tombstone ? FIN__HANDLE_ENTOMBED : FIN__HANDLE_CLOSED;
    fin__core_unlock(c->core);
}

static const struct fin__clear clear = {
    .wake = handle_close_wake,
    .awaited = awaited,
    .pause = pause_until,
    .lock = lock,
    .dead = dead,
    .unlock = handle_close_unlock,
};

/* ---- the close ---- */

static int handle_close_release(void *arg, int fd, unsigned *facts)
{
    struct handle_close *c = arg;
    int result;

    *facts |= lock(c) ? FIN__IS_RESET_UNSURE : 0;
    fin__core_unlock(c->core);
    result = fin__clear_and_release(&clear, c, fd, c->deadline);
    *facts |= c->shut ? FIN__IS_SHUT : 0;
    if (c->tombstone && result < 0) { /* who leaves last releases it */
        *facts |= FIN__IS_KEPT;
        c->tombstone = false;
    }
    return result;
}

/* The number is another file now, or may not be looked at any more: nothing is known, and it
 * must not stay open for ever. */
static void give_up(struct handle_close *c, int error)
{
    unsigned facts = 0;

    if (error != -EBADF) {
        (void) handle_close_release(c, c->core->fd, &facts);
        return;
    }
    fin__core_lock(c->core);
    c->core->state = FIN__HANDLE_CLOSED;
    fin__core_unlock(c->core);
}

static bool is_listening(int fd)
{
    int listening = 0;
    socklen_t size = sizeof listening;

    (void) getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listening, &size);
    return listening;
}

/* ---- a send that was cut: a layer that can't send what it has ---- */

static int handle_close_flush(void *arg, uint64_t *unsent)
{
    const struct handle_close *c = arg;

    *unsent = fin__core_unsent(c->core);
    return -ECANCELED;
}

static uint64_t cut_off(void *arg)
{
    const struct handle_close *c = arg;

    return fin__core_unsent(c->core);
}

static int handle_close_notify(void *arg)
{
    (void) arg;
    return FIN_LAYER_NONE;
}

static int handle_close_discard(void *arg, uint64_t max, uint64_t *n)
{
    (void) arg;
    (void) max;
    (void) n;
    return FIN_LAYER_EOF; /* not asked: without its bytes the stream ends in RST */
}

/* Has the program closed the number by mistake, and does it belong to another file by now? */
static bool is_ours(const struct fin__core *core)
{
    struct stat st;

    if (!core->inode) /* it could not be looked at */
        return true;
    return fstat(core->fd, &st) == 0 && st.st_ino == core->inode && st.st_dev == core->device;
}

static int close_core(struct handle_close *c, struct fin_kernel *kernel,
                      const struct fin__close_options *options, struct fin_receipt *receipt)
{
    struct fin_layer cut = { sizeof cut,           c,      handle_close_flush, handle_close_notify,
                             handle_close_discard, cut_off };
    int fd = c->core->fd, result = -ENOTCONN;
    uint64_t unsent;

    if (fin__core_unsent(c->core) > 0)
        result = fin__close(kernel, fd, &cut, c->policy, options, receipt);
    if (result == -ENOTCONN) /* or there is no stream any more */
        result = fin__close(kernel, fd, NULL, c->policy, options, receipt);
    unsent = fin__core_unsent(c->core); /* of who had to be got out by the close itself, too */
    if (result == 0 && receipt->unsent < unsent)
        receipt->unsent = unsent;
    return result;
}

static int close_socket(struct fin__core *core, struct fin_kernel *kernel,
                        const struct fin_policy *policy, struct fin_receipt *receipt)
{
    struct handle_close c = { .core = core, .policy = policy, .start = fin__now() };
    struct fin__close_options options = { .requested = c.start,
                                          .release = handle_close_release,
                                          .arg = &c };
    int result = is_ours(core) ? 0 : -EBADF;

    if (result < 0) {
        give_up(&c, result);
        return result;
    }
    c.deadline = c.start + (uint64_t) policy->total_ms * FIN__NS_PER_MS;
    c.descriptor_only = fin__policy_spares_connection(policy, is_listening(core->fd));
    /* An abort's RST wakes them too, and a FIN before it would tell the peer that all is well. */
    if (policy->courtesy != FIN_COURTESY_ABORT || c.descriptor_only)
        fin__clear_out(&clear, &c, c.deadline);
    options.input_shut = c.woken;
    result = close_core(&c, kernel, &options, receipt);
    if (result < 0) {
        give_up(&c, result);
        return result;
    }
    receipt->tombstone = c.tombstone;
    if (options.input_shut && receipt->stage_ns[FIN_STAGE_EOF] < 0
        && receipt->stage_ns[FIN_STAGE_SHUT] >= 0)
        receipt->unverifiable |= 1u << FIN_STAGE_EOF;
    return 0;
}

/* 1: references are left; 0: the caller closes the socket. */
static int close_reference(struct fin_handle *handle)
{
    struct fin__core *core = handle->core;
    int result = -ECANCELED;

    fin__core_lock(core);
    if (!handle->closed) {
        handle->closed = true;
        result = --core->references > 0;
        if (result == 0)
            core->state = FIN__HANDLE_CLOSING;
        if (fin__is_marked(handle->wake, handle->mark))
            (void) eventfd_write(handle->wake, 1);
    }
    fin__core_unlock(core);
    return result;
}

int fin_handle_close(struct fin_handle *handle, struct fin_kernel *kernel,
                     const struct fin_policy *policy, struct fin_receipt *receipt)
{
    FIN__UNCANCELLED;
    struct fin_receipt unwanted = FIN_RECEIPT_INIT;
    int result;

    policy = fin__policy_or_default(policy);
    receipt = receipt ? receipt : &unwanted;
    result = fin__policy_check(policy);
    if (result < 0)
        return result;
    if (!handle || !fin__receipt_fits(receipt))
        return -EINVAL;
    if (kernel && fin__kernel_check(kernel) < 0)
        return -ECHILD;
    result = close_reference(handle);
    return result == 0 ? close_socket(handle->core, kernel, policy, receipt) : result;
}
