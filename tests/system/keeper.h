/* SPDX-License-Identifier: MIT */

/* A child that has inherited every descriptor and keeps them until it is told to end. */

#ifndef KEEPER_H
#define KEEPER_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct keeper {
    pid_t pid;
    int line;
};

/* Returns once the child has run begin(arg), which must return true. NULL: nothing to run. */
void keeper_start(struct keeper *k, bool (*begin)(void *arg), void *arg);
void keeper_stop(struct keeper *k);

/* Returns once thread `tid` of this process is inside system call `number`. */
void await_call(pid_t tid, long number);

#endif
