/* SPDX-License-Identifier: MIT */

/*
 * Healing: EPOLL_CTL_DEL names an entry by a descriptor, and the one that was registered is gone. A
 * surviving descriptor of the same description, put at the old number, names it again. That is done
 * in a thread with a descriptor table of its own: in the shared one the number could be another
 * thread's at that moment.
 */

#include "base/cancel.h"
#include "base/errors.h"
#include "kernel/epoll_audit.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

/* More than one, since the first may be closed, or be out of reach, by the time it is used. */
#define SURVIVORS_MAX 16

struct survivor {
    int32_t pid;
    int32_t fd;
};

struct heal {
    const struct fin_stale *stale;
    struct fin__target target;
    bool elsewhere; /* the survivors are in other tables */
    struct survivor survivor[SURVIVORS_MAX];
    unsigned count;
    int result;
};

/* ---- survivors ---- */

static int epoll_heal_collect(struct fin__folder *fds, int32_t pid, void *arg)
{
    struct heal *h = arg;
    int32_t fd;
    int result = 0;

    while (h->count < SURVIVORS_MAX && (result = fin__folder_next(fds, &fd)) > 0) {
        if (fin__target_fits(&h->target, fds, pid, fd))
            h->survivor[h->count++] = (struct survivor) { pid, fd };
    }
    return h->count < SURVIVORS_MAX ? result : 1;
}

static int collect_here(struct heal *h)
{
    struct fin__folder fds;
    int result = fin__fds_open(&fds, 0);

    if (result < 0)
        return result;
    result = epoll_heal_collect(&fds, fin__own_thread(), h);
    fin__folder_close(&fds);
    return result < 0 ? result : 0;
}

static int collect_elsewhere(struct heal *h)
{
    uint32_t unreadable = 0;
    int result;

    h->elsewhere = true;
    h->count = 0;
    result = fin__proc_walk(epoll_heal_collect, h, UINT64_MAX, &unreadable);
    return result < 0 ? result : 0;
}

/* ---- in the helper thread, on its own descriptor table ---- */

static int fetch(const struct heal *h, const struct survivor *survivor)
{
    int pidfd, fd;

    if (!h->elsewhere)
        return survivor->fd;
    pidfd = (int) syscall(SYS_pidfd_open, survivor->pid, 0u);
    fd = pidfd < 0 ? -1 : (int) syscall(SYS_pidfd_getfd, pidfd, survivor->fd, 0u);
    return fd < 0 ? -errno : fd;
}

static bool is_target(const struct fin__target *target, int fd)
{
    struct stat st;

    return fstat(fd, &st) == 0 && st.st_ino == target->entry.inode
        && st.st_dev == target->entry.device
        && (S_ISSOCK(st.st_mode) || fin__target_is(target, fin__own_thread(), fd) != 0);
}

/* Why a survivor is of no use: the caller can do something about some reasons. */
static int reason_of(int result)
{
    if (fin__is_lack(result))
        return result;
    return result == -EPERM || result == -EACCES ? -EPERM : -ESRCH;
}

static int delete_by(struct heal *h, struct fin__target *target, const struct survivor *survivor)
{
    int fd = fetch(h, survivor), number = target->entry.fd;

    if (fd < 0)
        return reason_of(fd);
    if (!is_target(target, fd))
        return -ESRCH;
    if (fd != number && dup2(fd, number) < 0)
        return -errno;
    if (epoll_ctl(target->set, EPOLL_CTL_DEL, number, NULL) < 0)
        return -ESRCH; /* another description with the same inode */
    return 0;
}

/* The set may have taken the old number: it must not be overwritten. */
static int move_set(struct fin_stale *stale)
{
    int set = fcntl(stale->epoll_fd, F_DUPFD_CLOEXEC, stale->fd + 1);

    if (set < 0)
        return errno == EBADF ? -ENOENT : -errno;
    stale->epoll_fd = set;
    return 0;
}

static int delete_entry(struct heal *h)
{
    struct fin_stale stale = *h->stale;
    struct fin__target target;
    int result = fin__target_find(&stale, &target);

    if (result == 0 && stale.epoll_fd == stale.fd)
        result = move_set(&stale);
    if (result < 0)
        return result;
    target.set = stale.epoll_fd;
    target.owner = fin__own_thread();
    result = -ESRCH;
    for (unsigned i = 0; i < h->count && result < 0; i++) {
        int reason = delete_by(h, &target, &h->survivor[i]);

        if (reason == 0 || result == -ESRCH)
            result = reason;
    }
    return result;
}

static void *help(void *arg)
{
    struct heal *h = arg;

    if (unshare(CLONE_FILES) < 0) {
        h->result = -errno;
        return NULL;
    }
    h->result = delete_entry(h);
    /* The table is ours alone; left to the thread's exit it would outlive pthread_join(3), and the
     * program's next close would not be the last one. */
    (void) syscall(SYS_close_range, 0u, UINT_MAX, 0u);
    return NULL;
}

/* ---- the public edge ---- */

/* No handler of the program's may run in the helper, and what the helper uses is on our stack. */
static int run_helper(struct heal *h)
{
    sigset_t all, old;
    pthread_t thread;
    int result;

    (void) sigfillset(&all);
    (void) pthread_sigmask(SIG_SETMASK, &all, &old);
    result = pthread_create(&thread, NULL, help, h);
    (void) pthread_sigmask(SIG_SETMASK, &old, NULL);
    if (result != 0)
        return -result;
    (void) pthread_join(thread, NULL);
    return h->result;
}

static int heal_by(struct heal *h, int (*search)(struct heal *h))
{
    int result = search(h);

    if (result < 0)
        return result;
    return h->count ? run_helper(h) : -ESRCH;
}

int fin_epoll_heal(const struct fin_stale *stale)
{
    FIN__UNCANCELLED;
    struct heal h = { .stale = stale };
    int result;

    if (!stale || stale->fd < 0 || stale->epoll_fd < 0)
        return -EINVAL;
    if (stale->pid != 0 && stale->pid != getpid())
        return -EINVAL;
    result = fin__target_find(stale, &h.target);
    if (result < 0)
        return result;
    result = heal_by(&h, collect_here);
    return result == -ESRCH ? heal_by(&h, collect_elsewhere) : result;
}
