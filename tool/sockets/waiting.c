/* SPDX-License-Identifier: MIT */

#include "sockets/waiting.h"

#include "common/procfs.h"
#include "kernel/proc.h"

#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/select.h>
#include <sys/syscall.h>

/* A program may have a million descriptors in poll(2), in each of its threads: what is beyond that
 * is not known. */
enum {
    POLLED_MAX = 1 << 20,
    WAITING_MAX = 2 << 20 /* of one process, so that it leaves the others some */
};

struct call {
    int64_t number;
    uint64_t args[6];
};

static void waiting_add(struct waiting *waiting, int32_t fd)
{
    if (waiting->fds.count == waiting->room || list_add(&waiting->fds, fd) < 0)
        waiting->unknown = true;
}

/* The memory may change while we read: a number too many or too few is no harm. */
static void add_polled(struct waiting *waiting, int32_t tid, uint64_t from, uint64_t count)
{
    struct pollfd *polled = NULL;

    if (count > 0 && count <= POLLED_MAX && count <= waiting->room - waiting->fds.count)
        polled = calloc(count, sizeof *polled);
    if (polled && memory_read(tid, from, polled, count * sizeof *polled))
        for (uint64_t i = 0; i < count; i++)
            waiting_add(waiting, polled[i].fd);
    else if (count > 0)
        waiting->unknown = true;
    free(polled);
}

static void add_selected(struct waiting *waiting, int32_t tid, uint64_t from, uint64_t count)
{
    fd_set set;
    size_t words = (count + NFDBITS - 1) / NFDBITS;

    if (from == 0)
        return;
    FD_ZERO(&set);
    if (count > FD_SETSIZE || !memory_read(tid, from, &set, words * sizeof(fd_mask)))
        waiting->unknown = true;
    else
        for (int fd = 0; fd < (int) count; fd++)
            if (FD_ISSET(fd, &set))
                waiting_add(waiting, fd);
}

static void take_call(struct waiting *waiting, int32_t tid, const struct call *call)
{
    switch (call->number) {
#ifdef SYS_poll
    case SYS_poll:
#endif
    case SYS_ppoll:
        add_polled(waiting, tid, call->args[0], call->args[1]);
        break;
#ifdef SYS_select
    case SYS_select:
#endif
    case SYS_pselect6:
        for (int i = 1; i <= 3; i++)
            add_selected(waiting, tid, call->args[i], call->args[0]);
        break;
    case SYS_io_uring_enter:
        waiting->unknown = true;
        break;
    case SYS_splice:
        waiting_add(waiting, (int32_t) call->args[2]);
        waiting_add(waiting, (int32_t) call->args[0]);
        break;
    case SYS_sendfile:
        waiting_add(waiting, (int32_t) call->args[1]);
        waiting_add(waiting, (int32_t) call->args[0]);
        break;
    default: /* read, recv, accept, connect, write, ...: and what is none is no descriptor of a
                socket */
        waiting_add(waiting, (int32_t) call->args[0]);
        break;
    }
}

/* "running" for a thread that is inside no call, or works in one. */
static void take_thread(struct waiting *waiting, int folder, int32_t tid)
{
    char path[32], text[256];
    struct call call;

    snprintf(path, sizeof path, "%d/syscall", tid);
    if (read_file(folder, path, text, sizeof text) < 0) {
        waiting->unknown = true;
        return;
    }
    if (sscanf(text,
               "%" SCNd64 " %" SCNx64 " %" SCNx64 " %" SCNx64 " %" SCNx64 " %" SCNx64 " %" SCNx64,
               &call.number, &call.args[0], &call.args[1], &call.args[2], &call.args[3],
               &call.args[4], &call.args[5])
        == 7)
        take_call(waiting, tid, &call);
}

static int by_number(const void *a, const void *b)
{
    int32_t x = *(const int32_t *) a, y = *(const int32_t *) b;

    return x < y ? -1 : x > y;
}

void waiting_read(struct waiting *waiting, int32_t pid, size_t room)
{
    struct fin__folder tasks;
    char path[32];
    int32_t tid;

    *waiting = (struct waiting) { .room = room < WAITING_MAX ? room : WAITING_MAX };
    snprintf(path, sizeof path, "/proc/%d/task", pid);
    if (fin__folder_open(&tasks, AT_FDCWD, path) < 0) {
        waiting->unknown = true;
        return;
    }
    while (fin__folder_next(&tasks, &tid) > 0)
        take_thread(waiting, tasks.fd, tid);
    fin__folder_close(&tasks);
    list_sort(&waiting->fds, by_number);
}

void waiting_free(struct waiting *waiting)
{
    free(waiting->fds.at);
    *waiting = (struct waiting) { .unknown = false };
}

bool waiting_has(const struct waiting *waiting, int32_t fd)
{
    return list_search(&waiting->fds, &fd, by_number);
}
