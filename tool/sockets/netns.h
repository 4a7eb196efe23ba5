/* SPDX-License-Identifier: MIT */

/* Network namespaces: which there are, and entering one. */

#ifndef TOOL_NETNS_H
#define TOOL_NETNS_H

#include "common/list.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct netns {
    uint64_t inode;
    uint64_t cookie; /* SO_NETNS_COOKIE, 0: not known (yet) */
    int fd;          /* -1: the one that we are in */
};

struct netns_list {
    LIST(struct netns) spaces;
    int home;        /* our own */
    bool all;        /* those that processes are in; of each look anew */
    uint32_t closed; /* all: processes of which it could not be seen */
};

/* Our own namespace alone (`name` is NULL), the one called `name` (of ip-netns(8), a path, or the
 * number of a process), or "all" that processes are in, which netns_list_renew() finds. Each
 * returns 0, or EXIT_TROUBLE after one line on stderr. netns_list_free() then, in any case. */
int netns_list_make(const char *name, struct netns_list *list);
/* ... and that of a process, if it is not in the list; what can't be seen is left out. Returns 0 or
 * -ENOMEM. */
int netns_list_add_process(struct netns_list *list, int32_t pid);
int netns_list_renew(struct netns_list *list);
void netns_list_free(struct netns_list *list);

/* The inode of the space with that inode, or with that cookie; 0 if it is not in the list. */
uint64_t netns_find(const struct netns_list *list, uint64_t inode, uint64_t cookie);

/* Moves the calling thread there, and back to where it was. Errors: those of setns(2). */
int netns_enter(const struct netns *space);
int netns_leave(const struct netns_list *list, const struct netns *space);

/* That of process `pid`, 0 if it can't be seen. */
uint64_t netns_of(int32_t pid);

#endif
