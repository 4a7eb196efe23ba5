/* SPDX-License-Identifier: MIT */

/* A trace: what its parts share. */

#ifndef TOOL_TRACE_H
#define TOOL_TRACE_H

#include "trace/book.h"
#include "trace/options.h"
#include "trace/tasks.h"

#include "kernel/witness.h"

struct sink;
struct stacks;

struct trace {
    const struct trace_options *options;
    struct book book;
    struct tasks tasks;
    struct sink *sink;
    struct stacks *stacks; /* NULL: not asked for */
    uint64_t began_ns;     /* CLOCK_MONOTONIC */
    uint64_t end_ns;       /* since then, once it is over */

    struct fin_kernel *kernel;
    struct fin__witness witness; /* entries: sockets, by id, that were released */
    struct thing *pending;       /* see after.h */
    bool fresh;                  /* some were released since the last look */
    unsigned in_witness;         /* how many of them are in the witness's set */

    LIST(pid_t) early; /* stopped before their parents told of them */
    uint64_t early_ns; /* since when there is one */

    bool every_call; /* no filter: all system calls stop */
    bool began;      /* the command runs, or we are attached */
    bool detached;
    pid_t main; /* whose end is the command's */
    int ended;  /* its wait status, or -1 */

    char *notes[16];
    size_t note_count;
};

#endif
