/* SPDX-License-Identifier: MIT */

/* Futures and tasks of the loop. */

#include "loop/loop.h"
#include "loop/state.h"

PyObject *fin__py_create_future(PyObject *object, PyObject *unused)
{
    const struct fin__py_asyncio *a = &((struct fin__py_loop *) object)->module->asyncio;

    (void) unused;
    return PyObject_Vectorcall(a->future, &object, 0, a->with_loop);
}

/* The names of all keywords, the loop's last. */
static PyObject *names_with_loop(const struct fin__py_asyncio *a, PyObject *keywords)
{
    if (!keywords)
        return Py_NewRef(a->with_loop);
    return PySequence_Concat(keywords, a->with_loop);
}

static PyObject *create_by_asyncio(PyObject *object, PyObject *const *args, Py_ssize_t count,
                                   PyObject *keywords)
{
    const struct fin__py_asyncio *a = &((struct fin__py_loop *) object)->module->asyncio;
    Py_ssize_t named = keywords ? PyTuple_GET_SIZE(keywords) : 0;
    PyObject *values[8];

    if (count + named >= 8)
        return PyErr_Format(PyExc_TypeError, "create_task() has too many arguments");
    values[0] = object;
    for (Py_ssize_t i = 0; i < count + named; i++)
        values[1 + i] = args[i];
    return PyObject_Vectorcall(a->create_task, values, (size_t) count + 1, keywords);
}

static bool has_factory(const struct fin__py_loop *loop)
{
    return loop->task_factory && !Py_IsNone(loop->task_factory);
}

PyObject *fin__py_create_task(PyObject *object, PyObject *const *args, Py_ssize_t count,
                              PyObject *keywords)
{
    struct fin__py_loop *loop = (struct fin__py_loop *) object;
    const struct fin__py_asyncio *a = &loop->module->asyncio;
    Py_ssize_t named = keywords ? PyTuple_GET_SIZE(keywords) : 0;
    PyObject *values[8], *names, *type, *task;

    if (loop->debug || loop->closed || has_factory(loop) || count != 1 || named > 6)
        return create_by_asyncio(object, args, count, keywords);
    type = PyDict_GetItemWithError(a->tasks, a->name_task);
    if (!type)
        return create_by_asyncio(object, args, count, keywords);
    names = names_with_loop(a, keywords);
    if (!names)
        return NULL;
    Py_INCREF(type);
    for (Py_ssize_t i = 0; i < 1 + named; i++)
        values[i] = args[i];
    values[1 + named] = object;
    task = PyObject_Vectorcall(type, values, 1, names);
    Py_DECREF(type);
    Py_DECREF(names);
    return task;
}
