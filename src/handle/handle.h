/* SPDX-License-Identifier: MIT */

/* A socket that many threads use: one core for the socket, one fin_handle for each reference to
 * it. The number stays ours as long as a thread is inside, so that none can use another file by
 * mistake. */

#ifndef FIN_HANDLE_H
#define FIN_HANDLE_H

#include "base/fork.h"

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
    struct fin__lock lock; /* guards all that can change, in the handles too */
    pthread_cond_t left;   /* a thread left while the socket was closing; CLOCK_MONOTONIC */
    int fd;
    uint64_t device, inode; /* of the socket */
    int dead;               /* fin__dead_take() */
    enum fin__handle_state state;
    struct fin_handle *first; /* of the references that are not freed */
    unsigned references;      /* not closed */
    unsigned objects;         /* not freed */
    unsigned inside;          /* threads, of them: */
    unsigned foreign;         /* between fin_handle_enter() and fin_handle_leave() */
    bool nonblocking;         /* O_NONBLOCK was set, for accept(2) */
    uint64_t unsent;          /* bytes that calls had left to send when a close cut them short */
};

struct fin_handle {
    struct fin__core *core;
    struct fin_handle *next, **link; /* of the references to one core */
    int wake; /* an eventfd, readable from close on; -1 in a child that could not make one */
    int mark; /* of it: base/mark.h */
    unsigned inside;
    bool closed, freed;
};

/* Counts the calling thread in. Returns the number, or -ECANCELED. */
int fin__handle_enter(struct fin_handle *handle, bool foreign);

/* Counts it out; the handle may be gone then. Returns whether it had been closed. */
bool fin__handle_leave(struct fin_handle *handle, bool foreign);

bool fin__handle_is_closed(struct fin_handle *handle);

/* A thread inside has sent a part, and a close keeps it from sending the rest. */
void fin__handle_note_unsent(struct fin_handle *handle, uint64_t bytes);
uint64_t fin__core_unsent(struct fin__core *core);

/* Takes the lock of a core. The first thing that a forked child does with one is to make it its
 * own: of the threads that were inside none is here. */
void fin__core_lock(struct fin__core *core);
void fin__core_unlock(struct fin__core *core);

#endif
