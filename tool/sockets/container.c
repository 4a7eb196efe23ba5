/* SPDX-License-Identifier: MIT */

#include "sockets/container.h"

#include "common/procfs.h"

#include <ctype.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

enum {
    ID_LENGTH = 64,
    UID_LENGTH = 36
};

/* Of version 2, "0::/path"; else that of systemd's hierarchy, else the first. */
static const char *find_path(const char *text, size_t *length)
{
    const char *line = strstr(text, "0::/"), *path;

    if (!line || (line != text && line[-1] != '\n') || line[4] == '\n' || !line[4])
        line = strstr(text, "name=systemd:");
    path = strchr(line ? line : text, '/');
    *length = path ? strcspn(path, "\n") : 0;
    return path;
}

/* Docker, containerd, CRI-O and Podman name the group after the 64 digits of the container. */
static void find_id(const char *path, char id[65])
{
    size_t digits = 0;

    for (; *path; path++) {
        digits = isxdigit((unsigned char) *path) ? digits + 1 : 0;
        if (digits == ID_LENGTH && !isxdigit((unsigned char) path[1])) {
            memcpy(id, path + 1 - ID_LENGTH, ID_LENGTH);
            id[ID_LENGTH] = '\0';
        }
    }
}

static bool is_uid(const char *text)
{
    for (int i = 0; i < UID_LENGTH; i++)
        if (!isxdigit((unsigned char) text[i]) && text[i] != '-' && text[i] != '_')
            return false;
    return true;
}

/* systemd's driver writes the dashes of a pod's UID as underscores. */
static void find_pod(const char *path, char pod[40])
{
    const char *at = strstr(path, "kubepods");

    for (at = at ? strstr(at, "pod") : NULL; at; at = strstr(at + 1, "pod")) {
        if (strlen(at) < 3 + UID_LENGTH || !is_uid(at + 3))
            continue;
        for (int i = 0; i < UID_LENGTH; i++)
            pod[i] = at[3 + i] == '_' ? '-' : at[3 + i];
        pod[UID_LENGTH] = '\0';
        return;
    }
}

void container_parse(const char *text, struct container *ret)
{
    size_t length;
    const char *path = find_path(text, &length);

    *ret = (struct container) { .cgroup = "" };
    if (!path || length >= sizeof ret->cgroup)
        return;
    memcpy(ret->cgroup, path, length);
    ret->cgroup[length] = '\0';
    find_id(ret->cgroup, ret->id);
    find_pod(ret->cgroup, ret->pod);
}

void container_read(int32_t pid, struct container *ret)
{
    char text[4096];
    int n = read_proc(text, sizeof text, "/proc/%d/cgroup", pid);

    container_parse(n > 0 ? text : "", ret);
    if (!*ret->id)
        return;
    n = read_proc(text, sizeof text, "/proc/%d/root/etc/hostname", pid);
    if (n > 0)
        snprintf(ret->host, sizeof ret->host, "%.*s", (int) strcspn(text, "\n"), text);
}
