/* SPDX-License-Identifier: MIT */

/* What outlived the program's close. */

#ifndef TOOL_TRACE_GHOSTS_H
#define TOOL_TRACE_GHOSTS_H

#include "trace/trace.h"

enum ghost_kind {
    GHOST_DESCRIPTOR,   /* never closed; the end of the process did it */
    GHOST_DESCRIPTION,  /* closed, and held elsewhere */
    GHOST_REGISTRATION, /* closed, and left in an epoll set */
    GHOST_CONNECTION,   /* released, and the kernel still at work */
    GHOST_LEAK,         /* open when we detached, and the peer has ended */
};
#define GHOSTS 5

struct ghost {
    enum ghost_kind kind;
    uint64_t since_ns;
    uint64_t until_ns; /* NEVER: it is there still */
    char text[256];    /* printable */
};

/* Fills `ghosts` with those of one socket; returns how many. */
unsigned ghosts_of(const struct trace *trace, const struct thing *socket,
                   struct ghost ghosts[GHOSTS]);
unsigned ghosts_of_all(const struct trace *trace);

const char *ghost_name(enum ghost_kind kind);

#endif
