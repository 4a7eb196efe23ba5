/* SPDX-License-Identifier: MIT */

#include "sockets/epoll_set.h"

#include "common/procfs.h"
#include "kernel/fdinfo.h"
#include "kernel/proc.h"
#include "kernel/witness.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/kcmp.h>
#include <search.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

/* ---- fdinfo ---- */

/* What the lines of a set are given to. */
struct reading {
    uint64_t sockfs;
    int (*take)(struct reading *r, const struct fin__entry *entry);
    int result; /* of the last take() */
    /* Collecting suspects: */
    struct scan *found;
    struct reference *own;
    size_t count;
    /* Looking at them again: */
    struct stale_entry *suspects; /* sorted */
    size_t suspected;
};

/* Of what the set has, only sockets. */
static void take_entry(const struct fin__entry *entry, void *arg)
{
    struct reading *r = arg;

    if (r->result == 0 && entry->device == r->sockfs && !fin__witness_owns(entry->events))
        r->result = r->take(r, entry);
}

static int read_entries(struct reading *r, int fds, int32_t set)
{
    char path[32];
    int fd;

    snprintf(path, sizeof path, "../fdinfo/%d", set);
    fd = openat(fds, path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return errno == ENOENT || errno == ESRCH ? 0 : -errno;
    (void) fin__fdinfo_read(fd, take_entry, r); /* less of it if the process ends */
    close(fd);
    return r->result;
}

/* ---- which are stale ---- */

static int by_number(const void *key, const void *element)
{
    int32_t fd = *(const int32_t *) key;
    const struct reference *reference = element;

    return fd < reference->fd ? -1 : fd > reference->fd;
}

static int suspect(struct reading *r, const struct fin__entry *entry)
{
    struct reference *own =
        r->count ? bsearch(&entry->fd, r->own, r->count, sizeof *r->own, by_number) : NULL;
    struct scan *found = r->found;

    if (own && own->inode == entry->inode) {
        own->watched = true;
        return 0;
    }
    return list_add(&found->stales,
                    (struct stale_entry) {
                        .inode = entry->inode,
                        .data = entry->data,
                        .set = found->sets.count,
                        .fd = entry->fd,
                        .events = entry->events,
                    });
}

int epoll_set_read(int fds, int32_t set, struct reference *own, size_t count, struct scan *found)
{
    struct reading r = {
        .sockfs = found->sockfs,
        .take = suspect,
        .found = found,
        .own = own,
        .count = count,
    };

    return read_entries(&r, fds, set);
}

/* ---- a second look ---- */

static int by_entry(const void *a, const void *b)
{
    const struct stale_entry *x = a, *y = b;

    if (x->fd != y->fd)
        return x->fd < y->fd ? -1 : 1;
    return x->inode < y->inode ? -1 : x->inode > y->inode;
}

/* Marks a suspect that is still in the set. */
static int confirm(struct reading *r, const struct fin__entry *entry)
{
    struct stale_entry key = { .fd = entry->fd, .inode = entry->inode }, *found;

    found = bsearch(&key, r->suspects, r->suspected, sizeof key, by_entry);
    if (found)
        found->seen = true;
    return 0;
}

/* Is the number another file, or closed, at this moment? */
static bool is_other(const struct fin__folder *fds, struct stale_entry *entry)
{
    struct fin__link link;

    entry->reused = fin__link_read(fds, entry->fd, &link) == 0;
    return !entry->reused || link.kind != FIN__LINK_SOCKET || link.inode != entry->inode;
}

/* Marks the entries that are still in the set although their numbers were seen to be other
 * files. */
static int look_again(const struct scan *scan, const struct epoll_set *set,
                      struct stale_entry *suspects, size_t count)
{
    struct reading r = { .sockfs = scan->sockfs, .take = confirm, .suspects = suspects };
    struct fin__folder fds;
    int result;

    result = fin__fds_open(&fds, scan->processes.at[set->process].pid);
    if (result < 0)
        return result == -EMFILE || result == -ENFILE ? result : 0;
    for (size_t i = 0; i < count; i++)
        if (is_other(&fds, &suspects[i]))
            suspects[r.suspected++] = suspects[i];
    if (r.suspected) {
        qsort(suspects, r.suspected, sizeof *suspects, by_entry);
        result = read_entries(&r, fds.fd, set->fd);
    }
    /* The others have no meaning any more. */
    for (size_t i = r.suspected; i < count; i++)
        suspects[i].seen = false;
    fin__folder_close(&fds);
    return result == -EACCES ? 0 : result;
}

/* The entries of a set lie side by side. */
static int look_again_at_all(struct scan *scan)
{
    struct stale_entry *at = scan->stales.at;
    size_t count = scan->stales.count, next, kept = 0;
    int result = 0;

    for (size_t i = 0; i < count && result == 0; i = next) {
        for (next = i + 1; next < count && at[next].set == at[i].set; next++)
            ;
        result = look_again(scan, &scan->sets.at[at[i].set], at + i, next - i);
    }
    for (size_t i = 0; i < count; i++)
        if (at[i].seen)
            at[kept++] = at[i];
    scan->stales.count = kept;
    return result;
}

/* ---- sets that several processes have ---- */

/* Ticks after boot, UINT64_MAX if it is gone. */
static uint64_t start_of(int32_t pid)
{
    enum {
        STARTTIME = 22
    };
    char text[STAT_SIZE];
    const char *field = stat_field(pid, STARTTIME, text);

    return field ? strtoull(field, NULL, 10) : UINT64_MAX;
}

/* A set in the tree of those that differ. */
struct shared_set {
    struct epoll_set *set;
    uint64_t start; /* of the process */
    int32_t pid;
    bool compared; /* kcmp(2) may compare what the process has */
};

static long compare_files(const struct shared_set *a, const struct shared_set *b)
{
    return syscall(SYS_kcmp, a->pid, b->pid, KCMP_FILE, (long) a->set->fd, (long) b->set->fd);
}

/* The kernel has an order of descriptions: with that each set is looked for in a tree, however many
 * there are. Where it won't say, the same number is taken for the same set: fork keeps it. */
static int by_file(const void *x, const void *y)
{
    const struct shared_set *a = x, *b = y;
    long order = a->compared && b->compared ? compare_files(a, b) : -1;

    if (order >= 0)
        return order == 0 ? 0 : order == 1 ? -1 : 1;
    return a->set->fd < b->set->fd ? -1 : a->set->fd > b->set->fd;
}

static bool is_elder(const struct shared_set *a, const struct shared_set *b)
{
    if (a->start != b->start)
        return a->start < b->start;
    return a->pid != b->pid ? a->pid < b->pid : a->set->fd < b->set->fd;
}

static void no_free(void *node)
{
    (void) node;
}

/* Of those that are the same set only the eldest process's counts. */
static int keep_eldest(struct shared_set *sets, size_t count)
{
    void *tree = NULL;
    int result = 0;

    for (size_t i = 0; i < count && result == 0; i++) {
        struct shared_set **node = tsearch(&sets[i], &tree, by_file);

        if (!node) {
            result = -ENOMEM;
        } else if (*node != &sets[i]) {
            bool elder = is_elder(&sets[i], *node);

            (elder ? *node : &sets[i])->set->stales = 0;
            *node = elder ? &sets[i] : *node;
        }
    }
    tdestroy(tree, no_free);
    return result;
}

static int settle_shared(struct scan *scan)
{
    struct shared_set *sets = calloc(scan->sets.count, sizeof *sets);
    int result;

    if (!sets)
        return -ENOMEM;
    for (size_t i = 0; i < scan->sets.count; i++) {
        struct shared_set *s = &sets[i];
        bool first = i == 0 || s[-1].set->process != scan->sets.at[i].process;

        s->set = &scan->sets.at[i];
        s->pid = scan->processes.at[s->set->process].pid;
        s->start = first ? start_of(s->pid) : s[-1].start;
        s->compared = first ? compare_files(s, s) == 0 : s[-1].compared;
    }
    result = keep_eldest(sets, scan->sets.count);
    free(sets);
    return result;
}

int epoll_sets_settle(struct scan *scan)
{
    size_t kept = 0;
    int result;

    if (scan->stales.count == 0)
        return 0;
    result = settle_shared(scan);
    if (result < 0)
        return result;
    for (size_t i = 0; i < scan->stales.count; i++)
        if (scan->sets.at[scan->stales.at[i].set].stales > 0)
            scan->stales.at[kept++] = scan->stales.at[i];
    scan->stales.count = kept;
    return look_again_at_all(scan);
}
