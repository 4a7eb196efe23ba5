/* SPDX-License-Identifier: MIT */

#include "kernel/witness.h"

#include "base/descriptor.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

/* Each entry given up costs every later read about 0.5 us. */
#define STALE_MAX 64

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

int fin__witness_open(struct fin__witness *w)
{
    int set = epoll_create1(EPOLL_CLOEXEC);
    int fdinfo;

    if (set < 0)
        return -errno;
    fdinfo = open_fdinfo(set);
    if (fdinfo < 0) {
        fin__drop(&set);
        return fdinfo;
    }
    w->set = set;
    w->fdinfo = fdinfo;
    w->stale = 0;
    return 0;
}

void fin__witness_close(struct fin__witness *w)
{
    fin__drop(&w->fdinfo);
    fin__drop(&w->set);
}

static void replace(struct fin__witness *w)
{
    struct fin__witness fresh = FIN__WITNESS_INIT;

    fresh.serial = w->serial;
    if (fin__witness_open(&fresh) < 0) /* no descriptor to be had: the old one serves still */
        return;
    fin__witness_close(w);
    *w = fresh;
}

int fin__witness_add(struct fin__witness *w, int fd, uint64_t *token)
{
    struct epoll_event entry = { .events = EPOLLET };

    if (w->set < 0)
        return -EBADF;
    if (w->stale >= STALE_MAX)
        replace(w);
    entry.data.u64 = ++w->serial;
    if (epoll_ctl(w->set, EPOLL_CTL_ADD, fd, &entry) < 0) {
        /* The same description was closed under this number before, and is held since then. */
        if (errno != EEXIST || epoll_ctl(w->set, EPOLL_CTL_MOD, fd, &entry) < 0)
            return -errno;
    }
    *token = entry.data.u64;
    return 0;
}

/* A line of fdinfo: "tfd: 5 events: 80000019 data: 2a pos:0 ino:1b sdev:8". */
static void visit_line(char *line, void (*visit)(uint64_t token, void *arg), void *arg)
{
    char *data, *end;
    unsigned long long token;

    if (strncmp(line, "tfd:", 4) != 0)
        return;
    data = strstr(line, "data:");
    if (!data)
        return;
    token = strtoull(data + 5, &end, 16);
    if (end != data + 5)
        visit(token, arg);
}

/* Visits the whole lines in buf[0, len); returns the length of the rest, moved to the front. */
static size_t visit_lines(char *buf, size_t len, void (*visit)(uint64_t token, void *arg),
                          void *arg)
{
    char *line = buf, *end;

    while ((end = memchr(line, '\n', len - (size_t) (line - buf)))) {
        *end = '\0';
        visit_line(line, visit, arg);
        line = end + 1;
    }
    len -= (size_t) (line - buf);
    memmove(buf, line, len);
    return len;
}

static ssize_t read_at(int fd, char *buf, size_t size, off_t offset)
{
    ssize_t n;

    do
        n = pread(fd, buf, size, offset);
    while (n < 0 && errno == EINTR);
    return n < 0 ? -errno : n;
}

int fin__witness_read(struct fin__witness *w, void (*visit)(uint64_t token, void *arg), void *arg)
{
    char buf[4096];
    size_t rest = 0, room;
    off_t offset = 0;
    ssize_t n;

    do {
        room = sizeof buf - rest;
        n = read_at(w->fdinfo, buf + rest, room, offset);
        if (n < 0 || room == 0)
            return n < 0 ? (int) n : -EOVERFLOW;
        offset += n;
        rest = visit_lines(buf, rest + (size_t) n, visit, arg);
    } while ((size_t) n == room);
    return offset > 0 ? 0 : -EIO;
}

struct search {
    uint64_t token;
    bool found;
};

static void compare(uint64_t token, void *arg)
{
    struct search *search = arg;

    if (token == search->token)
        search->found = true;
}

/* fdinfo is bound to the thread that opened it; once that has ended it reads as ENOENT. */
static int reopen(struct fin__witness *w)
{
    int fd = open_fdinfo(w->set);

    if (fd < 0)
        return fd;
    fin__drop(&w->fdinfo);
    w->fdinfo = fd;
    return 0;
}

enum fin_answer fin__witness_check(struct fin__witness *w, uint64_t token)
{
    struct search search = { token, false };
    int result;

    if (w->set < 0)
        return FIN_UNVERIFIABLE;
    result = fin__witness_read(w, compare, &search);
    if (result < 0 && reopen(w) == 0)
        result = fin__witness_read(w, compare, &search);
    if (result < 0)
        return FIN_UNVERIFIABLE;
    return search.found ? FIN_YES : FIN_NO;
}

void fin__witness_give_up(struct fin__witness *w)
{
    w->stale++;
}
