/* SPDX-License-Identifier: MIT */

#include "folder.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int folder_open(struct folder *folder, int parent, const char *path)
{
    folder->at = folder->end = 0;
    folder->fd = openat(parent, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    return folder->fd < 0 ? -errno : 0;
}

void folder_close(struct folder *folder)
{
    close(folder->fd);
    folder->fd = -1;
}

static bool is_number(const char *name, int32_t *number)
{
    int64_t value = 0;

    for (; *name >= '0' && *name <= '9' && value <= INT32_MAX; name++)
        value = value * 10 + (*name - '0');
    *number = (int32_t) value;
    return *name == '\0' && value <= INT32_MAX;
}

int folder_next(struct folder *folder, int32_t *number, const char **name)
{
    const struct dirent64 *found;

    for (;;) {
        if (folder->at == folder->end) {
            ssize_t n = getdents64(folder->fd, folder->buf, sizeof folder->buf);

            if (n <= 0)
                return n < 0 ? -errno : 0;
            folder->at = 0;
            folder->end = (unsigned) n;
        }
        found = (const struct dirent64 *) (const void *) (folder->buf + folder->at);
        folder->at += found->d_reclen;
        if (is_number(found->d_name, number)) {
            *name = found->d_name;
            return 1;
        }
    }
}

int read_file(int parent, const char *path, char *buf, size_t size)
{
    int fd = openat(parent, path, O_RDONLY | O_CLOEXEC);
    ssize_t n;

    if (fd < 0)
        return -errno;
    n = read(fd, buf, size - 1);
    if (n < 0)
        n = -errno;
    else
        buf[n] = '\0';
    close(fd);
    return (int) n;
}

/* The name, field 2, may hold anything. */
const char *stat_find(const char *text, int number)
{
    const char *at = strrchr(text, ')');

    for (int i = 2; i < number && at; i++)
        at = strchr(at + 1, ' ');
    return at ? at + 1 : NULL;
}

const char *stat_field(int32_t pid, int number, char text[STAT_SIZE])
{
    char path[32];

    snprintf(path, sizeof path, "/proc/%d/stat", pid);
    return read_file(AT_FDCWD, path, text, STAT_SIZE) < 0 ? NULL : stat_find(text, number);
}

uint64_t link_inode(int parent, const char *path, const char *prefix)
{
    char text[64];
    size_t length = strlen(prefix);
    ssize_t n = readlinkat(parent, path, text, sizeof text - 1);

    if (n < 0)
        return 0;
    text[n] = '\0';
    return strncmp(text, prefix, length) == 0 ? strtoull(text + length, NULL, 10) : 0;
}
