/* SPDX-License-Identifier: MIT */

/* An epoll entry is found by the number and the description with which it was made, by any
 * process. So a child of ours copies the epoll set and a descriptor of the socket, puts the
 * latter at that number in its own table, and deletes the entry; the process is not touched. */

#include "common/command.h"
#include "common/procfs.h"
#include "common/say.h"
#include "end/options.h"

#include <errno.h>
#include <fcntl.h>
#include <finack.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

/* ---- one entry, in a child ---- */

/* Away from the number that the other copy must have. */
static int move_away(int fd, int number)
{
    int moved = fd == number ? fcntl(fd, F_DUPFD_CLOEXEC, number + 1) : fd;

    return moved < 0 ? -errno : moved;
}

static int delete_entry(const struct fin_stale *stale)
{
    struct stat st;
    int set, socket;

    raise_descriptor_limit();
    set = copy_descriptor(stale->pid, stale->epoll_fd);
    socket = set < 0 ? set : copy_descriptor(stale->holder_pid, stale->holder_fd);
    if (socket < 0)
        return socket;
    if (fstat(socket, &st) < 0 || st.st_ino != stale->inode)
        return -ESTALE;
    set = move_away(set, stale->fd);
    if (set < 0)
        return set;
    if (socket != stale->fd && dup2(socket, stale->fd) < 0)
        return -errno;
    return epoll_ctl(set, EPOLL_CTL_DEL, stale->fd, NULL) < 0 ? -errno : 0;
}

static int heal_one(const struct fin_stale *stale)
{
    int status;
    pid_t child;

    if (stale->holder_pid == 0)
        return -ESRCH;
    child = fork();
    if (child < 0)
        return -errno;
    if (child == 0)
        _exit(-delete_entry(stale) & 0xff);
    while (waitpid(child, &status, 0) < 0)
        if (errno != EINTR)
            return -errno;
    return WIFEXITED(status) ? -WEXITSTATUS(status) : -EINTR;
}

/* ---- all ---- */

static int describe(const struct fin_stale *stale, const char *what)
{
    char line[256], name[64];
    int size;

    process_name(stale->holder_pid, name, sizeof name);
    size = snprintf(line, sizeof line,
                    "epoll set %d: descriptor %d, whose socket %s[%d] has as %d%s%s\n",
                    stale->epoll_fd, stale->fd, name, stale->holder_pid, stale->holder_fd,
                    *what ? ": " : "", what);
    return put_out(line, (size_t) size);
}

/* The stale entries of a process. */
struct stales {
    struct fin_stale *at;
    size_t room;
    int count; /* may be more than there is room for */
};

static int audit(int32_t pid, struct stales *stales)
{
    int count = fin_epoll_audit(pid, stales->at, stales->room);

    if (count == -ESRCH)
        return complain("there is no process %d", pid);
    if (count == -EACCES)
        return complain("no permission to look at process %d", pid);
    if (count < 0)
        return complain("cannot look at process %d: %s", pid, strerror(-count));
    stales->count = count;
    return 0;
}

/* All of them: how many there are is known first. */
static int audit_all(int32_t pid, struct stales *stales)
{
    struct fin_stale *at;
    int status = audit(pid, stales);

    if (status || stales->count == 0)
        return status;
    at = calloc((size_t) stales->count, sizeof *at);
    if (!at)
        return complain("no memory for %d entries", stales->count);
    stales->at = at;
    stales->room = (size_t) stales->count;
    status = audit(pid, stales);
    if ((size_t) stales->count > stales->room) /* there are new ones: not now */
        stales->count = (int) stales->room;
    return status;
}

/* A set that the process has twice is listed twice: what is gone by then is no failure. */
static int heal_all(const struct end_options *o, const struct stales *stales)
{
    struct stales left = { .at = NULL };
    int status = 0;

    for (int i = 0; stales->at && i < stales->count && !status; i++) {
        int result = heal_one(&stales->at[i]);

        status = describe(&stales->at[i],
                          result == 0 || result == -ENOENT ? "removed" : strerror(-result));
    }
    if (status || audit(o->pid, &left))
        return EXIT_TROUBLE;
    return left.count == 0 ? EXIT_FINE : EXIT_FOUND;
}

static int heal_listed(const struct end_options *o, const struct stales *stales)
{
    int status = 0;

    for (int i = 0; stales->at && i < stales->count && !o->yes && !status; i++)
        status = describe(&stales->at[i], "");
    if (status || stales->count == 0)
        return status;
    if (o->dry || (!o->yes && !ask("remove them?")))
        return EXIT_FOUND;
    return heal_all(o, stales);
}

static int heal_run(const struct end_options *o)
{
    struct stales stales = { .at = NULL };
    int status = audit_all(o->pid, &stales);

    if (status == 0)
        status = heal_listed(o, &stales);
    free(stales.at);
    return status;
}

int heal_main(int argc, char **argv)
{
    struct end_options o;
    int parsed = heal_options_parse(argc, argv, &o);

    return parsed == PARSE_RUN ? heal_run(&o) : parsed;
}
