/* SPDX-License-Identifier: MIT */

#include "arguments.h"

#include <finack/loop.h>
#include <limits.h>
#include <math.h>

#include "slots.h"

/* ---- calls ---- */

static int index_of(const struct fin__py_call *call, PyObject *name)
{
    for (int i = 0; call->names[i]; i++)
        if (PyUnicode_CompareWithASCIIString(name, call->names[i]) == 0)
            return i;
    PyErr_Format(PyExc_TypeError, "%s() got an unexpected keyword argument '%U'", call->function,
                 name);
    return -1;
}

static int spread_keywords(const struct fin__py_call *call, PyObject *const *args,
                           PyObject *keywords, PyObject **values)
{
    for (Py_ssize_t k = 0; k < PyTuple_GET_SIZE(keywords); k++) {
        int i = index_of(call, PyTuple_GET_ITEM(keywords, k));

        if (i < 0)
            return -1;
        if (values[i]) {
            PyErr_Format(PyExc_TypeError, "%s() got multiple values for argument '%s'",
                         call->function, call->names[i]);
            return -1;
        }
        values[i] = args[k];
    }
    return 0;
}

int fin__py_spread(const struct fin__py_call *call, PyObject *const *args, Py_ssize_t count,
                   PyObject *keywords, PyObject **values)
{
    Py_ssize_t i;

    for (i = 0; call->names[i]; i++)
        values[i] = i < count ? args[i] : NULL;
    if (count > i) {
        PyErr_Format(PyExc_TypeError, "%s() takes at most %zd arguments (%zd given)",
                     call->function, i, count);
        return -1;
    }
    if (keywords && spread_keywords(call, args + count, keywords, values) < 0)
        return -1;
    for (i = 0; i < call->required; i++)
        if (!values[i]) {
            PyErr_Format(PyExc_TypeError, "%s() missing required argument '%s'", call->function,
                         call->names[i]);
            return -1;
        }
    return 0;
}

/* ---- descriptors ---- */

static int number_of(PyObject *object, int *fd)
{
    int overflow;
    long number = PyLong_AsLongAndOverflow(object, &overflow);

    if (number == -1 && PyErr_Occurred())
        return -1;
    if (overflow < 0 || (overflow == 0 && number < 0)) {
        PyErr_Format(PyExc_ValueError, "Invalid file descriptor: %S", object);
        return -1;
    }
    *fd = overflow > 0 || number > INT_MAX ? INT_MAX : (int) number;
    return 0;
}

static bool is_no_file(void)
{
    return PyErr_ExceptionMatches(PyExc_AttributeError) || PyErr_ExceptionMatches(PyExc_TypeError)
        || PyErr_ExceptionMatches(PyExc_ValueError);
}

static PyObject *ask_fileno(struct fin__py_module *m, PyObject *fileobj)
{
    PyObject *answer = PyObject_CallMethodNoArgs(fileobj, m->name_fileno), *number;

    if (!answer || PyLong_Check(answer))
        return answer;
    number = PyNumber_Long(answer);
    Py_DECREF(answer);
    return number;
}

int fin__py_descriptor(struct fin__py_module *m, PyObject *fileobj, int *fd)
{
    PyObject *number;
    int result;

    if (PyLong_Check(fileobj))
        return number_of(fileobj, fd);
    number = ask_fileno(m, fileobj);
    if (!number) {
        if (is_no_file()) {
            PyErr_Clear(); /* raised from None */
            PyErr_Format(PyExc_ValueError, "Invalid file object: %R", fileobj);
        }
        return -1;
    }
    result = number_of(number, fd);
    Py_DECREF(number);
    return result;
}

/* ---- events ---- */

static int refuse_events(PyObject *object)
{
    PyErr_Format(PyExc_ValueError, "Invalid events: %R", object);
    return -1;
}

static int convert_events(PyObject *object, int *events)
{
    PyObject *number;
    int true_value = PyObject_IsTrue(object), overflow;
    long mask;

    if (true_value <= 0)
        return true_value < 0 ? -1 : refuse_events(object);
    number = PyNumber_Index(object);
    if (!number)
        return -1;
    mask = PyLong_AsLongAndOverflow(number, &overflow);
    Py_DECREF(number);
    if (overflow || mask <= 0 || mask > (FIN_READ | FIN_WRITE))
        return refuse_events(object);
    *events = (int) mask;
    return 0;
}

int fin__py_events(PyObject *object, int *events)
{
    if (PyLong_CheckExact(object)) {
        int overflow;
        long mask = PyLong_AsLongAndOverflow(object, &overflow);

        if (mask <= 0 || mask > (FIN_READ | FIN_WRITE))
            return refuse_events(object);
        *events = (int) mask;
        return 0;
    }
    return convert_events(object, events);
}

/* ---- time ---- */

int fin__py_timeout(PyObject *object, int *timeout_ms)
{
    double seconds, ms;

    *timeout_ms = -1;
    if (!object || object == Py_None)
        return 0;
    seconds = PyFloat_AsDouble(object);
    if (seconds == -1.0 && PyErr_Occurred())
        return -1;
    if (isnan(seconds)) {
        PyErr_SetString(PyExc_ValueError, "timeout is not a number of seconds");
        return -1;
    }
    ms = seconds <= 0 ? 0 : ceil(seconds * 1e3);
    if (ms > INT_MAX) {
        PyErr_SetString(PyExc_OverflowError, "timeout is too large");
        return -1;
    }
    *timeout_ms = (int) ms;
    return 0;
}

/* ---- keys ---- */

static PyObject *number_object(PyObject *fileobj, int fd)
{
    return PyLong_CheckExact(fileobj) ? Py_NewRef(fileobj) : PyLong_FromLong(fd);
}

PyObject *fin__py_key(struct fin__py_module *m, PyObject *fileobj, int fd, PyObject *events,
                      PyObject *data)
{
    PyObject *number = number_object(fileobj, fd), *key;

    if (!number)
        return NULL;
    key = m->key_type->tp_alloc(m->key_type, 4);
    if (!key) {
        Py_DECREF(number);
        return NULL;
    }
    FIN__PY_NO_HASH_YET(key);
    PyTuple_SET_ITEM(key, 0, Py_NewRef(fileobj));
    PyTuple_SET_ITEM(key, 1, number);
    PyTuple_SET_ITEM(key, 2, Py_NewRef(events));
    PyTuple_SET_ITEM(key, 3, Py_NewRef(data));
    return key;
}
