/* SPDX-License-Identifier: MIT */

/* A CPython that runs in another process, and the places in its memory that PEP 768 writes to. */

#ifndef TOOL_INTERPRETER_H
#define TOOL_INTERPRETER_H

#include "common/list.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    SCRIPT_PATH = 256 /* terminated; CPython has room for 512 */
};

struct interpreter {
    int32_t pid;
    unsigned minor;  /* of version 3 */
    bool has_uvloop; /* it is loaded */
    uint64_t runtime, state;
    uint64_t breaker, pending, path; /* where these are in the state of a thread */
};

enum python_doing {
    WAITS_FOR_EVENTS, /* in epoll_wait(2), as a loop does */
    COMPUTES,
    IS_MAIN, /* and does neither */
    WAITS_OTHERWISE
};

/* A thread of Python's. */
struct python_thread {
    uint64_t state; /* its address, until it ends */
    int32_t tid;    /* 0: not known */
    enum python_doing doing;
};

typedef LIST(struct python_thread) python_threads;

/* Finds it. Returns 0, or EXIT_TROUBLE after one line on stderr that says why there is none, or
 * none that can be asked. */
int interpreter_find(struct interpreter *in, int32_t pid);

/* The threads of the main interpreter that are worth asking at this moment, the best first: those
 * that wait in epoll_wait(2), those that compute, and the main one. Returns 0 or a negative errno.
 * Free the list's `at`. */
int interpreter_threads(const struct interpreter *in, python_threads *list);

/* Does the thread still exist? If not, its state may be other memory by now. */
bool interpreter_has(const struct interpreter *in, const struct python_thread *thread);

#endif
