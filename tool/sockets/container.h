/* SPDX-License-Identifier: MIT */

/* Which container, and which pod, a process is in: by its cgroup. */

#ifndef TOOL_CONTAINER_H
#define TOOL_CONTAINER_H

#include <stdint.h>

struct container {
    char cgroup[256]; /* the path, "" if it can't be seen */
    char id[65];      /* "" outside of a container */
    char pod[40];     /* Kubernetes' UID, "" outside of a pod */
    char host[65]; /* the host name inside, which is the pod's name there; "" if not to be seen */
};

/* Of an id, as much as commands show. */
#define CONTAINER_SHORT 12

void container_read(int32_t pid, struct container *ret);

/* Of the text of proc_pid_cgroup(5), all but the host name. */
void container_parse(const char *text, struct container *ret);

#endif
