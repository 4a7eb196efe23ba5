/* SPDX-License-Identifier: MIT */

/* The extension finack._core: what its parts share. */

#ifndef FIN_PY_MODULE_H
#define FIN_PY_MODULE_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include "locks.h"
#include "loop/state.h"

struct fin__tomb;

/* Interned, since the interpreter's cache of look-ups keeps every string that it is asked for.
 * Three are also an observer's events. */
#define FIN__PY_OWN_NAMES(NAME)                                                                    \
    NAME(fileno, "fileno")                                                                         \
    NAME(fileobj, "fileobj")                                                                       \
    NAME(fd, "fd")                                                                                 \
    NAME(events, "events")                                                                         \
    NAME(select, "select")                                                                         \
    NAME(close, "close")                                                                           \
    NAME(get_map, "get_map")                                                                       \
    NAME(register, "register")                                                                     \
    NAME(modify, "modify")                                                                         \
    NAME(unregister, "unregister")

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
    FIN__PY_OWN_NAMES(FIN__PY_NAME_MEMBER)
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

/* A method of another form than PyCFunction's, as its flags say. */
#define FIN__PY_VECTOR(function) ((PyCFunction) (void (*)(void))(function))

/* A negative errno as OSError. Returns NULL. */
PyObject *fin__py_os_error(int result);

/* Of a call whose result nobody wants: 0, or -1 with an exception. Takes over `result`. */
static inline int fin__py_done(PyObject *result)
{
    Py_XDECREF(result);
    return result ? 0 : -1;
}

/* None; or NULL where `result` says that there is an exception. */
static inline PyObject *fin__py_nothing(int result)
{
    return result < 0 ? NULL : Py_NewRef(Py_None);
}

/* The end of an object of a type of ours, which it kept. */
static inline void fin__py_free(PyObject *object)
{
    PyTypeObject *type = Py_TYPE(object);

    type->tp_free(object);
    Py_DECREF(type);
}

#endif
