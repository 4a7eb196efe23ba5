/* SPDX-License-Identifier: MIT */

#include "base/fork.h"

#include <errno.h>
#include <stddef.h>
#include <sys/mman.h>
#include <unistd.h>

static size_t page_size(void)
{
    return (size_t) sysconf(_SC_PAGESIZE);
}

static unsigned char *map_page(void)
{
    unsigned char *page =
        mmap(NULL, page_size(), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    if (page == MAP_FAILED)
        return NULL;
    if (madvise(page, page_size(), MADV_WIPEONFORK) < 0) {
        (void) munmap(page, page_size());
        return NULL;
    }
    *page = 1;
    return page;
}

void fin__fork_guard_init(struct fin__fork_guard *guard)
{
    guard->page = map_page();
    guard->process = getpid();
}

void fin__fork_guard_end(struct fin__fork_guard *guard)
{
    if (guard->page)
        (void) munmap(guard->page, page_size());
    guard->page = NULL;
}

int fin__fork_check(const struct fin__fork_guard *guard)
{
    if (guard->page)
        return *guard->page ? 0 : -ECHILD;
    return guard->process == getpid() ? 0 : -ECHILD;
}
