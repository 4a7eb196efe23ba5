/* SPDX-License-Identifier: MIT */

/*
 * Which threads are inside a system call on a number, or about to enter one, by
 * /proc/self/task/TID/syscall: CPython does not count them, and passes the kernel a plain number.
 *
 * Once a socket object has given its number up no thread can begin to use it. Threads that took the
 * number before may still use it. Those that block in a call are seen there. A running thread may
 * be about to enter the call, which takes a few instructions, or be copying what it sends: if it
 * has used some processor time, and nothing was sent meanwhile, it does neither. The limit is
 * higher while the kernel has bytes to send, since sending them is charged to the thread inside.
 */

#ifndef FIN_PY_INSIDE_H
#define FIN_PY_INSIDE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct fin__thread {
    int32_t id;
    bool out;     /* for good */
    uint64_t cpu; /* ns used at the beginning, or when something was sent last */
};

struct fin__inside {
    int fd;
    uint64_t handed;             /* fin__taken() */
    struct fin__thread *threads; /* the others that there were at the beginning */
    size_t count;
    /* as of the last look: */
    unsigned receiving; /* or accepting */
    unsigned sending;   /* or connecting */
    unsigned stranded;  /* of those, waiting to send in poll(2): they will find the number gone */
    unsigned unknown;   /* running */
    uint64_t unsent;    /* bytes in the calls of those that send, at most */
};

/* To be called after the number was given up. Without /proc, memory or descriptors no thread is
 * seen. */
void fin__inside_begin(struct fin__inside *in, int fd);
void fin__inside_end(struct fin__inside *in);

void fin__inside_look(struct fin__inside *in);

/* Looks until it is known of each thread whether it is inside, for at most `span` ns. */
void fin__inside_settle(struct fin__inside *in, uint64_t span);

/* Is anybody in a call on the number. */
static inline bool fin__inside_any(const struct fin__inside *in)
{
    return in->receiving || in->sending;
}

/* Bytes given to TCP so far. 0, or a negative errno: -EOPNOTSUPP where the kernel, before 4.19,
 * does not count what it sent. */
int fin__handed(int fd, uint64_t *bytes);

/* A number that changes when bytes are given to the kernel. */
uint64_t fin__taken(int fd);

/* Sleeps between two looks; *pause begins as 0. */
void fin__inside_pause(uint64_t *pause);

#endif
