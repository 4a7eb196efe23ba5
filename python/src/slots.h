/* SPDX-License-Identifier: MIT */

/* What differs between releases of Python, in one place. */

#ifndef FIN_PY_SLOTS_H
#define FIN_PY_SLOTS_H

#include <Python.h>

#if PY_VERSION_HEX >= 0x030d0000
#define FIN__PY_GIL_SLOT { Py_mod_gil, Py_MOD_GIL_USED },
#else
#define FIN__PY_GIL_SLOT
#endif

#if PY_VERSION_HEX >= 0x030c0000
#define FIN__PY_INTERPRETERS_SLOT                                                                  \
    { Py_mod_multiple_interpreters, Py_MOD_PER_INTERPRETER_GIL_SUPPORTED },
#define FIN__PY_WEAK_AND_DICT(type)                                                                \
    { "__weaklistoffset__", Py_T_PYSSIZET, offsetof(type, weak), Py_READONLY, NULL },              \
        { "__dictoffset__", Py_T_PYSSIZET, offsetof(type, dict), Py_READONLY, NULL },
#else
#include <structmember.h>
#define FIN__PY_INTERPRETERS_SLOT
#define FIN__PY_WEAK_AND_DICT(type)                                                                \
    { "__weaklistoffset__", T_PYSSIZET, offsetof(type, weak), READONLY, NULL },                    \
        { "__dictoffset__", T_PYSSIZET, offsetof(type, dict), READONLY, NULL },
#endif

/* fin__py_take_error(): what was raised, which is no longer set. A new reference. */
#if PY_VERSION_HEX >= 0x030c0000
#define fin__py_take_error PyErr_GetRaisedException
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
#endif

/* A tuple that is made member by member. Since 3.14 it keeps its hash, -1 until that is asked
 * for. */
#if PY_VERSION_HEX >= 0x030e0000
#define FIN__PY_NO_HASH_YET(tuple) (((PyTupleObject *) (tuple))->ob_hash = -1)
#else
#define FIN__PY_NO_HASH_YET(tuple) ((void) (tuple))
#endif

#endif
