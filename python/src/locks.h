/* SPDX-License-Identifier: MIT */

/*
 * Methods that have the lock of their object, for builds of Python without a lock for all (the
 * GIL). It is given up where the GIL would be: where a thread waits, and where Python code may run.
 * So what holds with a GIL holds with it: no slot of a table is kept across such a place.
 *
 * LOCK_*(method) defines what FIN__PY_LOCKED(method) names; with a GIL that is the method itself.
 */

#ifndef FIN_PY_LOCKS_H
#define FIN_PY_LOCKS_H

#include <Python.h>

#if PY_VERSION_HEX < 0x030d0000
#define Py_BEGIN_CRITICAL_SECTION(object) {
#define Py_END_CRITICAL_SECTION() }
#endif

#ifdef Py_GIL_DISABLED

#define FIN__PY_MUTEX PyMutex mutex;
#define FIN__PY_MUTEX_LOCK(owner) PyMutex_Lock(&(owner)->mutex)
#define FIN__PY_MUTEX_UNLOCK(owner) PyMutex_Unlock(&(owner)->mutex)

#define FIN__PY_LOCKED(method) method##_locked

#define FIN__PY_LOCK_METHOD(type, method, parameters, arguments, first, second)                    \
    static type method##_locked parameters                                                         \
    {                                                                                              \
        type result;                                                                               \
                                                                                                   \
        Py_BEGIN_CRITICAL_SECTION2(first, second);                                                 \
        result = method arguments;                                                                 \
        Py_END_CRITICAL_SECTION2();                                                                \
        return result;                                                                             \
    }

/* Two locks that are one are one. */
#define FIN__PY_LOCK_WITH(method, second)                                                          \
    FIN__PY_LOCK_METHOD(PyObject *, method, (PyObject * self, PyObject * arg), (self, arg), self,  \
                        second)
#define FIN__PY_LOCK_GETTER_WITH(method, second)                                                   \
    FIN__PY_LOCK_METHOD(PyObject *, method, (PyObject * self, void *arg), (self, arg), self, second)
#define FIN__PY_LOCK_KEYWORDS_WITH(method, second)                                                 \
    FIN__PY_LOCK_METHOD(PyObject *, method,                                                        \
                        (PyObject * self, PyObject * args, PyObject * keywords),                   \
                        (self, args, keywords), self, second)
#define FIN__PY_LOCK_UNARY_WITH(type, method, second)                                              \
    FIN__PY_LOCK_METHOD(type, method, (PyObject * self), (self), self, second)
#define FIN__PY_LOCK_BINARY_WITH(type, method, second)                                             \
    FIN__PY_LOCK_METHOD(type, method, (PyObject * self, PyObject * other), (self, other), self,    \
                        second)
#define FIN__PY_LOCK_FAST_WITH(method, second)                                                     \
    FIN__PY_LOCK_METHOD(PyObject *, method,                                                        \
                        (PyObject * self, PyObject *const *args, Py_ssize_t count),                \
                        (self, args, count), self, second)
#define FIN__PY_LOCK_VECTOR(method)                                                                \
    FIN__PY_LOCK_METHOD(                                                                           \
        PyObject *, method,                                                                        \
        (PyObject * self, PyObject *const *args, Py_ssize_t count, PyObject *keywords),            \
        (self, args, count, keywords), self, self)
#define FIN__PY_LOCK_INIT(method)                                                                  \
    FIN__PY_LOCK_METHOD(int, method, (PyObject * self, PyObject * args, PyObject * keywords),      \
                        (self, args, keywords), self, self)
/* Of what is made with another object, its first argument. */
#define FIN__PY_LOCK_NEW(method)                                                                   \
    FIN__PY_LOCK_METHOD(                                                                           \
        PyObject *, method, (PyTypeObject * type, PyObject * args, PyObject * keywords),           \
        (type, args, keywords), args, PyTuple_GET_SIZE(args) ? PyTuple_GET_ITEM(args, 0) : args)

#else

#define FIN__PY_MUTEX
#define FIN__PY_MUTEX_LOCK(owner) ((void) (owner))
#define FIN__PY_MUTEX_UNLOCK(owner) ((void) (owner))

#define FIN__PY_LOCKED(method) method

#define FIN__PY_LOCK_WITH(method, second)
#define FIN__PY_LOCK_GETTER_WITH(method, second)
#define FIN__PY_LOCK_KEYWORDS_WITH(method, second)
#define FIN__PY_LOCK_UNARY_WITH(type, method, second)
#define FIN__PY_LOCK_BINARY_WITH(type, method, second)
#define FIN__PY_LOCK_FAST_WITH(method, second)
#define FIN__PY_LOCK_VECTOR(method)
#define FIN__PY_LOCK_INIT(method)
#define FIN__PY_LOCK_NEW(method)

#endif

#define FIN__PY_LOCK(method) FIN__PY_LOCK_WITH(method, self)
#define FIN__PY_LOCK_FAST(method) FIN__PY_LOCK_FAST_WITH(method, self)

#endif
