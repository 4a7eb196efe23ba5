/* SPDX-License-Identifier: MIT */

#include "kernel/epoll_audit.h"

#include "base/alloc.h"
#include "base/cancel.h"
#include "base/descriptor.h"
#include "kernel/witness.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/kcmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define FIRST_ROOM 64

/* ---- a set ---- */

struct set {
    struct fin__entry *entry;
    uint32_t *offset; /* of each entry */
    size_t count, room;
    int result;
};

/* A copy of `old` with room for `room` elements, or NULL; `old` is freed then. */
static void *enlarge(void *old, size_t count, size_t room, size_t size)
{
    void *array = fin__alloc(room * size);

    if (!array)
        return NULL;
    if (count)
        memcpy(array, old, count * size);
    fin__free(old);
    return array;
}

static void keep_entry(const struct fin__entry *entry, void *arg)
{
    struct set *set = arg;
    struct fin__entry *array;

    if (set->result == 0 && set->count == set->room) {
        size_t room = set->room ? set->room * 2 : FIRST_ROOM;

        array = enlarge(set->entry, set->count, room, sizeof *array);
        if (array)
            set->entry = array;
        set->room = array ? room : set->room;
        set->result = array ? 0 : -ENOMEM;
    }
    if (set->result == 0)
        set->entry[set->count++] = *entry;
}

static int by_key(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *) a, y = *(const uint64_t *) b;

    return x < y ? -1 : x > y;
}

int fin__offsets(const struct fin__entry *entry, size_t count, uint32_t *offset)
{
    uint64_t *key = fin__alloc(count * sizeof *key); /* number, then place */

    if (!key)
        return -ENOMEM;
    for (size_t i = 0; i < count; i++)
        key[i] = (uint64_t) (uint32_t) entry[i].fd << 32 | (uint32_t) i;
    qsort(key, count, sizeof *key, by_key);
    for (size_t i = 0; i < count; i++) {
        bool same = i > 0 && key[i] >> 32 == key[i - 1] >> 32;

        offset[(uint32_t) key[i]] = same ? offset[(uint32_t) key[i - 1]] + 1 : 0;
    }
    fin__free(key);
    return 0;
}

static int number_entries(struct set *set)
{
    if (!set->count)
        return 0;
    set->offset = fin__alloc(set->count * sizeof *set->offset);
    return set->offset ? fin__offsets(set->entry, set->count, set->offset) : -ENOMEM;
}

static int read_set(const struct fin__folder *fds, int32_t number, struct set *set)
{
    char path[32];
    int fdinfo, result;

    *set = (struct set) { 0 };
    (void) snprintf(path, sizeof path, "../fdinfo/%d", number);
    fdinfo = openat(fds->fd, path, O_RDONLY | O_CLOEXEC);
    if (fdinfo < 0)
        return -errno;
    result = fin__fdinfo_read(fdinfo, keep_entry, set);
    fin__drop(&fdinfo);
    result = result < 0 ? result : set->result;
    return result < 0 ? result : number_entries(set);
}

static void free_set(struct set *set)
{
    fin__free(set->entry);
    fin__free(set->offset);
}

/* ---- an entry ---- */

int fin__target_is(const struct fin__target *target, int32_t pid, int32_t fd)
{
    struct kcmp_epoll_slot slot = {
        .efd = (uint32_t) target->set,
        .tfd = (uint32_t) target->entry.fd,
        .toff = target->offset,
    };
    long order = syscall(SYS_kcmp, pid, target->owner, KCMP_EPOLL_TFD, (unsigned long) fd, &slot);

    return order < 0 ? -errno : order == 0;
}

/* What a descriptor refers to, as far as somebody has asked: each question is a system call. */
struct descriptor {
    const struct fin__folder *fds;
    int32_t pid, fd;
    struct fin__link link;
    struct fin__object object;
    bool is_known; /* the object */
    int result;
};

static struct descriptor look_at(const struct fin__folder *fds, int32_t pid, int32_t fd)
{
    struct descriptor d = { .fds = fds, .pid = pid, .fd = fd };

    d.result = fin__link_read(fds, fd, &d.link);
    return d;
}

static bool fits(const struct fin__target *target, struct descriptor *d)
{
    if (d->result < 0 || (d->link.inode && d->link.inode != target->entry.inode))
        return false;
    if (!d->is_known)
        d->result = fin__object_read(d->fds, d->fd, &d->object);
    d->is_known = true;
    return d->result == 0 && d->object.inode == target->entry.inode
        && d->object.device == target->entry.device
        && (S_ISSOCK(d->object.mode) || fin__target_is(target, d->pid, d->fd) != 0);
}

bool fin__target_fits(const struct fin__target *target, const struct fin__folder *fds, int32_t pid,
                      int32_t fd)
{
    struct descriptor d = look_at(fds, pid, fd);

    return fits(target, &d);
}

/* A socket has an inode to itself. Others share one (both ends of a pipe, all of eventfd, timerfd
 * and so on): there the kernel must be asked, and if it won't say the entry counts as live. */
static bool is_stale(const struct set *set, size_t index, const struct fin__folder *fds,
                     struct fin__target *target)
{
    struct fin__object object;
    int result = fin__object_read(fds, target->entry.fd, &object);

    if (target->entry.inode == 0 || (result < 0 && result != -ENOENT))
        return false;
    if (result == 0 && object.inode == target->entry.inode
        && object.device == target->entry.device) {
        if (S_ISSOCK(object.mode))
            return false;
        target->offset = set->offset[index];
        return fin__target_is(target, target->owner, target->entry.fd) == 0;
    }
    target->offset = set->offset[index];
    return true;
}

