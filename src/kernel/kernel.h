/* SPDX-License-Identifier: MIT */

#ifndef FIN_KERNEL_H
#define FIN_KERNEL_H

#include "base/fork.h"
#include "kernel/diag.h"
#include "kernel/witness.h"

struct fin_kernel {
    struct fin__witness witness;
    struct fin__diag diag;
    int wait_set;    /* epoll set of the blocking driver, -1: none */
    int wait_mark;   /* base/mark.h */
    uint64_t serial; /* of the witness's entries */
    bool on_demand;  /* made for one call: parts are opened when they are needed */
    struct fin__fork_guard guard;
};

/* A handle for one call, on the stack. Opens nothing yet. */
void fin__kernel_begin(struct fin_kernel *kernel);
void fin__kernel_end(struct fin_kernel *kernel);

/* 0, or -ECHILD in a process forked from the handle's. */
int fin__kernel_check(const struct fin_kernel *kernel);

/* Each returns 0 if the part is there, else a negative errno, also if its number is another file
 * by now. */
int fin__kernel_need_wait_set(struct fin_kernel *kernel);
int fin__kernel_need_witness(struct fin_kernel *kernel);
int fin__kernel_need_diag(struct fin_kernel *kernel);

#endif
