/* SPDX-License-Identifier: MIT */

/* Arguments of the selector's methods, with the standard library's rules and messages. */

#ifndef FIN_PY_ARGUMENTS_H
#define FIN_PY_ARGUMENTS_H

#include "module.h"

#include <stdbool.h>

struct fin__py_call {
    const char *function;
    const char *const *names; /* ends with NULL */
    int required;
};

/* Spreads a vector call over `values` (borrowed; NULL where not given). 0, or -1 with TypeError. */
int fin__py_spread(const struct fin__py_call *call, PyObject *const *args, Py_ssize_t count,
                   PyObject *keywords, PyObject **values);

/* A file object or number as a number, INT_MAX if it is too great for one. 0, or -1: ValueError, or
 * what fileno() raised. */
int fin__py_descriptor(struct fin__py_module *m, PyObject *fileobj, int *fd);

/* EVENT_READ | EVENT_WRITE as FIN_READ | FIN_WRITE, which are the same numbers. 0, or -1:
 * ValueError, TypeError. */
int fin__py_events(PyObject *object, int *events);

/* Seconds or None as milliseconds, rounded up; -1: for ever. 0, or -1 with an exception. */
int fin__py_timeout(PyObject *object, int *timeout_ms);

/* A new SelectorKey. */
PyObject *fin__py_key(struct fin__py_module *m, PyObject *fileobj, int fd, PyObject *events,
                      PyObject *data);

#endif
