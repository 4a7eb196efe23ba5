/* SPDX-License-Identifier: MIT */

#include "values.h"

int fin__py_policy(PyObject *tuple, struct fin_policy *policy)
{
    struct fin_policy p = FIN_POLICY_INIT;
    unsigned long long drain;

    if (!PyTuple_Check(tuple)) {
        PyErr_SetString(PyExc_TypeError, "policy must be what Policy._as_tuple() returns");
        return -1;
    }
    if (!PyArg_ParseTuple(tuple, "iiipiiiiiiKp:policy", &p.courtesy, &p.scope, &p.proof,
                          &p.rebindable, &p.flush_ms, &p.farewell_ms, &p.linger_ms, &p.total_ms,
                          &p.proof_ms, &p.orphan_ms, &drain, &p.find_holders))
        return -1;
    p.drain = drain;
    *policy = p;
    return 0;
}

int fin__py_policy_again(struct fin__py_last_policy *last, PyObject *tuple,
                         struct fin_policy *policy)
{
    if (tuple == last->tuple) {
        *policy = last->policy;
        return 0;
    }
    if (fin__py_policy(tuple, policy) < 0)
        return -1;
    last->policy = *policy;
    Py_XSETREF(last->tuple, Py_NewRef(tuple));
    return 0;
}

int fin__py_moment(PyObject *seconds, uint64_t *ns)
{
    double value;

    if (Py_IsNone(seconds)) {
        *ns = 0;
        return 0;
    }
    value = PyFloat_AsDouble(seconds);
    if (PyErr_Occurred())
        return -1;
    *ns = value > 0 ? (uint64_t) (value * 1e9) : 0;
    return 0;
}
