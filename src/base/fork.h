/* SPDX-License-Identifier: MIT */

/* What a forked child inherits while other threads of its parent may be using it. */

#ifndef FIN_FORK_H
#define FIN_FORK_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

/* A number of this process, below 2^31 and never 0, which none of its descendants has. No system
 * call, but for the first one in a process, where MADV_WIPEONFORK is known (Linux 4.14). */
uint32_t fin__process(void);

/* Tells a forked child from the process that made something. */
struct fin__fork_guard {
    uint32_t process;
};

static inline void fin__fork_guard_init(struct fin__fork_guard *guard)
{
    guard->process = fin__process();
}

/* 0, or -ECHILD in a child. */
int fin__fork_check(const struct fin__fork_guard *guard);

/* A lock that a forked child finds free, also if it was taken at the fork by a thread that the
 * child does not have. All zeros is a lock too: who takes it first inherits it. */
struct fin__lock {
    pthread_mutex_t mutex;
    _Atomic uint32_t process;
};

void fin__lock_init(struct fin__lock *lock);
void fin__lock_end(struct fin__lock *lock);

/* True for the first caller in a forked child (and in a grandchild, if another fork cut that
 * short): what the lock guards may be half changed. */
bool fin__lock_take(struct fin__lock *lock);
void fin__lock_give(struct fin__lock *lock);

#endif
