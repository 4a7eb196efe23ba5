/* SPDX-License-Identifier: MIT */

/* Closes that a driver in Python takes from step to step, and what the closes of one loop share. */

#ifndef FIN_PY_CLOSE_H
#define FIN_PY_CLOSE_H

#include "values.h"

#include "base/fork.h"
#include "close/endpoint.h"

struct fin__py_close;

/* The close that is watched. Not owned: a close removes itself before it is freed. */
struct fin__py_watched {
    struct fin__py_close *close; /* NULL: free */
    uint64_t id;                 /* if free: which is the next one, from 1; 0: none */
};

/* What the closes of one loop share: an epoll set that shows which of them has something to do,
 * and what the proof needs. One thread at a time: another one is refused. Members that `busy`
 * does not protect are used only with the interpreter's lock held. */
struct fin__py_close_set {
    PyObject ob_base;
    struct fin__py_module *module;
    bool closed;
    bool busy;     /* a thread without the interpreter's lock uses `kernel` */
    bool doubtful; /* an entry was not found in `set`: perhaps its number is not ours any more */
    int set;       /* epoll, edge-triggered, data = an identifier; -1: not needed yet, or lost */
    struct fin__py_watched *watched;
    uint32_t size;            /* of `watched` */
    uint32_t free;            /* the first free one, from 1; 0: none */
    unsigned proving;         /* closes with an entry in the witness that they may ask about */
    struct fin_kernel kernel; /* its witness is whole, the rest is opened when it is needed */
    struct fin__fork_guard guard;
    struct fin__py_last_policy last;
};

/* 0, or -1 with an exception: it is closed, made by a parent process, or in use by another
 * thread. */
int fin__py_close_set_usable(const struct fin__py_close_set *self);

/* Opens what a close needs that wants a proof. 0 or a negative errno. */
int fin__py_close_set_need_proof(struct fin__py_close_set *self);

/* Has poll() list the close when `fd` has an event. Returns its identifier, or a negative errno.
 * An identifier is not used again. */
int64_t fin__py_close_set_watch(struct fin__py_close_set *self, struct fin__py_close *c, int fd);

/* Forgets it. `fd` may be closed already. */
void fin__py_close_set_unwatch(struct fin__py_close_set *self, uint64_t id, int fd);

/* An edge for this close. Returns what the set's poll() lists for it (new reference), or NULL:
 * nothing. */
PyObject *fin__py_close_ready(struct fin__py_close *c, uint32_t events);

int fin__py_close_fd(const struct fin__py_close *c);

#endif
