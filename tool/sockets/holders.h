/* SPDX-License-Identifier: MIT */

/* Processes, and what they have open. */

#ifndef TOOL_HOLDERS_H
#define TOOL_HOLDERS_H

#include "common/list.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct process {
    int32_t pid;
    int32_t parent; /* once process_look() has read it; 0: not known */
    bool looked;
    uint64_t netns;       /* 0: not read yet */
    uint64_t start_stack; /* where its stack began at its last execve(2); 0: not known */
    char command[16];     /* terminated; may hold any byte but NUL */
};

/* A descriptor of a process that refers to a socket. */
struct reference {
    uint32_t inode;        /* the kernel numbers sockets in 32 bits */
    uint32_t process : 31; /* an index */
    uint32_t watched : 1;  /* an epoll set of the process has it */
    int32_t fd;
};

/* An epoll set of a process. */
struct epoll_set {
    uint32_t process;
    int32_t fd;
    size_t stales; /* entries of it in the list of stale ones */
};

/* An entry of an epoll set, for a socket, whose number is another file by now. */
struct stale_entry {
    uint64_t inode; /* of the socket */
    uint64_t data;
    size_t set; /* an index */
    int32_t fd; /* the number */
    uint32_t events;
    bool reused; /* the number is in use for something else; else for nothing */
    bool seen;   /* it was still there after its number had been looked at */
};

#define UNREADABLE_TOLD 8

/* What one reading of /proc found. */
struct scan {
    LIST(struct process) processes; /* those that have a socket or an epoll set */
    LIST(struct reference) references;
    LIST(struct epoll_set) sets;
    LIST(struct stale_entry) stales;
    uint32_t unreadable; /* processes that could not be looked at; the first of them: */
    int32_t unreadable_pid[UNREADABLE_TOLD];
    uint64_t sockfs; /* the device that all sockets are on */
    bool hidden;     /* /proc does not even show all processes (hidepid) */
};

void holders_free(struct scan *scan);

/* Reads parent and start_stack, once. */
void process_look(struct process *process);

/* Do both run what the same execve(2) began: is one forked from the other, or both from a third?
 * Where that can't be seen, their names decide. */
bool is_same_image(struct process *a, struct process *b);

#endif
