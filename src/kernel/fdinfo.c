/* SPDX-License-Identifier: MIT */

#include "kernel/fdinfo.h"

#include "base/again.h"

#include <errno.h>
#include <limits.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sysmacros.h>
#include <sys/types.h>
#include <unistd.h>

/* fdinfo prints the kernel's own dev_t (MINORBITS in include/linux/kdev_t.h). */
#define MINOR_BITS 20

#define SIZE_LIMIT (1l << 30) /* ten million entries */

/* Reads "NAME VALUE" at or after *at, and moves *at behind it. */
static bool read_field(char **at, const char *name, int base, uint64_t *value)
{
    char *start = strstr(*at, name), *end;

    if (!start)
        return false;
    start += strlen(name);
    *value = strtoull(start, &end, base);
    if (end == start)
        return false;
    *at = end;
    return true;
}

/* A line of fdinfo: "tfd: 5 events: 80000019 data: 2a pos:0 ino:1b sdev:8". */
static bool fdinfo_parse(char *line, struct fin__entry *entry)
{
    uint64_t fd, events, device;

    if (strncmp(line, "tfd:", 4) != 0)
        return false;
    if (!read_field(&line, "tfd:", 10, &fd) || fd > INT_MAX
        || !read_field(&line, "events:", 16, &events) || events > UINT32_MAX
        || !read_field(&line, "data:", 16, &entry->data))
        return false;
    entry->fd = (int32_t) fd;
    entry->events = (uint32_t) events;
    if (!read_field(&line, "ino:", 16, &entry->inode) || !read_field(&line, "sdev:", 16, &device)) {
        entry->inode = entry->device = 0;
        return true;
    }
    entry->device =
        makedev((unsigned) (device >> MINOR_BITS), (unsigned) (device & ((1u << MINOR_BITS) - 1)));
    return true;
}

/* Visits the whole lines in buf[0, len); returns the length of the rest, moved to the front. */
static size_t visit_lines(char *buf, size_t len,
                          void (*visit)(const struct fin__entry *entry, void *arg), void *arg)
{
    struct fin__entry entry;
    char *line = buf, *end;

    while ((end = memchr(line, '\n', len - (size_t) (line - buf)))) {
        *end = '\0';
        if (fdinfo_parse(line, &entry))
            visit(&entry, arg);
        line = end + 1;
    }
    len -= (size_t) (line - buf);
    memmove(buf, line, len);
    return len;
}

static ssize_t read_at(int fd, char *buf, size_t size, off_t offset)
{
    int tries = 0;
    ssize_t n;

    do
        n = pread(fd, buf, size, offset);
    while (fin__again(n, &tries));
    return n < 0 ? -errno : n;
}

int fin__fdinfo_read(int fdinfo, void (*visit)(const struct fin__entry *entry, void *arg),
                     void *arg)
{
    char buf[2048];
    size_t rest = 0, room;
    off_t offset = 0;
    ssize_t n;

    do {
        room = sizeof buf - rest;
        n = read_at(fdinfo, buf + rest, room, offset);
        if (n < 0 || room == 0 || offset > SIZE_LIMIT)
            return n < 0 ? (int) n : -EOVERFLOW;
        offset += n;
        rest = visit_lines(buf, rest + (size_t) n, visit, arg);
    } while ((size_t) n == room);
    return offset > 0 ? 0 : -EIO;
}
