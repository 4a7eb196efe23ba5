/* SPDX-License-Identifier: MIT */

#include "common/procfs.h"

#include "common/say.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/resource.h>
#include <sys/uio.h>
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

int read_proc(char *buf, size_t size, const char *path, ...)
{
    char whole[64];
    va_list args;

    va_start(args, path);
    vsnprintf(whole, sizeof whole, path, args);
    va_end(args);
    return read_file(AT_FDCWD, whole, buf, size);
}

void process_command(int32_t pid, char command[16])
{
    char text[64];
    int n = read_proc(text, sizeof text, "/proc/%d/comm", pid);

    snprintf(command, 16, "%.*s", n > 0 ? n - (text[n - 1] == '\n') : 0, text);
}

void process_name(int32_t pid, char *buf, size_t size)
{
    char command[16];

    process_command(pid, command);
    escape(*command ? command : "?", buf, size);
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
    return read_proc(text, STAT_SIZE, "/proc/%d/stat", pid) < 0 ? NULL : stat_find(text, number);
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

bool memory_read(int32_t pid, uint64_t from, void *to, size_t size)
{
    struct iovec here = { to, size }, there = { (void *) (uintptr_t) from, size }; // NOLINT

    return process_vm_readv(pid, &here, 1, &there, 1, 0) == (ssize_t) size;
}

uint64_t memory_word(int32_t pid, uint64_t at)
{
    uint64_t value = 0;

    return memory_read(pid, at, &value, sizeof value) ? value : 0;
}

bool memory_write(int32_t pid, uint64_t to, const void *from, size_t size)
{
    struct iovec here = { (void *) (uintptr_t) from, size }; // NOLINT
    struct iovec there = { (void *) (uintptr_t) to, size };  // NOLINT

    return process_vm_writev(pid, &here, 1, &there, 1, 0) == (ssize_t) size;
}

int copy_descriptor(int32_t pid, int32_t fd)
{
    int process = pidfd_open(pid, 0), copy;

    if (process < 0)
        return -errno;
    copy = pidfd_getfd(process, fd, 0);
    if (copy < 0)
        copy = -errno;
    close(process);
    return copy;
}

void raise_descriptor_limit(void)
{
    struct rlimit limit;

    if (getrlimit(RLIMIT_NOFILE, &limit) < 0)
        return;
    limit.rlim_cur = limit.rlim_max;
    (void) setrlimit(RLIMIT_NOFILE, &limit);
}
