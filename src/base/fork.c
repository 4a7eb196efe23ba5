/* SPDX-License-Identifier: MIT */

#include "base/fork.h"

#include <errno.h>
#include <sched.h>
#include <stddef.h>
#include <sys/mman.h>
#include <unistd.h>

#define TAKING 0x80000000u /* somebody makes an inherited lock its process's */

/* On a page of its own, which the kernel wipes in a child. Mapped once and never unmapped. */
struct mark {
    _Atomic uint32_t process;
};

static _Atomic(struct mark *) shared;
static struct mark absent; /* such pages are not to be had: getpid(2) must do */
static _Atomic uint32_t last;

static size_t page_size(void)
{
    return (size_t) sysconf(_SC_PAGESIZE);
}

static struct mark *map_mark(void)
{
    void *page =
        mmap(NULL, page_size(), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    if (page == MAP_FAILED)
        return &absent;
    if (madvise(page, page_size(), MADV_WIPEONFORK) == 0)
        return page;
    (void) munmap(page, page_size());
    return &absent;
}

static struct mark *get_mark(void)
{
    struct mark *found = atomic_load(&shared), *made;

    if (found)
        return found;
    made = map_mark();
    if (atomic_compare_exchange_strong(&shared, &found, made))
        return made;
    if (made != &absent)
        (void) munmap(made, page_size());
    return found;
}

/* `last` goes up before the number is taken: a child that is forked in between takes the next. */
uint32_t fin__process(void)
{
    struct mark *mark = get_mark();
    uint32_t seen, next;

    if (mark == &absent)
        return (uint32_t) getpid();
    seen = atomic_load(&mark->process);
    if (seen)
        return seen;
    next = atomic_fetch_add(&last, 1) + 1;
    return atomic_compare_exchange_strong(&mark->process, &seen, next) ? next : seen;
}

int fin__fork_check(const struct fin__fork_guard *guard)
{
    return guard->process == fin__process() ? 0 : -ECHILD;
}

/* ---- the lock ---- */

void fin__lock_init(struct fin__lock *lock)
{
    (void) pthread_mutex_init(&lock->mutex, NULL);
    atomic_store(&lock->process, fin__process());
}

void fin__lock_end(struct fin__lock *lock)
{
    (void) pthread_mutex_destroy(&lock->mutex);
}

bool fin__lock_take(struct fin__lock *lock)
{
    uint32_t self = fin__process(), seen = atomic_load(&lock->process);

    /* Whoever is TAKING is of this process and a few instructions from the end of it: one that was
     * at a fork has another number. */
    while (seen != self) {
        if (seen == (self | TAKING)) {
            (void) sched_yield();
            seen = atomic_load(&lock->process);
        } else if (atomic_compare_exchange_strong(&lock->process, &seen, self | TAKING)) {
            (void) pthread_mutex_init(&lock->mutex, NULL);
            (void) pthread_mutex_lock(&lock->mutex);
            atomic_store(&lock->process, self);
            return true;
        }
    }
    (void) pthread_mutex_lock(&lock->mutex);
    return false;
}

void fin__lock_give(struct fin__lock *lock)
{
    (void) pthread_mutex_unlock(&lock->mutex);
}
