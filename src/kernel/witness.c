/* SPDX-License-Identifier: MIT */

#include "kernel/witness.h"

#include "base/mark.h"
#include "kernel/fdinfo.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/kcmp.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <sys/syscall.h>
#include <unistd.h>

/* Nobody waits on a witness, so the events of its entries are free to carry a mark: they outlive
 * their descriptors on purpose, and the epoll audit, also that of another process, must tell them
 * from a program's. */
#define MARK (EPOLLET | EPOLLMSG | EPOLLRDBAND | EPOLLWRBAND)
#define MARK_SHOWN (MARK | EPOLLERR | EPOLLHUP) /* the kernel adds the latter two */

static int open_fdinfo(int set)
{
    /* thread-self, since a thread may have a descriptor table of its own (unshare(CLONE_FILES)). */
    static const char *const formats[] = { "/proc/thread-self/fdinfo/%d", "/proc/self/fdinfo/%d" };
    char path[64];
    int fd = -1;

    for (size_t i = 0; i < 2 && fd < 0; i++) {
        (void) snprintf(path, sizeof path, formats[i], set);
        fd = open(path, O_RDONLY | O_CLOEXEC);
    }
    return fd < 0 ? -errno : fd;
}

int fin__witness_open_for_one(struct fin__witness *w)
{
    int set = epoll_create1(EPOLL_CLOEXEC);

    if (set < 0)
        return -errno;
    *w = (struct fin__witness) FIN__WITNESS_INIT;
    w->set = set;
    return 0;
}

static void mark_both(struct fin__witness *w)
{
    w->mark = fin__mark_new(w->set);
    if (w->mark != FIN__UNMARKED && w->fdinfo >= 0)
        (void) fin__mark(w->fdinfo, w->mark);
}

int fin__witness_open(struct fin__witness *w)
{
    struct fin__witness made = FIN__WITNESS_INIT;
    int result = fin__witness_open_for_one(&made);

    if (result < 0)
        return result;
    made.fdinfo = open_fdinfo(made.set);
    if (made.fdinfo < 0) {
        fin__drop(&made.set);
        return made.fdinfo;
    }
    mark_both(&made);
    *w = made;
    return 0;
}

void fin__witness_close(struct fin__witness *w)
{
    fin__drop_marked(&w->fdinfo, w->mark);
    fin__drop_marked(&w->set, w->mark);
}

/* Does the set still have its number? If not, forgets the open fdinfo file too. */
static bool is_ours(struct fin__witness *w)
{
    uint64_t now = fin__now();

    if (w->set < 0 || now < w->sure)
        return w->set >= 0;
    if (w->fdinfo >= 0 && !fin__is_marked(w->fdinfo, w->mark))
        w->fdinfo = -1;
    if (!fin__is_marked(w->set, w->mark))
        return false;
    w->sure = now + FIN__SURE_NS;
    return true;
}

bool fin__witness_lost(struct fin__witness *w)
{
    if (w->set < 0 || fin__is_marked(w->set, w->mark))
        return false;
    fin__witness_close(w); /* what is ours of it */
    *w = (struct fin__witness) FIN__WITNESS_INIT;
    return true;
}

int fin__witness_add(struct fin__witness *w, int fd, uint64_t token)
{
    struct epoll_event entry = { .events = MARK, .data.u64 = token };

    if (!is_ours(w))
        return -EBADF;
    if (epoll_ctl(w->set, EPOLL_CTL_ADD, fd, &entry) < 0)
        return -errno;
    w->only = w->fdinfo < 0 ? fd : -1;
    return 0;
}

int fin__witness_take_over(struct fin__witness *w, int fd, uint64_t token)
{
    struct epoll_event entry = { .events = MARK, .data.u64 = token };

    return epoll_ctl(w->set, EPOLL_CTL_MOD, fd, &entry) < 0 ? -errno : 0;
}

bool fin__witness_owns(uint32_t events)
{
    return events == MARK_SHOWN;
}

