/* SPDX-License-Identifier: MIT */

/* One look at the machine's sockets: what the kernel lists, joined with what processes hold. */

#ifndef TOOL_LOOK_H
#define TOOL_LOOK_H

#include "dump.h"
#include "netns.h"
#include "scan.h"

/* What could not be looked at. */
struct blind {
    uint32_t processes;    /* that are other users' */
    bool hidden;           /* there may be more processes, which /proc does not show */
    unsigned refused;      /* protocols that the kernel would not list */
    uint32_t namespaces;   /* that we may not enter */
    uint32_t homes;        /* processes whose namespace we may not see */
    uint32_t elsewhere;    /* sockets that are in namespaces which were not asked for */
    uint32_t unidentified; /* TCP sockets: new, or dead */
};

struct look {
    struct dump dump;
    struct scan scan;
    LIST(struct reference) held; /* the references, socket by socket */
    struct blind blind;
    uint64_t at_ns; /* CLOCK_MONOTONIC */
};

/* Looks at the namespaces given, and judges every socket. look_free() then, in any case. Returns 0, or EXIT_TROUBLE
 * after one line on stderr. */
int look_take(struct look *look, struct netns_list *spaces);
void look_free(struct look *look);

/* The name of a Unix socket, "" for none. It may hold any byte but NUL. */
const char *look_name(const struct look *look, const struct socket *s);

#endif
