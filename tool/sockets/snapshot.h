/* SPDX-License-Identifier: MIT */

/* The machine's sockets at one moment: what the kernel lists, joined with what processes hold. */

#ifndef TOOL_SNAPSHOT_H
#define TOOL_SNAPSHOT_H

#include "sockets/dump.h"
#include "sockets/holders.h"

/* What could not be looked at. */
struct blind {
    uint32_t processes; /* that are other users'; the first of them: */
    int32_t process[UNREADABLE_TOLD];
    bool hidden;           /* there may be more processes, which /proc does not show */
    unsigned refused;      /* protocols that the kernel would not list */
    uint32_t namespaces;   /* that we may not enter */
    uint32_t homes;        /* processes whose namespace we may not see */
    uint32_t elsewhere;    /* sockets that are in namespaces which were not asked for */
    uint32_t unidentified; /* TCP sockets: new, or dead */
};

/* Bytes a second. */
struct socket_rate {
    bool known; /* --watch has seen it before */
    float received, acked;
};

struct snapshot {
    struct dump dump;
    struct scan scan;
    /* The references, socket by socket, those of each by process; the scan has none left. */
    LIST(struct reference) held;
    struct socket_rate *rates; /* socket by socket; NULL: not known */
    struct blind blind;
    uint64_t at_ns; /* CLOCK_MONOTONIC */
};

void snapshot_free(struct snapshot *snapshot);

/* What epoll sets still have of it, `count` of them. */
const struct stale_entry *snapshot_stales(const struct snapshot *snapshot, const struct socket *s,
                                          size_t *count);

/* NULL if it is not known. */
const struct socket_rate *snapshot_rate(const struct snapshot *snapshot, const struct socket *s);

/* The name of a Unix socket, "" for none. It may hold any byte but NUL. */
const char *snapshot_name(const struct snapshot *snapshot, const struct socket *s);

#endif
