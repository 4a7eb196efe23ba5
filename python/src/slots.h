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

#endif
