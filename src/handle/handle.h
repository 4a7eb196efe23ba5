/* SPDX-License-Identifier: MIT */

/* A socket that many threads use: one core for the socket, one fin_handle for each reference to it.
 * The number stays ours as long as a thread is inside, so none can meet a stranger's socket there. */

#ifndef FIN_HANDLE_H
#define FIN_HANDLE_H

#include <finack.h>
#include <pthread.h>
#include <stdbool.h>

enum fin__handle_state {
    FIN__HANDLE_OPEN,
    FIN__HANDLE_CLOSING,
    FIN__HANDLE_ENTOMBED, /* released; the last thread to leave frees the number */
    FIN__HANDLE_CLOSED,
};

struct fin__core {
    pthread_mutex_t lock; /* guards all that can change, in the handles too */
    pthread_cond_t left;  /* a thread left while the socket was closing; CLOCK_MONOTONIC */
    int fd;
    int dead; /* fin__dead_take() */
    int process;
    enum fin__handle_state state;
    unsigned references; /* not closed */
    unsigned objects;    /* not freed */
    unsigned inside;     /* threads, of them: */
    unsigned foreign;    /* between fin_handle_enter() and fin_handle_leave() */
    bool nonblocking;    /* O_NONBLOCK was set, for accept(2) */
};

struct fin_handle {
    struct fin__core *core;
    int wake; /* an eventfd, readable from close on */
    unsigned inside;
    bool closed, freed;
};

/* Counts the calling thread in. Returns the number, or -ECANCELED. */
int fin__handle_enter(struct fin_handle *handle, bool foreign);

/* Counts it out; the handle may be gone then. Returns whether it had been closed. */
bool fin__handle_leave(struct fin_handle *handle, bool foreign);

bool fin__handle_is_closed(struct fin_handle *handle);

#endif