static bool is_described(const struct fin__entry *entry, const struct fin_stale *stale)
{
    return entry->fd == stale->fd && entry->inode == stale->inode && entry->data == stale->data;
}

int fin__target_find(const struct fin_stale *stale, struct fin__target *target)
{
    struct fin__folder fds;
    struct set set;
    int result = fin__fds_open(&fds, 0);
    bool found = false;

    if (result < 0)
        return result;
    result = read_set(&fds, stale->epoll_fd, &set);
    for (size_t i = 0; i < set.count && result == 0 && !found; i++) {
        *target = (struct fin__target) { set.entry[i], fin__own_thread(), stale->epoll_fd, 0 };
        found = is_described(&set.entry[i], stale) && is_stale(&set, i, &fds, target);
    }
    free_set(&set);
    fin__folder_close(&fds);
    if (result == 0 && !found)
        result = -ENOENT;
    return result;
}

/* ---- the audit ---- */

struct audit {
    struct fin__folder fds;
    int32_t pid;   /* as reported */
    int32_t owner; /* as kcmp(2) wants it */
    struct fin_stale *list;
    size_t max;
    size_t found;
    struct fin__target *target; /* of each in the list, to find the holders */
    size_t room;
    size_t unresolved;
};

static int keep_target(struct audit *a, const struct fin__target *target)
{
    struct fin__target *array;
    size_t room = a->room ? a->room * 2 : FIRST_ROOM;

    if (a->found == a->room) {
        array = enlarge(a->target, a->found, room, sizeof *array);
        if (!array)
            return -ENOMEM;
        a->target = array;
        a->room = room;
    }
    a->target[a->found] = *target;
    return 0;
}

static int epoll_audit_report(struct audit *a, const struct fin__target *target)
{
    const struct fin__entry *entry = &target->entry;
    int result;

    if (a->found < a->max) {
        result = keep_target(a, target);
        if (result < 0)
            return result;
        a->list[a->found] = (struct fin_stale) {
            .pid = a->pid,
            .epoll_fd = target->set,
            .fd = entry->fd,
            .events = entry->events,
            .data = entry->data,
            .inode = entry->inode,
        };
        a->unresolved++;
    }
    a->found++;
    return 0;
}

static int audit_set(struct audit *a, int32_t number)
{
    struct set set;
    int result = read_set(&a->fds, number, &set);

    for (size_t i = 0; i < set.count && result == 0; i++) {
        struct fin__target target = { set.entry[i], a->owner, number, 0 };

        if (fin__witness_owns(set.entry[i].events))
            continue;
        if (is_stale(&set, i, &a->fds, &target))
            result = epoll_audit_report(a, &target);
    }
    free_set(&set);
    return result == -ENOENT ? 0 : result; /* closed meanwhile */
}

static int audit_all(struct audit *a)
{
    struct fin__link link;
    int32_t number;
    int result;

    while ((result = fin__folder_next(&a->fds, &number)) > 0) {
        result = fin__link_read(&a->fds, number, &link);
        if (result == 0 && link.kind == FIN__LINK_EPOLL)
            result = audit_set(a, number);
        if (result < 0 && result != -ENOENT)
            return result == -EPERM ? -EACCES : result;
    }
    return result == -ENOENT ? -ESRCH : result;
}

static void resolve(struct audit *a, const struct fin__folder *fds, int32_t pid, int32_t fd)
{
    size_t kept = a->found < a->max ? a->found : a->max;
    struct descriptor d = look_at(fds, pid, fd);

    for (size_t i = 0; i < kept && d.result == 0; i++) {
        if (a->list[i].holder_pid || !fits(&a->target[i], &d))
            continue;
        a->list[i].holder_pid = pid;
        a->list[i].holder_fd = fd;
        a->unresolved--;
    }
}

static int find_holders(struct fin__folder *fds, int32_t pid, void *arg)
{
    struct audit *a = arg;
    int32_t fd;
    int result = 0;

    while (a->unresolved && (result = fin__folder_next(fds, &fd)) > 0)
        resolve(a, fds, pid, fd);
    return a->unresolved ? result : 1;
}

/* The audited process first: there the program itself can act. */
static int find_all_holders(struct audit *a)
{
    struct fin__folder fds;
    uint32_t unreadable = 0;
    int result;

    if (!a->unresolved)
        return 0;
    result = fin__fds_open(&fds, a->pid == getpid() ? 0 : a->pid);
    if (result == 0) {
        (void) find_holders(&fds, a->pid, a);
        fin__folder_close(&fds);
    }
    result = 0;
    if (a->unresolved)
        result = fin__proc_walk(find_holders, a, UINT64_MAX, &unreadable);
    return result < 0 ? result : 0;
}

int fin_epoll_audit(int pid, struct fin_stale *list, size_t max)
{
    FIN__UNCANCELLED;
    bool own = pid == 0 || pid == getpid();
    struct audit a = { .list = list, .max = max };
    int result;

    if (pid < 0 || (!list && max))
        return -EINVAL;
    a.pid = own ? getpid() : pid;
    a.owner = own ? fin__own_thread() : pid;
    result = fin__fds_open(&a.fds, own ? 0 : pid);
    if (result < 0)
        return result;
    result = audit_all(&a);
    fin__folder_close(&a.fds);
    if (result == 0)
        result = find_all_holders(&a);
    fin__free(a.target);
    if (result < 0)
        return result;
    return a.found < INT_MAX ? (int) a.found : INT_MAX;
}
