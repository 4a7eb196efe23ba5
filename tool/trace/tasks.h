/* SPDX-License-Identifier: MIT */

/* The threads that are traced. */

#ifndef TOOL_TRACE_TASKS_H
#define TOOL_TRACE_TASKS_H

#include "trace/book.h"

struct call;

struct process {
    pid_t pid;
    int pidfd; /* -1: none is to be had */
    unsigned tasks;
    bool ring_told;    /* it was said that it uses io_uring */
    bool foreign_told; /* ... calls of another instruction set */
};

struct task {
    pid_t tid;
    struct process *process;
    struct files *files;
    const struct call *call; /* whose end is awaited, or NULL */
    uint64_t args[6];
    struct thing *subject; /* of that call, or NULL */
    bool exiting;
    char command[16];
    uint64_t named_ns; /* when the name was read */
    struct task *next;
};

/* The traced tasks, in memory that two processes share: see front.h. */
#define ROSTER_MAX 65536
struct roster {
    bool unfiltered; /* the command could not load the filter */
    uint32_t count;
    pid_t tid[ROSTER_MAX];
};

struct tasks {
    struct task **buckets;
    unsigned count;
    struct roster *roster; /* may be NULL */
};

int tasks_open(struct tasks *tasks, struct roster *roster);
void tasks_close(struct tasks *tasks);

struct task *tasks_find(const struct tasks *tasks, pid_t tid);
/* A thread of process `pid`; NULL if memory is out. */
struct task *tasks_add(struct tasks *tasks, pid_t tid, pid_t pid);
/* Drops the task, and its process with the last one. Its table must have been left before. */
void tasks_remove(struct tasks *tasks, struct task *task);
/* After execve(2) by a thread that was not the leader: it is the leader now. */
void tasks_rename(struct tasks *tasks, struct task *task, pid_t tid);

/* Calls visit(task, arg) for each; it may remove that task, no other. */
void tasks_visit(const struct tasks *tasks, void (*visit)(struct task *task, void *arg), void *arg);

#endif
