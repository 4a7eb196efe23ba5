/* SPDX-License-Identifier: MIT */

#include "common/procfs.h"

#include "common/say.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

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

void process_name(int32_t pid, char *buf, size_t size)
{
    char path[32], text[64];
    int n;

    snprintf(path, sizeof path, "/proc/%d/comm", pid);
    n = read_file(AT_FDCWD, path, text, sizeof text);
    if (n > 0 && text[n - 1] == '\n')
        text[n - 1] = '\0';
    escape(n > 0 ? text : "?", buf, size);
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
