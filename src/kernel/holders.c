/* SPDX-License-Identifier: MIT */

#include "kernel/holders.h"

#include "base/cancel.h"
#include "base/clock.h"
#include "kernel/proc.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

struct search {
    enum fin__kind kind;
    uint64_t inode;
    uint64_t device; /* 0: not known */
    struct fin_holder *list;
    size_t max;
    size_t found;
    uint64_t until; /* of fin__now(), UINT64_MAX: as long as it takes */
    uint64_t begun, used;
};

/* For a receipt: a search must not make a close end late. It has a bound of processor time,
 * which time taken by other programs does not use up, and one of wall time, for a busy machine. */
#define SEARCH_NS (100ull * FIN__NS_PER_MS)
#define SEARCH_MAX_NS (1000ull * FIN__NS_PER_MS)

enum fin__kind fin__kind_of(int fd)
{
    struct stat st;
    int flags;

    if (fstat(fd, &st) < 0 || !S_ISFIFO(st.st_mode))
        return FIN__A_SOCKET;
    flags = fcntl(fd, F_GETFL);
    if (flags < 0)
        return FIN__A_PIPE;
    switch (flags & O_ACCMODE) {
    case O_RDONLY:
        return FIN__A_READ_END;
    case O_WRONLY:
        return FIN__A_WRITE_END;
    default:
        return FIN__A_PIPE; /* a FIFO with a name, both ways */
    }
}

/* The mode of the link itself has the access mode of the description (proc_fd_link_mode). */
static bool is_wanted_end(const struct search *s, const struct fin__folder *fds, int32_t number)
{
    char name[16];
    struct stat st;

    if (s->kind == FIN__A_PIPE)
        return true;
    (void) snprintf(name, sizeof name, "%d", number);
    return fstatat(fds->fd, name, &st, AT_SYMLINK_NOFOLLOW) == 0
        && (st.st_mode & (S_IRUSR | S_IWUSR)) == (s->kind == FIN__A_READ_END ? S_IRUSR : S_IWUSR);
}

/* The link of a FIFO with a name is that name. */
static bool is_wanted_fifo(const struct search *s, const struct fin__folder *fds, int32_t number)
{
    struct fin__object object;

    return fin__object_read(fds, number, &object) == 0 && S_ISFIFO(object.mode)
        && object.inode == s->inode && (s->device == 0 || object.device == s->device);
}

static bool is_wanted(const struct search *s, const struct fin__folder *fds, int32_t number,
                      const struct fin__link *link)
{
    if (s->kind == FIN__A_SOCKET)
        return link->kind == FIN__LINK_SOCKET && link->inode == s->inode;
    if (link->kind == FIN__LINK_PIPE ? link->inode != s->inode : link->kind != FIN__LINK_OTHER)
        return false;
    return is_wanted_fifo(s, fds, number) && is_wanted_end(s, fds, number);
}

static void holders_add(struct search *s, const struct fin__folder *fds, int32_t pid,
                        int32_t number)
{
    struct fin_holder *holder;

    if (s->found++ >= s->max)
        return;
    holder = &s->list[s->found - 1];
    holder->pid = pid;
    holder->fd = number;
    fin__command_read(fds, holder->command);
}

static bool is_over(const struct search *s)
{
    uint64_t now;

    if (s->until == UINT64_MAX)
        return false;
    now = fin__now();
    return now >= s->until || (now - s->begun >= SEARCH_NS && fin__used() - s->used >= SEARCH_NS);
}

static int look_through(struct fin__folder *fds, int32_t pid, void *arg)
{
    struct search *s = arg;
    struct fin__link link;
    int32_t number;
    int result;

    while ((result = fin__folder_next(fds, &number)) > 0) {
        if (is_over(s))
            return 1;
        result = fin__link_read(fds, number, &link);
        if (result == -EACCES || result == -EPERM)
            return result;
        if (result == 0 && is_wanted(s, fds, number, &link))
            holders_add(s, fds, pid, number);
    }
    return result;
}

int fin_holders(const struct fin_identity *id, struct fin_holder *list, size_t max,
                uint32_t *unreadable)
{
    FIN__UNCANCELLED;
    struct search s = { .list = list, .max = max, .until = UINT64_MAX };
    uint32_t denied = 0;
    int result;

    if (!id || id->size != sizeof *id || (!list && max))
        return -EINVAL;
    s.kind = id->family ? FIN__A_SOCKET : FIN__A_PIPE;
    s.inode = id->inode;
    s.device = id->device;
    result = fin__proc_walk(look_through, &s, s.until, &denied);
    if (result < 0)
        return result;
    if (unreadable)
        *unreadable = denied;
    return s.found < INT_MAX ? (int) s.found : INT_MAX;
}

static enum fin_search come_to(const struct search *s, int result, uint32_t unreadable)
{
    if (result > 0 || (result < 0 && s->found > 0))
        return FIN_SEARCH_CUT;
    if (s->found > 0)
        return FIN_SEARCH_FOUND;
    return result < 0 || unreadable ? FIN_SEARCH_BLIND : FIN_SEARCH_INVISIBLE;
}

void fin__receipt_holders(struct fin_receipt *receipt, uint64_t inode, enum fin__kind kind,
                          uint64_t until)
{
    uint64_t now = fin__now(), last = now + SEARCH_MAX_NS;
    struct search s = {
        .kind = kind,
        .inode = inode,
        .list = receipt->holder,
        .max = FIN_RECEIPT_HOLDERS,
        .until = until < last ? until : last,
        .begun = now,
    };
    uint32_t unreadable = 0;
    int result;

    receipt->search = FIN_SEARCH_NONE;
    receipt->holders = 0;
    memset(receipt->holder, 0, sizeof receipt->holder);
    if (inode == 0)
        return;
    s.used = fin__used();
    result = fin__proc_walk(look_through, &s, s.until, &unreadable);
    receipt->search = (int) come_to(&s, result, unreadable);
    receipt->holders = s.found < UINT32_MAX ? (uint32_t) s.found : UINT32_MAX;
}
