/* SPDX-License-Identifier: MIT */

/* A stream to a descriptor: what is printed need not be held in memory. */

#ifndef TOOL_OUT_H
#define TOOL_OUT_H

#include <stdio.h>

struct out {
    FILE *file; /* to print to */
    int fd;
    int result; /* of writing so far: 0 or a negative errno */
    char buffer[65536];
};

/* 0 or -ENOMEM. The descriptor stays the caller's. `out` must not move. */
int out_open(struct out *out, int fd);

/* Writes the rest. Returns 0, or the negative errno of the first write that failed. */
int out_close(struct out *out);

#endif
