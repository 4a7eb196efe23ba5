/* SPDX-License-Identifier: MIT */

#include "trace/perf_map.h"

#include "common/deadline.h"
#include "common/file.h"

#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define SIZE_MOST (64 << 20)
#define AGAIN_NS 100000000ull

/* ---- the file ---- */

static bool is_its_own(pid_t pid, const struct stat *file)
{
    char path[32];
    struct stat process;

    snprintf(path, sizeof path, "/proc/%d", (int) pid);
    return stat(path, &process) == 0 && process.st_uid == file->st_uid;
}

static int open_map(pid_t pid, struct stat *st)
{
    char path[64];
    int fd;

    snprintf(path, sizeof path, "/tmp/perf-%d.map", (int) pid);
    fd = open(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    if (fd < 0)
        return -1;
    if (fstat(fd, st) == 0 && S_ISREG(st->st_mode) && st->st_size <= SIZE_MOST
        && is_its_own(pid, st))
        return fd;
    close(fd);
    return -1;
}

static void renew(struct perf_map *map, pid_t pid)
{
    struct stat st;
    size_t used;
    int fd;

    if (map->tried_ns && fin__now() - map->tried_ns < AGAIN_NS)
        return;
    map->tried_ns = fin__now();
    fd = open_map(pid, &st);
    if (fd < 0)
        return;
    if ((size_t) st.st_size != map->size) {
        free(map->text);
        map->size = (size_t) st.st_size;
        map->text = file_read(fd, map->size, &used);
    }
    close(fd);
}

/* ---- what it says: "START SIZE NAME", in hexadecimal ---- */

static bool take_line(const char *line, uint64_t at, char *name, size_t size)
{
    char *end;
    uint64_t start = strtoull(line, &end, 16), length;

    if (end == line || *end != ' ' || start > at)
        return false;
    length = strtoull(end + 1, &end, 16);
    if (*end != ' ' || at - start >= length)
        return false;
    snprintf(name, size, "%.*s", (int) strcspn(end + 1, "\n"), end + 1);
    return true;
}

/* Code moves: the last that was said of an address counts. */
static bool search(const struct perf_map *map, uint64_t at, char *name, size_t size)
{
    bool found = false;

    for (const char *line = map->text; line && *line;) {
        const char *end = strchr(line, '\n');

        found |= take_line(line, at, name, size);
        line = end ? end + 1 : NULL;
    }
    return found;
}

bool perf_map_find(struct perf_map *map, pid_t pid, uint64_t at, char *name, size_t size)
{
    renew(map, pid);
    return search(map, at, name, size);
}

void perf_map_free(struct perf_map *map)
{
    free(map->text);
    *map = (struct perf_map) { .text = NULL };
}
