/* SPDX-License-Identifier: MIT */

/* /tmp/perf-PID.map, in which a JVM or Node, if asked to, lists the code that it makes. */

#ifndef TOOL_TRACE_PERF_MAP_H
#define TOOL_TRACE_PERF_MAP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct perf_map {
    char *text;  /* NULL: none is read */
    size_t size; /* of the file then */
    uint64_t tried_ns;
};

/* The name of the function at that address, in `name`; false if the map has none. Only a regular
 * file of the process's own user counts, of 64 MiB at most; it is read anew as it grows. */
bool perf_map_find(struct perf_map *map, pid_t pid, uint64_t at, char *name, size_t size);
void perf_map_free(struct perf_map *map);

#endif
