/* SPDX-License-Identifier: MIT */

#include "trace/leaks.h"

#include "trace/inspect.h"
#include "trace/tell.h"

#include <string.h>
#include <unistd.h>

static void look_at(struct trace *trace, struct task *task, struct thing *socket, int fd)
{
    int borrowed = inspect_borrow(task->process->pidfd, fd);
    struct place *open = &socket->open;
    uint64_t ago_ns;

    if (borrowed < 0)
        return;
    if (inspect_peer_ended(socket, borrowed, &ago_ns)) {
        *open = (struct place) { .ns = trace_now(trace), .call = "open", .fd = fd };
        open->pid = task->process->pid;
        open->tid = task->tid;
        memcpy(open->command, task->command, sizeof open->command);
        socket->peer_ended_ns = ago_ns < open->ns ? open->ns - ago_ns : 0;
        socket->peer_ended_ago_ns = ago_ns;
    }
    close(borrowed);
}

static void look_at_table(struct task *task, void *arg)
{
    struct trace *trace = arg;

    for (size_t fd = 0; task->files && fd < task->files->size; fd++) {
        struct thing *socket = task->files->slot[fd];

        if (socket && socket->id && !socket->open.call)
            look_at(trace, task, socket, (int) fd);
    }
}

void leaks_look(struct trace *trace)
{
    tasks_visit(&trace->tasks, look_at_table, trace);
}
