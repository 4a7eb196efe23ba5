/* SPDX-License-Identifier: MIT */

/* `await ending`: until the close is complete. If the wait is ended before, by an exception or
 * by close(), the close is aborted: RST. */

#include "transport/close.h"

#include <stddef.h>

#define ALREADY "it was waited for already"

struct waiting {
    PyObject ob_base;
    struct fin__py_ending *ending; /* NULL: it is over, or was never begun and closed */
    bool begun;                    /* counted among those that drive the ending */
};

static void stop_driving(struct waiting *w)
{
    if (w->begun)
        w->ending->driven--;
    w->begun = false;
    Py_CLEAR(w->ending);
}

static int waiting_end(struct waiting *w)
{
    struct fin__py_ending *c = (struct fin__py_ending *) Py_XNewRef(w->ending);
    bool begun = w->begun;
    int result;

    if (!c)
        return 0;
    stop_driving(w);
    result = begun ? fin__py_ending_abort(c, NULL) : 0;
    Py_DECREF(c);
    return result;
}

/* ---- the iterator ---- */

static int set_blocking(struct waiting *w, PyObject *future)
{
    const struct fin__py_module *m = PyType_GetModuleState(Py_TYPE(w));

    return m ? PyObject_SetAttr(future, m->asyncio.name_blocking, Py_True) : 0;
}

static PySendResult waiting_begin(struct waiting *w, PyObject **result)
{
    struct fin__py_ending *c = (struct fin__py_ending *) Py_NewRef(w->ending);
    PyObject *future = fin__py_ending_wait((PyObject *) c, NULL);
    bool over = future && Py_IsNone(future);

    if (future && !over && set_blocking(w, future) < 0)
        Py_CLEAR(future);
    if (future && (w->ending != c || w->begun)) { /* what ran meanwhile has gone on with it */
        PyErr_SetString(PyExc_RuntimeError, ALREADY);
        Py_CLEAR(future);
    }
    Py_DECREF(c);
    if (!future)
        return PYGEN_ERROR;
    if (over) {
        stop_driving(w);
        *result = future;
        return PYGEN_RETURN;
    }
    w->begun = true;
    w->ending->driven++;
    *result = future;
    return PYGEN_NEXT;
}

static PySendResult waiting_send(PyObject *object, PyObject *value, PyObject **result)
{
    struct waiting *w = (struct waiting *) object;

    (void) value;
    *result = NULL;
    if (!w->ending) {
        PyErr_SetString(PyExc_RuntimeError, ALREADY);
        return PYGEN_ERROR;
    }
    if (!w->begun)
        return waiting_begin(w, result);
    if (!w->ending->over) {
        if (waiting_end(w) == 0)
            PyErr_SetString(PyExc_RuntimeError, "the close is not complete yet");
        return PYGEN_ERROR;
    }
    stop_driving(w);
    *result = Py_NewRef(Py_None);
    return PYGEN_RETURN;
}

static PyObject *waiting_next(PyObject *object)
{
    PyObject *value;

    if (waiting_send(object, Py_None, &value) == PYGEN_NEXT)
        return value;
    Py_XDECREF(value); /* None: that is the end of an iterator by itself */
    return NULL;
}

static PyObject *waiting_throw(PyObject *object, PyObject *args)
{
    PyObject *type, *value;

    if (fin__py_thrown(args, &type, &value) == 0 && waiting_end((struct waiting *) object) == 0)
        PyErr_SetObject(type, value);
    return NULL;
}

static PyObject *waiting_close(PyObject *object, PyObject *unused)
{
    (void) unused;
    return fin__py_nothing(waiting_end((struct waiting *) object));
}

/* ---- the type ---- */

static int waiting_traverse(PyObject *object, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(object));
    Py_VISIT(((struct waiting *) object)->ending);
    return 0;
}

static int waiting_clear(PyObject *object)
{
    stop_driving((struct waiting *) object);
    return 0;
}

static void waiting_dealloc(PyObject *object)
{
    PyObject_GC_UnTrack(object);
    stop_driving((struct waiting *) object);
    fin__py_free(object);
}

static PyMethodDef methods[] = {
    { "throw", waiting_throw, METH_VARARGS, NULL },
    { "close", waiting_close, METH_NOARGS, NULL },
    { NULL, NULL, 0, NULL },
};

static PyType_Slot slots[] = {
    { Py_tp_doc, "Somebody who waits for a close." },
    { Py_tp_methods, methods },
    { Py_tp_traverse, waiting_traverse },
    { Py_tp_clear, waiting_clear },
    { Py_tp_dealloc, waiting_dealloc },
    { Py_tp_iter, PyObject_SelfIter },
    { Py_tp_iternext, waiting_next },
    { Py_am_send, waiting_send },
    { 0, NULL },
};

static PyType_Spec spec = {
    .name = "finack._core.Waiting",
    .basicsize = sizeof(struct waiting),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = slots,
};

int fin__py_add_waiting(PyObject *module, struct fin__py_asyncio *a)
{
    a->waiting_type = (PyTypeObject *) PyType_FromModuleAndSpec(module, &spec, NULL);
    return a->waiting_type ? 0 : -1;
}

/* The module is that of the ending's type: the ending may have no loop any more. */
PyObject *fin__py_ending_await(PyObject *object)
{
    const struct fin__py_module *m = PyType_GetModuleState(Py_TYPE(object));
    struct waiting *w;

    if (!m || !m->asyncio.waiting_type) {
        PyErr_SetString(PyExc_RuntimeError, "the module has ended");
        return NULL;
    }
    w = (struct waiting *) m->asyncio.waiting_type->tp_alloc(m->asyncio.waiting_type, 0);
    if (w)
        w->ending = (struct fin__py_ending *) Py_NewRef(object);
    return (PyObject *) w;
}
