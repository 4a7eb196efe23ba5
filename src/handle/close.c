/* SPDX-License-Identifier: MIT */

#include "base/clock.h"
#include "base/descriptor.h"
#include "close/blocking.h"
#include "close/policy.h"
#include "handle/handle.h"
#include "kernel/kernel.h"

#include <errno.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

struct closing {
    struct fin__core *core;
    const struct fin_policy *policy;
    bool descriptor_only;
    bool shut;      /* to wake threads in calls of their own */
    bool tombstone; /* on the number */
    uint64_t start, deadline;
};

/* ---- getting the threads out ---- */

/* An eventfd is shared with forked children, which must not wake our threads. */
static void wake_own(const struct fin_handle *handle)
{
    if (handle->core->process == getpid())
        (void) eventfd_write(handle->wake, 1);
}

static bool foreign_inside(struct fin__core *core)
{
    bool inside;

    (void) pthread_mutex_lock(&core->lock);
    inside = core->foreign > 0;
    (void) pthread_mutex_unlock(&core->lock);
    return inside;
}

/* Nothing else wakes a thread that is in a system call on the socket. Also where it says ENOTCONN,
 * as for UDP (inet_shutdown()). */
static void wake_foreign(struct closing *c)
{
    int on = 1;

    if (c->shut || c->descriptor_only || !foreign_inside(c->core))
        return;
    if (c->policy->rebindable) /* before FIN, see fin_policy */
        (void) setsockopt(c->core->fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    (void) shutdown(c->core->fd, SHUT_RDWR);
    c->shut = true;
}

/* With scope descriptor a thread in a call of its own goes on with what it does, so that there is
 * nothing to wait for. */
static unsigned awaited(const struct closing *c)
{
    return c->core->inside - (c->descriptor_only ? c->core->foreign : 0);
}

/* Called with the lock. */
static void await_leavers(const struct closing *c)
{
    struct timespec end = { (time_t) (c->deadline / FIN__NS_PER_S),
                            (long) (c->deadline % FIN__NS_PER_S) };
    int result = 0;

    while (awaited(c) > 0 && result == 0)
        result = pthread_cond_timedwait(&c->core->left, &c->core->lock, &end);
}

static void clear_out(struct closing *c)
{
    wake_foreign(c);
    (void) pthread_mutex_lock(&c->core->lock);
    await_leavers(c);
    (void) pthread_mutex_unlock(&c->core->lock);
}

/* ---- the close ---- */

/* Called with the lock: a thread that leaves must find either nothing or the tombstone. */
static int entomb(struct closing *c)
{
    int result = fin__entomb(c->core->dead, c->core->fd);

    c->tombstone = result == 0;
    c->core->state = FIN__HANDLE_ENTOMBED;
    return result;
}

static int release(void *arg, int fd)
{
    struct closing *c = arg;
    bool empty;
    int result = 0;

    clear_out(c);
    (void) pthread_mutex_lock(&c->core->lock);
    empty = c->core->inside == 0;
    if (empty)
        c->core->state = FIN__HANDLE_CLOSED;
    else
        result = entomb(c);
    (void) pthread_mutex_unlock(&c->core->lock);
    return empty ? fin__release(fd) : result;
}

/* The number is not what it was, or may not be looked at any more: nothing is known, and it must
 * not stay open for ever. */
static void give_up(struct closing *c, int error)
{
    if (error != -EBADF) {
        (void) release(c, c->core->fd);
        return;
    }
    (void) pthread_mutex_lock(&c->core->lock);
    c->core->state = FIN__HANDLE_CLOSED;
    (void) pthread_mutex_unlock(&c->core->lock);
}

static bool scope_is_descriptor(int fd, const struct fin_policy *policy)
{
    struct fin__plan plan;
    int listening = 0;
    socklen_t size = sizeof listening;

    (void) getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listening, &size);
    fin__plan_make(policy, listening, &plan);
    return plan.descriptor_only;
}

static int close_socket(struct fin__core *core, struct fin_kernel *kernel,
                        const struct fin_policy *policy, struct fin_receipt *receipt)
{
    struct closing c = { .core = core, .policy = policy, .start = fin__now() };
    struct fin__close_options options = { .requested = c.start, .release = release, .arg = &c };
    int result;

    c.deadline = c.start + (uint64_t) policy->total_ms * FIN__NS_PER_MS;
    c.descriptor_only = scope_is_descriptor(core->fd, policy);
    /* An abort's RST wakes them too, and a FIN before it would tell the peer that all is well. */
    if (policy->courtesy != FIN_COURTESY_ABORT || c.descriptor_only)
        clear_out(&c);
    options.input_shut = c.shut;
    result = fin__close(kernel, core->fd, NULL, policy, &options, receipt);
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

    (void) pthread_mutex_lock(&core->lock);
    if (!handle->closed) {
        handle->closed = true;
        result = --core->references > 0;
        if (result == 0)
            core->state = FIN__HANDLE_CLOSING;
        wake_own(handle);
    }
    (void) pthread_mutex_unlock(&core->lock);
    return result;
}

int fin_handle_close(struct fin_handle *handle, struct fin_kernel *kernel,
                     const struct fin_policy *policy, struct fin_receipt *receipt)
{
    int result = fin__policy_check(policy);

    if (result < 0)
        return result;
    if (!handle || !receipt || receipt->size != sizeof *receipt)
        return -EINVAL;
    if (kernel && fin__kernel_check(kernel) < 0)
        return -ECHILD;
    result = close_reference(handle);
    return result == 0 ? close_socket(handle->core, kernel, policy, receipt) : result;
}
