/* SPDX-License-Identifier: MIT */

#include "handle/handle.h"

#include "base/alloc.h"
#include "base/cancel.h"
#include "base/mark.h"
#include "close/endpoint.h"
#include "handle/dead.h"

#include <errno.h>
#include <stdatomic.h>
#include <sys/eventfd.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

/* ---- after a fork ---- */

static void init_left(struct fin__core *core)
{
    pthread_condattr_t attributes;

    (void) pthread_condattr_init(&attributes);
    (void) pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    (void) pthread_cond_init(&core->left, &attributes);
    (void) pthread_condattr_destroy(&attributes);
}

/* The parent's eventfd would wake the parent's threads. Without one the calls wait on the socket
 * alone. */
static void renew_wake(struct fin_handle *handle)
{
    fin__drop_marked(&handle->wake, handle->mark);
    handle->wake = eventfd(handle->closed, EFD_CLOEXEC | EFD_NONBLOCK);
    handle->mark = fin__mark_new(handle->wake);
}

/* Was the number left behind by a close of the parent's? It has the socket still, or the tombstone
 * for threads that are not here. */
static bool is_left_behind(const struct fin__core *core)
{
    struct stat st, dead;

    if (core->state != FIN__HANDLE_CLOSING && core->state != FIN__HANDLE_ENTOMBED)
        return false;
    if (fstat(core->fd, &st) < 0 || fstat(core->dead, &dead) < 0)
        return false;
    return (st.st_ino == core->inode && st.st_dev == core->device)
        || (st.st_ino == dead.st_ino && st.st_dev == dead.st_dev);
}

/* If a thread of the parent was changing the structure at the fork, it may be half changed: the
 * counts are made again from the list, which is consistent after each of its changes. */
static void handle_adopt(struct fin__core *core)
{
    struct fin_handle **link = &core->first;

    init_left(core);
    core->inside = core->foreign = core->references = core->objects = 0;
    for (; *link; link = &(*link)->next) {
        (*link)->link = link;
        (*link)->inside = 0;
        core->objects++;
        core->references += !(*link)->closed;
        renew_wake(*link);
    }
    if (is_left_behind(core))
        (void) fin__release(core->fd);
    if (core->references == 0)
        core->state = FIN__HANDLE_CLOSED;
}

void fin__core_lock(struct fin__core *core)
{
    if (fin__lock_take(&core->lock))
        handle_adopt(core);
}

void fin__core_unlock(struct fin__core *core)
{
    fin__lock_give(&core->lock);
}

/* ---- making ---- */

/* Refuses what fin_close() would refuse, while the caller can still keep it. */
static int handle_check(int fd)
{
    struct fin_kernel kernel;
    struct fin__endpoint ep;
    int result;

    fin__kernel_begin(&kernel);
    result = fin__endpoint_examine(&kernel, fd, NULL, &ep);
    fin__kernel_end(&kernel);
    if (result == 0 && !(ep.traits & FIN__SOCKET))
        return -EOPNOTSUPP;
    return result;
}

static int make_core(int fd, struct fin__core **ret)
{
    struct fin__core *core = fin__alloc(sizeof *core);
    struct stat st = { 0 };

    if (!core)
        return -ENOMEM;
    core->dead = fin__dead_take();
    if (core->dead < 0) {
        int result = core->dead;

        fin__free(core);
        return result;
    }
    core->fd = fd;
    if (fstat(fd, &st) == 0) {
        core->device = st.st_dev;
        core->inode = st.st_ino;
    }
    fin__lock_init(&core->lock);
    init_left(core);
    *ret = core;
    return 0;
}

static void free_core(struct fin__core *core)
{
    (void) pthread_cond_destroy(&core->left);
    fin__lock_end(&core->lock);
    fin__dead_drop();
    fin__free(core);
}

static int make_handle(struct fin_handle **ret)
{
    struct fin_handle *handle = fin__alloc(sizeof *handle);

    if (!handle)
        return -ENOMEM;
    handle->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (handle->wake < 0) {
        int result = -errno;

        fin__free(handle);
        return result;
    }
    handle->mark = fin__mark_new(handle->wake);
    *ret = handle;
    return 0;
}

static void free_handle(struct fin_handle *handle)
{
    fin__drop_marked(&handle->wake, handle->mark);
    fin__free(handle);
}

static void attach(struct fin_handle *handle, struct fin__core *core)
{
    handle->core = core;
    handle->next = core->first;
    handle->link = &core->first;
    if (core->first)
        core->first->link = &handle->next;
    atomic_signal_fence(memory_order_release);
    core->first = handle; /* at once, for a fork at any time */
    core->references++;
    core->objects++;
}

