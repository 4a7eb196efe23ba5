/* SPDX-License-Identifier: MIT */

/* The witness as an object: does anything still refer to a descriptor that was added before it
 * was closed? */

#include "values.h"

#include "base/fork.h"
#include "kernel/fdinfo.h"
#include "kernel/witness.h"

#include <errno.h>
#include <sys/stat.h>

struct pywitness {
    PyObject ob_base;
    struct fin__witness kernel; /* its part there; set -1: closed */
    struct fin__fork_guard guard;
    unsigned long long last; /* token given */
};

static PyObject *new (PyTypeObject *type, PyObject *args, PyObject *keywords)
{
    struct pywitness *self;
    int result;

    if (PyTuple_GET_SIZE(args) || (keywords && PyDict_GET_SIZE(keywords))) {
        PyErr_SetString(PyExc_TypeError, "Witness() takes no arguments");
        return NULL;
    }
    self = (struct pywitness *) type->tp_alloc(type, 0);
    if (!self)
        return NULL;
    self->kernel = (struct fin__witness) FIN__WITNESS_INIT;
    result = fin__witness_open(&self->kernel);
    if (result < 0) {
        Py_DECREF(self);
        return fin__py_os_error(result);
    }
    fin__fork_guard_init(&self->guard);
    return (PyObject *) self;
}

static void pywitness_end(struct pywitness *self)
{
    fin__witness_close(&self->kernel);
}

static void pywitness_dealloc(PyObject *object)
{
    pywitness_end((struct pywitness *) object);
    fin__py_free(object);
}

static PyObject *pywitness_close(PyObject *object, PyObject *unused)
{
    (void) unused;
    pywitness_end((struct pywitness *) object);
    Py_RETURN_NONE;
}

/* A child shares the set: what it adds would be the parent's entry. */
static int usable(const struct pywitness *self)
{
    if (self->kernel.set < 0) {
        PyErr_SetString(PyExc_ValueError, "this Witness is closed");
        return -1;
    }
    if (fin__fork_check(&self->guard) < 0) {
        (void) fin__py_os_error(-ECHILD);
        return -1;
    }
    return 0;
}

/* ---- add ---- */

struct search {
    int fd;
    uint64_t inode;
    uint64_t token;
};

static void pywitness_compare(const struct fin__entry *entry, void *arg)
{
    struct search *search = arg;

    if (entry->fd == search->fd && entry->inode == search->inode)
        search->token = entry->data;
}

/* The same description was added under this number before and is held since: one entry, one
 * token. */
static int pywitness_find(struct pywitness *self, int fd, uint64_t *token)
{
    struct search search = { .fd = fd };
    struct stat st;
    int result;

    if (fstat(fd, &st) < 0)
        return -errno;
    search.inode = st.st_ino;
    result = fin__fdinfo_read(self->kernel.fdinfo, pywitness_compare, &search);
    if (result == 0 && search.token == 0)
        result = -EEXIST;
    if (result == 0)
        *token = search.token;
    return result;
}

static PyObject *pywitness_add(PyObject *object, PyObject *args)
{
    struct pywitness *self = (struct pywitness *) object;
    uint64_t token;
    int fd, result;

    if (!PyArg_ParseTuple(args, "i:add", &fd) || usable(self) < 0)
        return NULL;
    token = self->last + 1;
    result = fin__witness_add(&self->kernel, fd, token);
    if (result == 0)
        self->last = token;
    else if (result == -EEXIST)
        result = pywitness_find(self, fd, &token);
    return result < 0 ? fin__py_os_error(result) : PyLong_FromUnsignedLongLong(token);
}

/* ---- held ---- */

static PyObject *held(PyObject *object, PyObject *args)
{
    struct pywitness *self = (struct pywitness *) object;
    unsigned long long token;

    if (!PyArg_ParseTuple(args, "K:held", &token) || usable(self) < 0)
        return NULL;
    switch (fin__witness_check(&self->kernel, token, NULL)) {
    case FIN_NO:
        Py_RETURN_FALSE;
    case FIN_YES:
        Py_RETURN_TRUE;
    default:
        Py_RETURN_NONE;
    }
}

/* ---- the type ---- */

FIN__PY_LOCK(pywitness_add)
FIN__PY_LOCK(held)
FIN__PY_LOCK(pywitness_close)

PyDoc_STRVAR(
    type_doc,
    "Witness()\n--\n\n"
    "Proof of the last reference: add() a descriptor before it is closed, then ask held().\n\n"
    "One per thread or loop; in a forked child add() and held() raise ChildProcessError.\n"
    "OSError: no descriptor is left, or no /proc.");
PyDoc_STRVAR(add_doc, "add($self, fd, /)\n--\n\nRemember an open descriptor; returns its token.");
PyDoc_STRVAR(held_doc,
             "held($self, token, /)\n--\n\n"
             "Does anything still refer to what was added? None: it can't be told.");

static PyMethodDef methods[] = {
    { "add", FIN__PY_LOCKED(pywitness_add), METH_VARARGS, add_doc },
    { "held", FIN__PY_LOCKED(held), METH_VARARGS, held_doc },
    { "close", FIN__PY_LOCKED(pywitness_close), METH_NOARGS,
      "close($self, /)\n--\n\nForget everything." },
    { NULL, NULL, 0, NULL },
};

static PyType_Slot slots[] = {
    { Py_tp_doc, (void *) type_doc },     { Py_tp_new, new }, { Py_tp_methods, methods },
    { Py_tp_dealloc, pywitness_dealloc }, { 0, NULL },
};

static PyType_Spec spec = {
    .name = "finack._core.Witness",
    .basicsize = sizeof(struct pywitness),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = slots,
};

int fin__py_add_witness(PyObject *module)
{
    PyObject *type = PyType_FromModuleAndSpec(module, &spec, NULL);
    int result = type ? PyModule_AddType(module, (PyTypeObject *) type) : -1;

    Py_XDECREF(type);
    return result;
}
