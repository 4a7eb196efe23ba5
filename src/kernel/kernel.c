/* SPDX-License-Identifier: MIT */

#include "kernel/kernel.h"

#include "base/alloc.h"
#include "base/descriptor.h"

#include <errno.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <unistd.h>

static void clear(struct fin_kernel *kernel)
{
    *kernel = (struct fin_kernel) {
        .witness = FIN__WITNESS_INIT,
        .diag = FIN__DIAG_INIT,
        .wait_set = -1,
    };
}

void fin__kernel_begin(struct fin_kernel *kernel)
{
    clear(kernel);
    kernel->on_demand = true;
}

void fin__kernel_end(struct fin_kernel *kernel)
{
    fin__diag_close(&kernel->diag);
    fin__witness_close(&kernel->witness);
    fin__drop(&kernel->wait_set);
}

/* A page that madvise(2) has wiped in a child tells of a fork without a system call per close. */
static unsigned char *map_fork_page(void)
{
    size_t size = (size_t) sysconf(_SC_PAGESIZE);
    unsigned char *page =
        mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    if (page == MAP_FAILED)
        return NULL;
    if (madvise(page, size, MADV_WIPEONFORK) < 0) {
        (void) munmap(page, size);
        return NULL;
    }
    *page = 1;
    return page;
}

static void unmap_fork_page(unsigned char *page)
{
    if (page)
        (void) munmap(page, (size_t) sysconf(_SC_PAGESIZE));
}

int fin__kernel_check(const struct fin_kernel *kernel)
{
    bool ours = kernel->on_demand || (kernel->page ? *kernel->page : kernel->process == getpid());

    return ours ? 0 : -ECHILD;
}

static int open_wait_set(struct fin_kernel *kernel)
{
    kernel->wait_set = epoll_create1(EPOLL_CLOEXEC);
    return kernel->wait_set < 0 ? -errno : 0;
}

/* What a lack of descriptors or memory keeps from us is an error while there is time to act on it;
 * what this system does not have is not. */
static bool is_lack(int result)
{
    return result == -EMFILE || result == -ENFILE || result == -ENOMEM;
}

static int open_parts(struct fin_kernel *kernel)
{
    int result = open_wait_set(kernel);

    if (!is_lack(result))
        result = fin__witness_open(&kernel->witness);
    if (!is_lack(result))
        result = fin__diag_open(&kernel->diag);
    return is_lack(result) ? result : 0;
}

int fin_kernel_new(struct fin_kernel **ret)
{
    struct fin_kernel *kernel;
    int result;

    if (!ret)
        return -EINVAL;
    kernel = fin__alloc(sizeof *kernel);
    if (!kernel)
        return -ENOMEM;
    clear(kernel);
    kernel->page = map_fork_page();
    kernel->process = getpid();
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
    if (!kernel)
        return NULL;
    fin__kernel_end(kernel);
    unmap_fork_page(kernel->page);
    fin__free(kernel);
    return NULL;
}

int fin__kernel_need_wait_set(struct fin_kernel *kernel)
{
    if (kernel->wait_set >= 0)
        return 0;
    return kernel->on_demand ? open_wait_set(kernel) : -EBADF;
}

int fin__kernel_need_witness(struct fin_kernel *kernel)
{
    if (kernel->witness.set >= 0)
        return 0;
    return kernel->on_demand ? fin__witness_open(&kernel->witness) : -EBADF;
}

int fin__kernel_need_diag(struct fin_kernel *kernel)
{
    if (kernel->diag.socket)
        return 0;
    return kernel->on_demand ? fin__diag_open(&kernel->diag) : -EBADF;
}
