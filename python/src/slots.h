/* SPDX-License-Identifier: MIT */

/* What differs between releases of Python, in one place. */

#ifndef FIN_PY_SLOTS_H
#define FIN_PY_SLOTS_H

#include <Python.h>

#include <stdbool.h>

#if PY_VERSION_HEX >= 0x030d0000
#define FIN__PY_GIL_SLOT { Py_mod_gil, Py_MOD_GIL_USED },
#else
#define FIN__PY_GIL_SLOT
#endif

#if PY_VERSION_HEX >= 0x030c0000
#define FIN__PY_INTERPRETERS_SLOT                                                                  \
    { Py_mod_multiple_interpreters, Py_MOD_PER_INTERPRETER_GIL_SUPPORTED },
#else
#define FIN__PY_INTERPRETERS_SLOT
#endif

/* Do asyncio.Server's _attach() and _detach() take a transport? */
#define FIN__PY_SERVER_HAS_TRANSPORTS (PY_VERSION_HEX >= 0x030d0000)

/* fin__py_take_error(): what was raised, which is no longer set. A new reference.
 * fin__py_set_error(): it is set again, or none; takes over the reference. */
#if PY_VERSION_HEX >= 0x030c0000
#define fin__py_take_error PyErr_GetRaisedException
#define fin__py_set_error PyErr_SetRaisedException
#else
static inline PyObject *fin__py_take_error(void)
{
    PyObject *type, *value, *trace;

    PyErr_Fetch(&type, &value, &trace);
    PyErr_NormalizeException(&type, &value, &trace);
    if (trace)
        (void) PyException_SetTraceback(value, trace);
    Py_XDECREF(type);
    Py_XDECREF(trace);
    return value;
}

static inline void fin__py_set_error(PyObject *error)
{
    PyErr_Restore(error ? Py_NewRef(Py_TYPE(error)) : NULL, error,
                  error ? PyException_GetTraceback(error) : NULL);
}
#endif

/* fin__py_set_aside(): the exception that is set, or none, while something else is done, which is
 * to begin without one. fin__py_raise_again() sets it again, and says whether one is set: 0 or -1.
 * One that came meanwhile goes first only if there was none before; else nobody can be told of it
 * but as of one that came up in `where`. */
struct fin__py_aside {
    PyObject *error;
};

static inline struct fin__py_aside fin__py_set_aside(void)
{
    return (struct fin__py_aside) { PyErr_Occurred() ? fin__py_take_error() : NULL };
}

static inline void fin__py_restore(const struct fin__py_aside *aside)
{
    if (aside->error || PyErr_Occurred())
        fin__py_set_error(aside->error);
}

static inline void fin__py_forget(const struct fin__py_aside *aside)
{
    Py_XDECREF(aside->error);
}

static inline int fin__py_raise_again(const struct fin__py_aside *aside, PyObject *where)
{
    if (!aside->error)
        return PyErr_Occurred() ? -1 : 0;
    if (PyErr_Occurred())
        PyErr_WriteUnraisable(where);
    fin__py_set_error(aside->error);
    return -1;
}

/* A tuple that is made member by member. Since 3.14 it keeps its hash, -1 until that is asked
 * for. */
#if PY_VERSION_HEX >= 0x030e0000
#define FIN__PY_NO_HASH_YET(tuple) (((PyTupleObject *) (tuple))->ob_hash = -1)
#else
#define FIN__PY_NO_HASH_YET(tuple) ((void) (tuple))
#endif

#endif
