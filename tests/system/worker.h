/* SPDX-License-Identifier: MIT */

/* What the tests of the handle share: threads inside one. */

#ifndef WORKER_H
#define WORKER_H

#include "support.h"

#include <stdatomic.h>
#include <sys/syscall.h>

struct worker {
    pthread_t thread;
    struct fin_handle *handle;
    atomic_int tid, done, fd;
    atomic_int release; /* what stay() waits for once `fd` is set */
    int flags, timeout_ms;
    int64_t result; /* of the job; of calls of its own: -errno */
    char buf[64];
    void (*job)(struct worker *w);
};

/* Runs `job` in a thread. */
void start(struct worker *w, struct fin_handle *handle, void (*job)(struct worker *w));

/* Its result. */
int64_t join(struct worker *w);

/* Returns once the thread sleeps in that system call. */
void await_call(struct worker *w, long number);

/* The same for a child. */
void await_call_in_child(pid_t pid, long number);

/* Returns once a thread that runs stay() is inside. */
void await_entry(struct worker *w);

/* ---- jobs ---- */

void receive(struct worker *w);
void send_block(struct worker *w); /* 1 MiB */
void send_part(struct worker *w);  /* the same, with FIN_SEND_PART */
void take(struct worker *w);       /* accept */
void receive_alone(struct worker *w);
void accept_alone(struct worker *w);

/* Stays inside whatever happens, and uses the number before it leaves. */
void stay(struct worker *w);

/* ---- closing ---- */

struct fin_handle *handle_of(int fd);

/* fin_handle_close() that must succeed. */
struct fin_receipt closed_handle(struct fin_handle *handle, const struct fin_policy *policy);

/* Every call says that the handle is closed. */
void assert_cancelled(struct fin_handle *handle);

#endif
