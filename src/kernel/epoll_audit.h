/* SPDX-License-Identifier: MIT */

/* Stale entries of epoll sets: what epoll_audit.c and epoll_heal.c share. */

#ifndef FIN_EPOLL_AUDIT_H
#define FIN_EPOLL_AUDIT_H

#include "kernel/fdinfo.h"
#include "kernel/proc.h"

#include <finack.h>

/* A stale entry and where it is among those of its set. */
struct fin__target {
    struct fin__entry entry;
    int32_t owner;   /* process or thread with the descriptor table, as kcmp(2) knows it */
    int32_t set;     /* the set's descriptor there */
    uint32_t offset; /* entries before it that have the same number */
};

/* Does descriptor `fd` of `pid` refer to what the entry does? 1, 0, or a negative errno if the
 * kernel won't compare. */
int fin__target_is(const struct fin__target *target, int32_t pid, int32_t fd);

/* Finds the entry that `stale` describes, of a set of the calling thread. Returns 0 or a negative
 * errno: -ENOENT if it is gone or is not stale. */
int fin__target_find(const struct fin_stale *stale, struct fin__target *target);

/* How many entries before each one have its number: that is how kcmp(2) counts. `offset` has room
 * for `count`, which is 1 or more. Returns 0 or -ENOMEM. */
int fin__offsets(const struct fin__entry *entry, size_t count, uint32_t *offset);

/* Might descriptor `fd` in the folder `fds`, that of `pid`, be what the entry refers to? */
bool fin__target_fits(const struct fin__target *target, const struct fin__folder *fds, int32_t pid,
                      int32_t fd);

#endif
