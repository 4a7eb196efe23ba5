/* SPDX-License-Identifier: MIT */

/* Closes that a driver in Python takes from step to step, and what those of one loop share. */

#ifndef FIN_PY_CLOSE_H
#define FIN_PY_CLOSE_H

#include "values.h"

#include "base/fork.h"
#include "close/endpoint.h"

struct fin__py_close;

/* What the closes of one loop share: a set that tells which of them has something to do, and what
 * the proof needs. One thread. */
struct fin__py_close_set {
    PyObject ob_base;
    bool closed;
    int set;                  /* epoll, edge-triggered, data = the close; -1: not needed yet */
    unsigned proving;         /* closes with an entry in the witness that they may ask about */
    struct fin_kernel kernel; /* its witness is whole, the rest is opened when it is needed */
    struct fin__fork_guard guard;
    PyObject *tuple; /* the policy of the last close, NULL: none; most have the same */
    struct fin_policy policy;
};

/* 0, or -1 with an exception: it is closed, or made by a parent process. */
int fin__py_close_set_usable(const struct fin__py_close_set *self);

/* As fin__py_policy(). */
int fin__py_close_set_policy(struct fin__py_close_set *self, PyObject *tuple,
                             struct fin_policy *policy);

/* Opens what a close needs that wants news, or a proof. 0 or a negative errno. */
int fin__py_close_set_need(struct fin__py_close_set *self, bool news, bool proof);

/* An edge for this close. Returns what the set's poll() lists for it, borrowed; may be NULL. */
PyObject *fin__py_close_ready(struct fin__py_close *c, uint32_t events);

#endif
