/* SPDX-License-Identifier: MIT */

#include "kernel/kernel.h"

#include "base/alloc.h"
#include "base/cancel.h"
#include "base/errors.h"
#include "base/mark.h"

#include <errno.h>
#include <sys/epoll.h>

static void kernel_clear(struct fin_kernel *kernel)
{
    *kernel = (struct fin_kernel) {
        .witness = FIN__WITNESS_INIT,
        .diag = FIN__DIAG_INIT,
        .wait_set = -1,
    };
}

void fin__kernel_begin(struct fin_kernel *kernel)
{
    kernel_clear(kernel);
    kernel->on_demand = true;
}

void fin__kernel_end(struct fin_kernel *kernel)
{
    fin__diag_close(&kernel->diag);
    fin__witness_close(&kernel->witness);
    fin__drop_marked(&kernel->wait_set, kernel->wait_mark);
}

int fin__kernel_check(const struct fin_kernel *kernel)
{
    return kernel->on_demand ? 0 : fin__fork_check(&kernel->guard);
}

static int open_wait_set(struct fin_kernel *kernel)
{
    kernel->wait_set = epoll_create1(EPOLL_CLOEXEC);
    if (kernel->wait_set < 0)
        return -errno;
    kernel->wait_mark = kernel->on_demand ? FIN__UNMARKED : fin__mark_new(kernel->wait_set);
    return 0;
}

static int open_parts(struct fin_kernel *kernel)
{
    int result = open_wait_set(kernel);

    if (!fin__is_lack(result))
        result = fin__witness_open(&kernel->witness);
    if (!fin__is_lack(result))
        result = fin__diag_open(&kernel->diag);
    return fin__is_lack(result) ? result : 0;
}

int fin_kernel_new(struct fin_kernel **ret)
{
    FIN__UNCANCELLED;
    struct fin_kernel *kernel;
    int result;

    if (!ret)
        return -EINVAL;
    kernel = fin__alloc(sizeof *kernel);
    if (!kernel)
        return -ENOMEM;
    kernel_clear(kernel);
    fin__fork_guard_init(&kernel->guard);
    result = open_parts(kernel);
    if (result < 0) {
        (void) fin_kernel_free(kernel);
        return result;
    }
    *ret = kernel;
    return 0;
}

struct fin_kernel *fin_kernel_free(struct fin_kernel *kernel)
{
    FIN__UNCANCELLED;

    if (!kernel)
        return NULL;
    fin__kernel_end(kernel);
    fin__free(kernel);
    return NULL;
}

int fin__kernel_need_wait_set(struct fin_kernel *kernel)
{
    if (kernel->wait_set < 0 && kernel->on_demand)
        return open_wait_set(kernel);
    return fin__is_marked(kernel->wait_set, kernel->wait_mark) ? 0 : -EBADF;
}

int fin__kernel_need_witness(struct fin_kernel *kernel)
{
    if (kernel->witness.set >= 0)
        return 0;
    return kernel->on_demand ? fin__witness_open_for_one(&kernel->witness) : -EBADF;
}

int fin__kernel_need_diag(struct fin_kernel *kernel)
{
    if (kernel->diag.socket)
        return 0;
    return kernel->on_demand ? fin__diag_open(&kernel->diag) : -EBADF;
}
