/* SPDX-License-Identifier: MIT */

#ifndef FIN_PY_PROXY_H
#define FIN_PY_PROXY_H

#include "module.h"

#include "loop/selector.h"

#include <stdbool.h>

/* ProxySelector. Each slot's `data` in the table is a SelectorKey that the table owns. */
struct fin__py_selector {
    PyObject ob_base;
    struct fin__py_module *module;
    struct fin_selector *selector; /* NULL before __init__ and once it is closed */
    PyObject *wrapped;             /* the selector that polls, or NULL: the epoll set does */
    PyObject *map;                 /* what get_map() returns; NULL: closed */
    PyObject *observers;           /* a tuple, replaced as a whole; NULL: none */
    struct epoll_event *spare;     /* a buffer for events that no thread uses now */
    int spare_size;
    int waiting; /* threads inside the wait: the last one out ends a closed selector */
    bool closed;
    PyObject *dict, *weak;
};

/* ---- selector.c ---- */

/* The number of what is or was registered: also that of a file object closed since, found by the
 * object. 0, or -1 with an exception. */
int fin__py_lookup(struct fin__py_selector *self, PyObject *fileobj, int *fd);

/* The key registered under the number (borrowed), or NULL, without an exception. One whose number
 * means something else now is dropped, and observers are told. */
PyObject *fin__py_current(struct fin__py_selector *self, int fd);

/* Raises KeyError. Returns NULL. */
PyObject *fin__py_not_registered(PyObject *fileobj);

/* Frees what a closed selector is made of, unless a thread waits in it. */
void fin__py_finish(struct fin__py_selector *self);

/* Raises ValueError if it is closed, ChildProcessError in a forked child. 0 or -1. */
int fin__py_usable(struct fin__py_selector *self);

/* ---- selector_wait.c ---- */

PyObject *fin__py_select(struct fin__py_selector *self, PyObject *const *args, Py_ssize_t count,
                         PyObject *keywords);

/* ---- selector_map.c ---- */

PyObject *fin__py_map_new(struct fin__py_selector *selector);

#endif