struct visitor {
    void (*visit)(uint64_t token, uint64_t inode, void *arg);
    void *arg;
};

static void pass_on(const struct fin__entry *entry, void *arg)
{
    const struct visitor *visitor = arg;

    visitor->visit(entry->data, entry->inode, visitor->arg);
}

/* fdinfo is bound to the thread that opened it; once that has ended it reads as ENOENT. */
static int reopen(struct fin__witness *w)
{
    int fd = open_fdinfo(w->set);

    if (fd < 0)
        return fd;
    fin__drop_marked(&w->fdinfo, w->mark);
    w->fdinfo = fd;
    if (w->mark != FIN__UNMARKED)
        (void) fin__mark(fd, w->mark);
    return 0;
}

static int read_entries(struct fin__witness *w,
                        void (*visit)(const struct fin__entry *entry, void *arg), void *arg)
{
    int result = fin__fdinfo_read(w->fdinfo, visit, arg);

    if (result < 0 && reopen(w) == 0)
        result = fin__fdinfo_read(w->fdinfo, visit, arg);
    return result;
}

int fin__witness_read(struct fin__witness *w,
                      void (*visit)(uint64_t token, uint64_t inode, void *arg), void *arg)
{
    struct visitor visitor = { visit, arg };

    return is_ours(w) ? read_entries(w, pass_on, &visitor) : -EBADF;
}

static void witness_count(const struct fin__entry *entry, void *arg)
{
    unsigned *count = arg;

    (void) entry;
    ++*count;
}

/* Under the number that it had, which fdinfo goes by too: what a program counts stays as it is. */
static void replace_set(struct fin__witness *w)
{
    int fresh = epoll_create1(EPOLL_CLOEXEC);

    if (fresh < 0) /* no descriptor to be had: the old one serves still */
        return;
    if (w->mark != FIN__UNMARKED)
        (void) fin__mark(fresh, w->mark);
    if (fin__entomb(fresh, w->set) == 0)
        w->stale = 0;
    fin__drop(&fresh);
}

void fin__witness_renew(struct fin__witness *w)
{
    unsigned entries = 0;

    if (w->stale < FIN__WITNESS_STALE_MAX || fin__witness_lost(w)
        || read_entries(w, witness_count, &entries) < 0)
        return;
    w->stale = entries;
    if (w->stale >= FIN__WITNESS_STALE_MAX)
        replace_set(w);
}

struct search {
    uint64_t token;
    uint64_t inode;
    bool found;
};

static void witness_compare(uint64_t token, uint64_t inode, void *arg)
{
    struct search *search = arg;

    if (token != search->token)
        return;
    search->found = true;
    search->inode = inode;
}

/* kcmp(2) looks an entry up by its number and says ENOENT if there is none (ep_find_tfd()). It may
 * be forbidden or not built in: any other answer is asked of /proc again. */
static bool only_entry_is_gone(const struct fin__witness *w)
{
    struct kcmp_epoll_slot slot = { .efd = (uint32_t) w->set, .tfd = (uint32_t) w->only };
    long thread = syscall(SYS_gettid);

    return syscall(SYS_kcmp, thread, thread, KCMP_EPOLL_TFD, w->set, &slot) < 0 && errno == ENOENT;
}

enum fin_answer fin__witness_check(struct fin__witness *w, uint64_t token, uint64_t *inode)
{
    struct search search = { token, 0, false };
    int result;

    if (w->set < 0)
        return FIN_UNVERIFIABLE;
    if (w->only >= 0 && is_ours(w) && only_entry_is_gone(w))
        return FIN_NO;
    result = fin__witness_read(w, witness_compare, &search);
    if (result < 0)
        return FIN_UNVERIFIABLE;
    if (search.found && inode)
        *inode = search.inode;
    if (search.found && w->mark == FIN__UNMARKED) /* it is waited for, and may be lost meanwhile */
        mark_both(w);
    return search.found ? FIN_YES : FIN_NO;
}

void fin__witness_give_up(struct fin__witness *w)
{
    w->stale++;
}
