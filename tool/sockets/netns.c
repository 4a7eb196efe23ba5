/* SPDX-License-Identifier: MIT */

#include "sockets/netns.h"

#include "common/procfs.h"
#include "common/say.h"
#include "common/units.h"
#include "kernel/proc.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

static const char ours[] = "/proc/thread-self/ns/net";

uint64_t netns_of(int32_t pid)
{
    char path[48];

    snprintf(path, sizeof path, "/proc/%d/ns/net", pid);
    return link_inode(AT_FDCWD, path, "net:[");
}

static uint64_t own_inode(void)
{
    return link_inode(AT_FDCWD, ours, "net:[");
}

uint64_t netns_find(const struct netns_list *list, uint64_t inode, uint64_t cookie)
{
    for (size_t i = 0; i < list->spaces.count; i++) {
        const struct netns *space = &list->spaces.at[i];

        if (space->inode == inode || (cookie && space->cookie == cookie))
            return space->inode;
    }
    return 0;
}

static int netns_add(struct netns_list *list, uint64_t inode, int fd)
{
    return list_add(&list->spaces, (struct netns) { inode, 0, fd });
}

static int add_path(struct netns_list *list, const char *path)
{
    int fd = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC), result;
    struct stat st;

    if (fd < 0)
        return -errno;
    if (fstat(fd, &st) < 0)
        result = -errno;
    else if (st.st_ino == own_inode())
        result = netns_add(list, st.st_ino, -1);
    else
        result = netns_add(list, st.st_ino, fd);
    if (result < 0 || st.st_ino == own_inode())
        close(fd);
    return result;
}

static int add_all(struct netns_list *list)
{
    struct fin__folder proc;
    char path[48];
    int32_t pid;
    int result = fin__folder_open(&proc, AT_FDCWD, "/proc");

    if (result == 0)
        result = netns_add(list, own_inode(), -1);
    while (result == 0 && fin__folder_next(&proc, &pid) > 0) {
        uint64_t inode = netns_of(pid);

        list->closed += inode == 0 && errno == EACCES;
        if (inode == 0 || netns_find(list, inode, 0))
            continue;
        snprintf(path, sizeof path, "/proc/%d/ns/net", pid);
        result = add_path(list, path);
        if (result == -ENOENT || result == -EACCES)
            result = 0;
    }
    fin__folder_close(&proc);
    return result;
}

static int add_named(struct netns_list *list, const char *name)
{
    char path[300];
    uint64_t pid;

    if (strchr(name, '/'))
        return add_path(list, name);
    if (parse_number(name, 1, INT32_MAX, &pid) == 0)
        snprintf(path, sizeof path, "/proc/%d/ns/net", (int) pid);
    else
        snprintf(path, sizeof path, "/run/netns/%.255s", name);
    return add_path(list, path);
}

int netns_list_make(const char *name, struct netns_list *list)
{
    int result;

    *list = (struct netns_list) { .home = open(ours, O_RDONLY | O_CLOEXEC) };
    list->all = name && strcmp(name, "all") == 0;
    if (list->all)
        return 0;
    result = name ? add_named(list, name) : netns_add(list, own_inode(), -1);
    if (result < 0 && !name)
        return complain("cannot see our network namespace: %s", strerror(-result));
    if (result < 0)
        return complain("--netns %s: %s", name, strerror(-result));
    return 0;
}

int netns_list_add_process(struct netns_list *list, int32_t pid)
{
    uint64_t inode = netns_of(pid);
    char path[48];
    int result;

    if (inode == 0 || netns_find(list, inode, 0))
        return 0;
    snprintf(path, sizeof path, "/proc/%d/ns/net", pid);
    result = add_path(list, path);
    return result == -ENOMEM ? result : 0;
}

static void forget(struct netns_list *list)
{
    for (size_t i = 0; i < list->spaces.count; i++)
        if (list->spaces.at[i].fd >= 0)
            close(list->spaces.at[i].fd);
    list->spaces.count = 0;
    list->closed = 0;
}

/* They come and go, and one that we have open would not go. */
int netns_list_renew(struct netns_list *list)
{
    int result;

    if (!list->all)
        return 0;
    forget(list);
    result = add_all(list);
    return result < 0 ? complain("--netns all: %s", strerror(-result)) : 0;
}

void netns_list_free(struct netns_list *list)
{
    forget(list);
    if (list->home >= 0)
        close(list->home);
    free(list->spaces.at);
    *list = (struct netns_list) { .home = -1 };
}

int netns_enter(const struct netns *space)
{
    if (space->fd < 0)
        return 0;
    return setns(space->fd, CLONE_NEWNET) < 0 ? -errno : 0;
}

int netns_leave(const struct netns_list *list, const struct netns *space)
{
    if (space->fd < 0)
        return 0;
    return setns(list->home, CLONE_NEWNET) < 0 ? -errno : 0;
}
