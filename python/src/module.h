/* SPDX-License-Identifier: MIT */

/* The extension finack._core: what its parts share. */

#ifndef FIN_PY_MODULE_H
#define FIN_PY_MODULE_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include "locks.h"
#include "loop/state.h"

struct fin__tomb;

/* Objects keep a pointer to it: their types hold on to the module. */
struct fin__py_module {
    PyTypeObject *selector_type, *map_type;
    PyTypeObject *close_set_type;
    PyTypeObject *key_type;        /* selectors.SelectorKey */
    PyObject *base_selector;       /* selectors.BaseSelector */
    FIN__PY_MUTEX                  /* of the next three */
        struct fin__tomb *tombs;   /* of close() and release(), for reap() */
    pid_t reaper;                  /* the process whose reap() is at them, 0: none */
    uint64_t serial, first_serial; /* of what a CloseSet watches */
    PyObject *keys_view, *items_view, *values_view;
    /* Interned, since the interpreter's cache of look-ups keeps every string that it is asked
     * for. */
    PyObject *name_fileno, *name_fileobj, *name_fd, *name_events;
    PyObject *name_select, *name_close, *name_get_map, *name_keys;
    PyObject *name_register, *name_modify, *name_unregister; /* also an observer's events */
    struct fin__py_asyncio asyncio;
};

/* Each adds its types or functions to the module. 0, or -1 with an exception. */
int fin__py_add_selector(PyObject *module, struct fin__py_module *m);
int fin__py_add_map(PyObject *module, struct fin__py_module *m);
int fin__py_add_close(PyObject *module);
int fin__py_add_close_now(PyObject *module);
int fin__py_add_close_set(PyObject *module, struct fin__py_module *m);
int fin__py_add_identity(PyObject *module);
int fin__py_add_witness(PyObject *module);
int fin__py_add_receipt_of(PyObject *module);
int fin__py_add_tls(PyObject *module);

/* What tombs hold. */
int fin__py_tombs_traverse(struct fin__py_module *m, visitproc visit, void *arg);

/* By which a type, or one derived from it, finds its module. */
struct PyModuleDef *fin__py_definition(void);

/* A negative errno as OSError. Returns NULL. */
PyObject *fin__py_os_error(int result);

#endif
