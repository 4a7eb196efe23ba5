/* SPDX-License-Identifier: MIT */

/* A trace: what its parts share. */

#ifndef TOOL_TRACE_H
#define TOOL_TRACE_H

#include "trace_book.h"
#include "trace_options.h"
#include "trace_sink.h"
#include "trace_tasks.h"

#include "kernel/witness.h"

struct stacks;

struct trace {
    const struct trace_options *options;
    struct book book;
    struct tasks tasks;
    struct sink sink;
    struct stacks *stacks; /* NULL: not asked for */
    uint64_t began_ns;     /* CLOCK_MONOTONIC */
    uint64_t end_ns;       /* since then, once it is over */

    struct fin_kernel *kernel;
    struct fin__witness witness; /* entries: sockets, by id, that were released */
    struct thing *pending;       /* see trace_after.h */
    bool fresh;                  /* some were released since the last look */
    unsigned held;               /* how many of them are in the witness's set */

    pid_t *early; /* stopped before their parents told of them */
    size_t early_count;
    uint64_t early_ns; /* since when there is one */

    bool every_call; /* no filter: all system calls stop */
    bool began;      /* the command runs, or we are attached */
    bool detached;
    pid_t main; /* whose end is the command's */
    int ended;  /* its wait status, or -1 */

    char *notes[16];
    size_t note_count;
};

uint64_t trace_now(const struct trace *trace);

/* The name of a system call. */
const char *call_name(const struct call *call);

/* Remembers a sentence about what can't be seen, once, and says it where the trace is live. */
__attribute__((format(printf, 2, 3))) void trace_note(struct trace *trace, const char *format, ...);

/* Puts down what a thread, or the kernel (task NULL), did with a socket; event.place is filled here.
 * `keep` (may be NULL) becomes the place. */
void trace_tell(struct trace *trace, struct task *task, struct event event, const char *call,
                int fd, struct place *keep);

/* ---- descriptors of the traced, and what becomes of them (trace_descriptors.c) ---- */

/* The socket or epoll set of that number, or NULL; what was not seen being made is looked up. */
struct thing *descriptor_get(struct trace *trace, struct task *task, int fd);

/* A number that a call just returned: of a new socket, or of one that there is. */
struct thing *descriptor_made(struct trace *trace, struct task *task, int fd, enum origin origin);
void descriptor_copied(struct trace *trace, struct task *task, struct thing *thing, int from,
                       int to);

/* The number is about to lose its socket: looks at it if that is the last reference. */
void descriptor_look(struct trace *trace, struct task *task, int fd);

/* A close begins: the last reference is looked at while it is there, and the number is no more: the
 * kernel may give it to another thread before we hear of the end of the call. Returns the socket, if
 * it is one. */
struct thing *descriptor_close(struct trace *trace, struct task *task, int fd);
/* ... and has happened. */
void descriptor_closed(struct trace *trace, struct task *task, struct thing *socket, int fd);

/* Takes what /proc shows and the table lacks. */
void descriptors_found(struct trace *trace, struct task *task, enum origin origin);
/* The same, and drops what /proc does not show: it was closed or, in a new child, was never there. */
void descriptors_compare(struct trace *trace, struct task *task, enum origin origin);
/* Tells of each socket that a new process has from its parent. */
void descriptors_inherited(struct trace *trace, struct task *task);

/* The thread gets a table of its own. */
void descriptors_unshare(struct task *task);

/* The last thread of a table is about to end, and has ended. */
void descriptors_before_exit(struct trace *trace, struct task *task);
void descriptors_exit(struct trace *trace, struct task *task, bool killed);

#endif