int fin_handle_new(int fd, struct fin_handle **ret)
{
    FIN__UNCANCELLED;
    struct fin_handle *handle = NULL;
    struct fin__core *core = NULL;
    int result = ret ? handle_check(fd) : -EINVAL;

    if (result < 0)
        return result;
    result = make_handle(&handle);
    if (!handle)
        return result;
    result = make_core(fd, &core);
    if (!core) {
        free_handle(handle);
        return result;
    }
    attach(handle, core);
    *ret = handle;
    return 0;
}

int fin_handle_dup_ref(struct fin_handle *handle, struct fin_handle **ret)
{
    FIN__UNCANCELLED;
    struct fin_handle *copy = NULL;
    int result;

    if (!handle || !ret)
        return -EINVAL;
    result = make_handle(&copy);
    if (!copy)
        return result;
    fin__core_lock(handle->core);
    if (handle->closed)
        result = -ECANCELED;
    else
        attach(copy, handle->core);
    fin__core_unlock(handle->core);
    if (result < 0)
        free_handle(copy);
    else
        *ret = copy;
    return result;
}

/* ---- in and out ---- */

int fin__handle_enter(struct fin_handle *handle, bool foreign)
{
    struct fin__core *core = handle->core;
    int result = -ECANCELED;

    fin__core_lock(core);
    if (!handle->closed) {
        handle->inside++;
        core->inside++;
        core->foreign += foreign;
        result = core->fd;
    }
    fin__core_unlock(core);
    return result;
}

void fin__handle_note_unsent(struct fin_handle *handle, uint64_t bytes)
{
    fin__core_lock(handle->core);
    handle->core->unsent += bytes;
    fin__core_unlock(handle->core);
}

uint64_t fin__core_unsent(struct fin__core *core)
{
    uint64_t unsent;

    fin__core_lock(core);
    unsent = core->unsent;
    fin__core_unlock(core);
    return unsent;
}

bool fin__handle_is_closed(struct fin_handle *handle)
{
    bool closed;

    fin__core_lock(handle->core);
    closed = handle->closed;
    fin__core_unlock(handle->core);
    return closed;
}

/* A freed reference lives on until the threads inside have left it. Called with the lock, which is
 * given back. */
static void unlock_and_reap(struct fin_handle *handle)
{
    struct fin__core *core = handle->core;
    bool dead = handle->freed && handle->inside == 0;
    bool last = dead && --core->objects == 0;

    if (dead) {
        *handle->link = handle->next;
        if (handle->next)
            handle->next->link = handle->link;
    }
    fin__core_unlock(core);
    if (dead)
        free_handle(handle);
    if (last)
        free_core(core);
}

bool fin__handle_leave(struct fin_handle *handle, bool foreign)
{
    struct fin__core *core = handle->core;
    bool closed;
    int tombstone = -1;

    fin__core_lock(core);
    closed = handle->closed;
    if (handle->inside > 0) { /* not if the thread entered before a fork */
        handle->inside--;
        core->inside--;
        core->foreign -= foreign;
    }
    if (core->state == FIN__HANDLE_CLOSING)
        (void) pthread_cond_signal(&core->left);
    if (core->state == FIN__HANDLE_ENTOMBED && core->inside == 0) {
        core->state = FIN__HANDLE_CLOSED;
        tombstone = core->fd;
    }
    unlock_and_reap(handle);
    fin__drop(&tombstone);
    return closed;
}

int fin_handle_enter(struct fin_handle *handle)
{
    return handle ? fin__handle_enter(handle, true) : -EINVAL;
}

void fin_handle_leave(struct fin_handle *handle)
{
    FIN__UNCANCELLED;
    int saved = errno;

    if (handle)
        (void) fin__handle_leave(handle, true);
    errno = saved;
}

struct fin_handle *fin_handle_free(struct fin_handle *handle)
{
    FIN__UNCANCELLED;
    struct fin_policy policy = FIN_POLICY_INIT;
    struct fin_receipt receipt = FIN_RECEIPT_INIT;

    if (!handle)
        return NULL;
    policy.courtesy = FIN_COURTESY_PROMPT;
    policy.proof = FIN_STAGE_RELEASED;
    (void) fin_handle_close(handle, NULL, &policy, &receipt);
    fin__core_lock(handle->core);
    handle->freed = true;
    unlock_and_reap(handle);
    return NULL;
}
