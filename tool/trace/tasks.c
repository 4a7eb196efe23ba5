/* SPDX-License-Identifier: MIT */

#include "trace/tasks.h"

#include "common/procfs.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/pidfd.h>
#include <unistd.h>

#define BUCKETS 1024

int tasks_open(struct tasks *tasks, struct roster *roster)
{
    *tasks = (struct tasks) { calloc(BUCKETS, sizeof *tasks->buckets), 0, roster };
    return tasks->buckets ? 0 : -ENOMEM;
}

static void close_one(struct task *task, void *arg)
{
    if (task->files)
        files_leave(task->files);
    tasks_remove(arg, task);
}

void tasks_close(struct tasks *tasks)
{
    if (tasks->buckets)
        tasks_visit(tasks, close_one, tasks);
    free(tasks->buckets);
    tasks->buckets = NULL;
}

static struct task **bucket_of(const struct tasks *tasks, pid_t tid)
{
    return &tasks->buckets[(unsigned) tid % BUCKETS];
}

struct task *tasks_find(const struct tasks *tasks, pid_t tid)
{
    struct task *task = *bucket_of(tasks, tid);

    while (task && task->tid != tid)
        task = task->next;
    return task;
}

static void insert(struct tasks *tasks, struct task *task)
{
    struct task **bucket = bucket_of(tasks, task->tid);

    task->next = *bucket;
    *bucket = task;
}

static void unlink_task(struct tasks *tasks, struct task *task)
{
    struct task **at = bucket_of(tasks, task->tid);

    while (*at != task)
        at = &(*at)->next;
    *at = task->next;
}

/* ---- who takes over reads it ---- */

static void enrol(struct roster *roster, pid_t tid)
{
    if (roster && roster->count < ROSTER_MAX)
        roster->tid[roster->count++] = tid;
}

static void strike_off(struct roster *roster, pid_t tid)
{
    uint32_t i;

    if (!roster)
        return;
    for (i = 0; i < roster->count && roster->tid[i] != tid; i++)
        ;
    if (i == roster->count)
        return;
    roster->tid[i] = roster->tid[roster->count - 1];
    roster->count--;
}

/* ---- processes ---- */

static struct process *find_process(const struct tasks *tasks, pid_t pid)
{
    struct task *task = tasks_find(tasks, pid);

    /* The leader may have ended before the others. */
    for (size_t i = 0; !task && i < BUCKETS; i++)
        for (task = tasks->buckets[i]; task && task->process->pid != pid;)
            task = task->next;
    return task ? task->process : NULL;
}

static struct process *new_process(pid_t pid)
{
    struct process *process = calloc(1, sizeof *process);

    if (!process)
        return NULL;
    process->pid = pid;
    process->pidfd = pidfd_open(pid, 0);
    return process;
}

struct task *tasks_add(struct tasks *tasks, pid_t tid, pid_t pid)
{
    struct process *process = pid == tid ? NULL : find_process(tasks, pid);
    struct task *task = calloc(1, sizeof *task);

    if (task && !process)
        process = new_process(pid);
    if (!task || !process) {
        free(task);
        return NULL;
    }
    process->tasks++;
    task->tid = tid;
    task->process = process;
    process_command(tid, task->command);
    insert(tasks, task);
    tasks->count++;
    enrol(tasks->roster, tid);
    return task;
}

void tasks_remove(struct tasks *tasks, struct task *task)
{
    unlink_task(tasks, task);
    tasks->count--;
    strike_off(tasks->roster, task->tid);
    if (--task->process->tasks == 0) {
        if (task->process->pidfd >= 0)
            close(task->process->pidfd);
        free(task->process);
    }
    free(task);
}

void tasks_rename(struct tasks *tasks, struct task *task, pid_t tid)
{
    unlink_task(tasks, task);
    strike_off(tasks->roster, task->tid);
    task->tid = tid;
    insert(tasks, task);
    enrol(tasks->roster, tid);
}

void tasks_visit(const struct tasks *tasks, void (*visit)(struct task *task, void *arg), void *arg)
{
    size_t i;

    for (i = 0; i < BUCKETS; i++) {
        struct task *task = tasks->buckets[i], *next;

        for (; task; task = next) {
            next = task->next;
            visit(task, arg);
        }
    }
}
