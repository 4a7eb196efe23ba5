/* SPDX-License-Identifier: MIT */

/* Policies and receipts: Python's tuples and the C structures. The names of what the tuples hold
 * are in _core.pyi. */

#ifndef FIN_PY_VALUES_H
#define FIN_PY_VALUES_H

#include "module.h"

#include <finack.h>

/* Policy._as_tuple() as a policy, not checked yet. 0, or -1 with TypeError or OverflowError. */
int fin__py_policy(PyObject *tuple, struct fin_policy *policy);

/* The policy that was read last: most closes have the same. Its owner drops the tuple. */
struct fin__py_last_policy {
    PyObject *tuple; /* NULL: there was none */
    struct fin_policy policy;
};

/* The same, and the tuple is not read again if it is that of the last one. */
int fin__py_policy_again(struct fin__py_last_policy *last, PyObject *tuple,
                         struct fin_policy *policy);

/* What Receipt._from_core() takes. A new reference, or NULL with MemoryError. */
PyObject *fin__py_receipt(const struct fin_receipt *receipt);

/* A holder as (pid, fd, command). */
PyObject *fin__py_holder(const struct fin_holder *holder);

/* Seconds of time.monotonic(), or None for 0, in nanoseconds. 0, or -1 with TypeError. */
int fin__py_moment(PyObject *seconds, uint64_t *ns);

#endif
