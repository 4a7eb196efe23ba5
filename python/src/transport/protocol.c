/* SPDX-License-Identifier: MIT */

/* Calls the program's protocol, and handles its exceptions. */

#include "transport/tls.h"

#include "slots.h"

#include <errno.h>

/* ---- calls ---- */

static PyObject *protocol_call(PyObject *protocol, PyObject *method, PyObject *arg, PyObject *more)
{
    PyObject *args[] = { protocol, arg, more };
    size_t count = more ? 3 : arg ? 2 : 1;

    return PyObject_VectorcallMethod(method, args, count | PY_VECTORCALL_ARGUMENTS_OFFSET, NULL);
}

PyObject *fin__py_protocol_pass(struct fin__py_transport *t, PyObject *method, PyObject *arg,
                                PyObject *more)
{
    PyObject *protocol = Py_XNewRef(t->protocol), *context = Py_NewRef(t->context), *result = NULL;

    if (!protocol)
        PyErr_SetString(PyExc_RuntimeError, "the transport has no protocol any more");
    else if (PyContext_Enter(context) == 0) {
        result = protocol_call(protocol, method, arg, more);
        fin__py_context_leave(context);
    }
    Py_DECREF(context);
    Py_XDECREF(protocol);
    return result;
}

PyObject *fin__py_protocol_call(struct fin__py_transport *t, PyObject *method, PyObject *arg)
{
    return fin__py_protocol_pass(t, method, arg, NULL);
}

int fin__py_protocol_tell(struct fin__py_transport *t, PyObject *method, const char *what)
{
    PyObject *protocol = Py_NewRef(t->protocol);
    PyObject *result = protocol_call(protocol, method, NULL, NULL);

    Py_DECREF(protocol);
    if (!result)
        return fin__py_transport_report(t, what);
    Py_DECREF(result);
    return 0;
}

/* ---- exceptions ---- */

int fin__py_loop_tell(struct fin__py_loop *loop, PyObject *method, PyObject *whose,
                      const char *what, PyObject *error)
{
    PyObject *message = PyUnicode_FromString(what), *result = NULL;

    if (message)
        result = PyObject_CallMethodObjArgs((PyObject *) loop, method, whose, message, error, NULL);
    Py_XDECREF(message);
    return fin__py_done(result);
}

/* What the program did before it raised may have ended the transport, which knows no loop then. */
static int protocol_tell(struct fin__py_transport *t, const char *what, PyObject *error)
{
    if (!t->loop) {
        PyErr_SetObject((PyObject *) Py_TYPE(error), error);
        PyErr_WriteUnraisable((PyObject *) t);
        return 0;
    }
    return fin__py_loop_tell(t->loop, t->loop->module->asyncio.name_transport_failed,
                             (PyObject *) t, what, error);
}

int fin__py_transport_report(struct fin__py_transport *t, const char *what)
{
    PyObject *error;
    int result;

    if (fin__py_ends_the_run())
        return -1;
    error = fin__py_take_error();
    result = protocol_tell(t, what, error);
    Py_DECREF(error);
    return result;
}

int fin__py_transport_fail(struct fin__py_transport *t, const char *what)
{
    PyObject *error;
    int result = 0;

    if (fin__py_ends_the_run())
        return -1;
    error = fin__py_take_error();
    if (!PyObject_TypeCheck(error, (PyTypeObject *) PyExc_OSError))
        result = protocol_tell(t, what, error);
    if (result == 0)
        result = fin__py_transport_force(t, error);
    Py_DECREF(error);
    return result;
}

int fin__py_transport_fail_errno(struct fin__py_transport *t, int error, const char *what)
{
    t->failed = error;
    if (t->tls && error == -EBADMSG)
        fin__py_tls_raise(t);
    else
        (void) fin__py_os_error(error);
    return fin__py_transport_fail(t, what);
}

/* ---- futures ---- */

static int future_set(const struct fin__py_asyncio *a, PyObject *future, PyObject *error)
{
    return fin__py_done(PyObject_CallMethodOneArg(
        future, error ? a->name_set_exception : a->name_set_result, error ? error : Py_None));
}

static int future_is_done(const struct fin__py_asyncio *a, PyObject *future)
{
    PyObject *done = PyObject_CallMethodNoArgs(future, a->name_done);
    int result = done ? PyObject_IsTrue(done) : -1;

    Py_XDECREF(done);
    return result;
}

/* asyncio's own says itself that it is done. */
static int own_future_done(const struct fin__py_asyncio *a, PyObject *future, PyObject *error)
{
    if (future_set(a, future, error) == 0)
        return 0;
    if (!PyErr_ExceptionMatches(a->invalid_state))
        return -1;
    PyErr_Clear();
    return 0;
}

int fin__py_future_done(const struct fin__py_asyncio *a, PyObject *future, PyObject *error)
{
    int result;

    Py_INCREF(future); /* a future of the program's own make may do anything */
    if (Py_IS_TYPE(future, (PyTypeObject *) a->future))
        result = own_future_done(a, future, error);
    else {
        result = future_is_done(a, future);
        if (result == 0)
            result = future_set(a, future, error);
    }
    Py_DECREF(future);
    return result < 0 ? -1 : 0;
}
