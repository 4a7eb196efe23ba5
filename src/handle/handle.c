/* SPDX-License-Identifier: MIT */

#include "handle/handle.h"

#include "base/alloc.h"
#include "base/descriptor.h"
#include "close/endpoint.h"
#include "handle/dead.h"

#include <errno.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

static void lock(struct fin__core *core)
{
    (void) pthread_mutex_lock(&core->lock);
}

static void unlock(struct fin__core *core)
{
    (void) pthread_mutex_unlock(&core->lock);
}

/* ---- making ---- */

/* What fin_close() would refuse is refused now, while there is a caller to keep it. */
static int check(int fd)
{
    struct fin_policy policy = FIN_POLICY_INIT;
    struct fin_kernel kernel;
    struct fin__endpoint ep;
    int result;

    fin__kernel_begin(&kernel);
    result = fin__endpoint_examine(&kernel, fd, NULL, &policy, &ep);
    fin__kernel_end(&kernel);
    if (result == 0 && !(ep.traits & FIN__SOCKET))
        return -EOPNOTSUPP;
    return result;
}

static int make_core(int fd, struct fin__core **ret)
{
    struct fin__core *core = fin__alloc(sizeof *core);
    pthread_condattr_t attributes;

    if (!core)
        return -ENOMEM;
    core->dead = fin__dead_take();
    if (core->dead < 0) {
        int result = core->dead;

        fin__free(core);
        return result;
    }
    core->fd = fd;
    core->process = getpid();
    (void) pthread_mutex_init(&core->lock, NULL);
    (void) pthread_condattr_init(&attributes);
    (void) pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    (void) pthread_cond_init(&core->left, &attributes);
    (void) pthread_condattr_destroy(&attributes);
    *ret = core;
    return 0;
}

static void free_core(struct fin__core *core)
{
    (void) pthread_cond_destroy(&core->left);
    (void) pthread_mutex_destroy(&core->lock);
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
    *ret = handle;
    return 0;
}

static void free_handle(struct fin_handle *handle)
{
    fin__drop(&handle->wake);
    fin__free(handle);
}

static void attach(struct fin_handle *handle, struct fin__core *core)
{
    handle->core = core;
    core->references++;
    core->objects++;
}

int fin_handle_new(int fd, struct fin_handle **ret)
{
    struct fin_handle *handle = NULL;
    struct fin__core *core = NULL;
    int result = ret ? check(fd) : -EINVAL;

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
    struct fin_handle *copy = NULL;
    int result;

    if (!handle || !ret)
        return -EINVAL;
    result = make_handle(&copy);
    if (!copy)
        return result;
    lock(handle->core);
    if (handle->closed)
        result = -ECANCELED;
    else
        attach(copy, handle->core);
    unlock(handle->core);
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

    lock(core);
    if (!handle->closed) {
        handle->inside++;
        core->inside++;
        core->foreign += foreign;
        result = core->fd;
    }
    unlock(core);
    return result;
}

bool fin__handle_is_closed(struct fin_handle *handle)
{
    bool closed;

    lock(handle->core);
    closed = handle->closed;
    unlock(handle->core);
    return closed;
}

/* A freed reference lives on until the threads inside have left it. Called with the lock, which is
 * given back. */
static void unlock_and_reap(struct fin_handle *handle)
{
    struct fin__core *core = handle->core;
    bool dead = handle->freed && handle->inside == 0;
    bool last = dead && --core->objects == 0;

    unlock(core);
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

    lock(core);
    closed = handle->closed;
    handle->inside--;
    core->inside--;
    core->foreign -= foreign;
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
    int saved = errno;

    if (handle)
        (void) fin__handle_leave(handle, true);
    errno = saved;
}

struct fin_handle *fin_handle_free(struct fin_handle *handle)
{
    struct fin_policy policy = FIN_POLICY_INIT;
    struct fin_receipt receipt = FIN_RECEIPT_INIT;

    if (!handle)
        return NULL;
    policy.courtesy = FIN_COURTESY_PROMPT;
    policy.proof = FIN_STAGE_RELEASED;
    (void) fin_handle_close(handle, NULL, &policy, &receipt);
    lock(handle->core);
    handle->freed = true;
    unlock_and_reap(handle);
    return NULL;
}
