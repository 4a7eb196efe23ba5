/* SPDX-License-Identifier: MIT */

#include "close.h"

#include "base/descriptor.h"

#include <errno.h>
#include <sys/epoll.h>

#define BATCH 64

int fin__py_close_set_usable(const struct fin__py_close_set *self)
{
    if (self->closed) {
        PyErr_SetString(PyExc_ValueError, "operation on closed set");
        return -1;
    }
    if (fin__fork_check(&self->guard) < 0) {
        (void) fin__py_os_error(-ECHILD);
        return -1;
    }
    return 0;
}

int fin__py_close_set_policy(struct fin__py_close_set *self, PyObject *tuple,
                             struct fin_policy *policy)
{
    if (tuple != self->tuple) {
        if (fin__py_policy(tuple, &self->policy) < 0)
            return -1;
        Py_XSETREF(self->tuple, Py_NewRef(tuple));
    }
    *policy = self->policy;
    return 0;
}

int fin__py_close_set_need(struct fin__py_close_set *self, bool news, bool proof)
{
    struct fin__witness *witness = &self->kernel.witness;
    int result = proof && witness->set < 0 ? fin__witness_open(witness) : 0;

    if (fin__is_lack(result))
        return result;
    if (news && self->set < 0)
        self->set = epoll_create1(EPOLL_CLOEXEC);
    return news && self->set < 0 ? -errno : 0;
}

static PyObject *new (PyTypeObject *type, PyObject *args, PyObject *keywords)
{
    struct fin__py_close_set *self;

    if (PyTuple_GET_SIZE(args) || (keywords && PyDict_GET_SIZE(keywords))) {
        PyErr_SetString(PyExc_TypeError, "CloseSet() takes no arguments");
        return NULL;
    }
    self = (struct fin__py_close_set *) type->tp_alloc(type, 0);
    if (!self)
        return NULL;
    self->set = -1;
    fin__kernel_begin(&self->kernel);
    fin__fork_guard_init(&self->guard);
    return (PyObject *) self;
}

static PyObject *close_(PyObject *object, PyObject *unused)
{
    struct fin__py_close_set *self = (struct fin__py_close_set *) object;

    (void) unused;
    self->closed = true;
    fin__drop(&self->set);
    fin__kernel_end(&self->kernel);
    Py_RETURN_NONE;
}

static void dealloc(PyObject *object)
{
    struct fin__py_close_set *self = (struct fin__py_close_set *) object;
    PyTypeObject *type = Py_TYPE(object);

    fin__drop(&self->set);
    fin__kernel_end(&self->kernel);
    fin__fork_guard_end(&self->guard);
    Py_XDECREF(self->tuple);
    type->tp_free(object);
    Py_DECREF(type);
}

static PyObject *fileno_(PyObject *object, PyObject *unused)
{
    struct fin__py_close_set *self = (struct fin__py_close_set *) object;
    int result;

    (void) unused;
    if (fin__py_close_set_usable(self) < 0)
        return NULL;
    result = fin__py_close_set_need(self, true, false);
    if (result < 0)
        return fin__py_os_error(result);
    return PyLong_FromLong(self->set);
}

/* Does not wait, so that the interpreter is not released: no close can go away meanwhile. */
static PyObject *poll_(PyObject *object, PyObject *unused)
{
    struct fin__py_close_set *self = (struct fin__py_close_set *) object;
    struct epoll_event events[BATCH];
    PyObject *list;
    int n;

    (void) unused;
    if (fin__py_close_set_usable(self) < 0)
        return NULL;
    list = PyList_New(0);
    n = list && self->set >= 0 ? epoll_wait(self->set, events, BATCH, 0) : 0;
    for (int i = 0; i < n; i++) {
        PyObject *owner = fin__py_close_ready(events[i].data.ptr, events[i].events);

        if (owner && PyList_Append(list, owner) < 0) {
            Py_DECREF(list);
            return NULL;
        }
    }
    return list;
}

PyDoc_STRVAR(type_doc,
             "CloseSet()\n--\n\n"
             "What the closes of one loop share; its descriptor is readable when one of them has\n"
             "something to do. Opens nothing before there is need of it.");

static PyMethodDef methods[] = {
    { "fileno", fileno_, METH_NOARGS,
      "fileno($self, /)\n--\n\nThe descriptor to watch for input." },
    { "poll", poll_, METH_NOARGS, "poll($self, /)\n--\n\nThe owners of the closes with news." },
    { "close", close_, METH_NOARGS, "close($self, /)\n--\n\nClose what it opened." },
    { NULL, NULL, 0, NULL },
};

static PyType_Slot slots[] = {
    { Py_tp_doc, (void *) type_doc }, { Py_tp_new, new }, { Py_tp_methods, methods },
    { Py_tp_dealloc, dealloc },       { 0, NULL },
};

static PyType_Spec spec = {
    .name = "finack._core.CloseSet",
    .basicsize = sizeof(struct fin__py_close_set),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = slots,
};

int fin__py_add_close_set(PyObject *module, struct fin__py_module *m)
{
    m->close_set_type = (PyTypeObject *) PyType_FromModuleAndSpec(module, &spec, NULL);
    return m->close_set_type ? PyModule_AddType(module, m->close_set_type) : -1;
}
