/* SPDX-License-Identifier: MIT */

/* ProxySelector: selectors.BaseSelector on fin_selector, or around another selector. */

#include "arguments.h"
#include "proxy.h"
#include "slots.h"

#include <errno.h>
#include <stddef.h>
#include <structmember.h>

/* ---- what can't be done ---- */

PyObject *fin__py_not_registered(PyObject *fileobj)
{
    PyObject *text = PyUnicode_FromFormat("%R is not registered", fileobj);

    if (text)
        PyErr_SetObject(PyExc_KeyError, text);
    Py_XDECREF(text);
    return NULL;
}

bool fin__py_is_open(const struct fin__py_selector *self)
{
    return self->selector && !self->closed;
}

bool fin__py_is_child(const struct fin__py_selector *self)
{
    return self->selector && fin__selector_check(self->selector) < 0;
}

static PyObject *refuse_child(void)
{
    PyObject *arguments =
        Py_BuildValue("(is)", ECHILD, "the selector belongs to the process that forked this one");

    if (arguments)
        PyErr_SetObject(PyExc_OSError, arguments);
    Py_XDECREF(arguments);
    return NULL;
}

int fin__py_usable(struct fin__py_selector *self)
{
    if (!fin__py_is_open(self)) {
        PyErr_SetString(PyExc_ValueError, "I/O operation on closed selector");
        return -1;
    }
    if (fin__py_is_child(self)) {
        (void) refuse_child();
        return -1;
    }
    return 0;
}

/* ---- observers ---- */

void fin__py_tell(struct fin__py_selector *self, PyObject *event, PyObject *key)
{
    PyObject *observers = Py_XNewRef(self->observers);

    for (Py_ssize_t i = 0; observers && i < PyTuple_GET_SIZE(observers); i++) {
        PyObject *observer = PyTuple_GET_ITEM(observers, i);
        PyObject *result = PyObject_CallFunctionObjArgs(observer, event, key, NULL);

        /* It only looks on: the selector does what it was asked for all the same. */
        if (!result)
            PyErr_WriteUnraisable(observer);
        Py_XDECREF(result);
    }
    Py_XDECREF(observers);
}

/* `was` with `observer` at its end. */
static PyObject *all_and(PyObject *was, PyObject *observer)
{
    Py_ssize_t count = was ? PyTuple_GET_SIZE(was) : 0;
    PyObject *all = PyTuple_New(count + 1);

    for (Py_ssize_t i = 0; all && i < count; i++)
        PyTuple_SET_ITEM(all, i, Py_NewRef(PyTuple_GET_ITEM(was, i)));
    if (all)
        PyTuple_SET_ITEM(all, count, Py_NewRef(observer));
    return all;
}

/* `was` without the first that equals `observer`; NULL with ValueError if none does. */
static PyObject *all_but(PyObject *was, PyObject *observer)
{
    Py_ssize_t index = was ? PySequence_Index(was, observer) : -1;
    PyObject *all;

    if (index < 0) {
        if (!PyErr_Occurred() || PyErr_ExceptionMatches(PyExc_ValueError))
            PyErr_Format(PyExc_ValueError, "%R is not an observer", observer);
        return NULL;
    }
    all = PyTuple_New(PyTuple_GET_SIZE(was) - 1);
    for (Py_ssize_t i = 0, to = 0; all && i < PyTuple_GET_SIZE(was); i++)
        if (i != index)
            PyTuple_SET_ITEM(all, to++, Py_NewRef(PyTuple_GET_ITEM(was, i)));
    return all;
}

#define CHANGES_MAX 100

/* Comparing and allocating run Python code, which may change the observers: then the change is made
 * again, to what they are by now. */
static int change_observers(struct fin__py_selector *self, PyObject *observer,
                            PyObject *(*change)(PyObject *was, PyObject *observer))
{
    for (int i = 0; i < CHANGES_MAX; i++) {
        PyObject *was = Py_XNewRef(self->observers), *all = change(was, observer);
        bool same = was == self->observers;

        if (all && same)
            Py_XSETREF(self->observers, Py_NewRef(all));
        Py_XDECREF(was);
        Py_XDECREF(all);
        if (!all || same)
            return all ? 0 : -1;
    }
    PyErr_SetString(PyExc_RuntimeError, "the observers keep changing");
    return -1;
}

static PyObject *add_observer(PyObject *object, PyObject *observer)
{
    if (!PyCallable_Check(observer))
        return PyErr_Format(PyExc_TypeError, "observer must be callable as f(event, key), not %s",
                            Py_TYPE(observer)->tp_name);
    return fin__py_nothing(change_observers((struct fin__py_selector *) object, observer, all_and));
}

static PyObject *remove_observer(PyObject *object, PyObject *observer)
{
    return fin__py_nothing(change_observers((struct fin__py_selector *) object, observer, all_but));
}

/* ---- look-up ---- */

/* New reference. A selector that was given to us may have keys of its own make. */
PyObject *fin__py_file_of(struct fin__py_selector *self, PyObject *key)
{
    PyObject *file;

    if (Py_IS_TYPE(key, self->module->key_type))
        return Py_NewRef(PyTuple_GET_ITEM(key, 0));
    Py_INCREF(key); /* the caller's is the table's: what runs now may drop it */
    file = PyObject_GetAttr(key, self->module->name_fileobj);
    Py_DECREF(key);
    return file;
}

static int search(struct fin__py_selector *self, PyObject *fileobj, int *ret)
{
    for (int fd = 0; fin__py_is_open(self) && fd < self->selector->table.size; fd++) {
        const struct fin__slot *slot = fin__table_find(&self->selector->table, fd);
        PyObject *file;

        if (!slot || slot->events == FIN__EDGE)
            continue;
        file = fin__py_file_of(self, slot->data);
        if (!file)
            return -1;
        Py_DECREF(file);
        if (file == fileobj) {
            *ret = fd;
            return 1;
        }
    }
    return 0;
}

int fin__py_lookup(struct fin__py_selector *self, PyObject *fileobj, int *fd)
{
    struct fin__py_aside aside;
    int found;

    if (fin__py_descriptor(self->module, fileobj, fd) == 0)
        return 0;
    if (!PyErr_ExceptionMatches(PyExc_ValueError) || PyLong_Check(fileobj))
        return -1;
    aside = fin__py_set_aside();
    found = search(self, fileobj, fd);
    if (found == 0) {
        fin__py_restore(&aside);
        return -1;
    }
    fin__py_forget(&aside);
    return found < 0 ? -1 : 0;
}

struct fin__slot *fin__py_find(const struct fin__py_selector *self, int fd)
{
    struct fin__slot *slot =
        fin__py_is_open(self) ? fin__table_find(&self->selector->table, fd) : NULL;

    return slot && slot->events != FIN__EDGE ? slot : NULL;
}

/* Takes a registration out and returns its key, which is the caller's then. */
PyObject *fin__py_take_out(struct fin__py_selector *self, int fd)
{
    PyObject *key = fin__table_find(&self->selector->table, fd)->data;

    fin__selector_remove(self->selector, fd);
    return key;
}

PyObject *fin__py_call_wrapped(struct fin__py_selector *self, PyObject *method, PyObject *argument)
{
    PyObject *wrapped = Py_NewRef(self->wrapped);
    PyObject *result = argument ? PyObject_CallMethodOneArg(wrapped, method, argument)
                                : PyObject_CallMethodNoArgs(wrapped, method);

    Py_DECREF(wrapped);
    return result;
}

/* The selector that polls forgets it too; whether it could is nobody's concern here. */
static void forget_wrapped(struct fin__py_selector *self, int fd)
{
    PyObject *number = PyLong_FromLong(fd), *result = NULL;

    if (number)
        result = fin__py_call_wrapped(self, self->module->name_unregister, number);
    if (!result && PyErr_ExceptionMatches(PyExc_Exception))
        PyErr_Clear();
    else if (!result)
        PyErr_WriteUnraisable((PyObject *) self);
    Py_XDECREF(number);
    Py_XDECREF(result);
}

/* A wrapped selector may take what epoll would not: it judges then. */
int fin__py_identify(struct fin__py_selector *self, int fd, struct fin__mark *mark)
{
    int result = fin__mark_of(fd, mark);

    if (result == 0)
        return 0;
    if (!self->wrapped) {
        (void) fin__py_os_error(result);
        return -1;
    }
    *mark = (struct fin__mark) { 0 };
    return 0;
}

void fin__py_drop(struct fin__py_selector *self, int fd)
{
    PyObject *key = fin__py_take_out(self, fd);

    if (self->wrapped && !fin__py_is_child(self))
        forget_wrapped(self, fd);
    fin__py_tell(self, self->module->name_unregister, key);
    Py_DECREF(key);
}

PyObject *fin__py_current(struct fin__py_selector *self, int fd)
{
    struct fin__slot *slot = fin__py_find(self, fd);

    if (!slot)
        return NULL;
    if (!fin__slot_is_taken(slot, fd))
        return slot->data;
    fin__py_drop(self, fd);
    return NULL;
}

/* ---- keys ---- */

static const char *const file_alone[] = { "fileobj", NULL };
static PyObject *get_key(PyObject *object, PyObject *const *args, Py_ssize_t count,
                         PyObject *keywords)
{
    static const struct fin__py_call call = { "get_key", file_alone, 1 };
    struct fin__py_selector *self = (struct fin__py_selector *) object;
    PyObject *fileobj, *key;
    int fd;

    if (fin__py_spread(&call, args, count, keywords, &fileobj) < 0)
        return NULL;
    if (!fin__py_is_open(self)) {
        PyErr_SetString(PyExc_RuntimeError, "Selector is closed");
        return NULL;
    }
    if (fin__py_lookup(self, fileobj, &fd) < 0)
        return NULL;
    key = fin__py_current(self, fd);
    return key ? Py_NewRef(key) : fin__py_not_registered(fileobj);
}

static PyObject *get_map(PyObject *object, PyObject *unused)
{
    const struct fin__py_selector *self = (struct fin__py_selector *) object;

    (void) unused;
    return Py_NewRef(self->map ? self->map : Py_None);
}

static PyObject *fileno_(PyObject *object, PyObject *unused)
{
    struct fin__py_selector *self = (struct fin__py_selector *) object;

    (void) unused;
    if (!fin__py_is_open(self)) {
        PyErr_SetString(PyExc_ValueError, "I/O operation on closed selector");
        return NULL;
    }
    if (self->wrapped)
        return fin__py_call_wrapped(self, self->module->name_fileno, NULL);
    return PyLong_FromLong(fin_selector_fd(self->selector));
}

/* ---- with ---- */

static PyObject *pyselector_enter(PyObject *object, PyObject *unused)
{
    (void) unused;
    return Py_NewRef(object);
}

static PyObject *pyselector_leave(PyObject *object, PyObject *const *args, Py_ssize_t count)
{
    (void) args;
    (void) count;
    return PyObject_CallMethodNoArgs(object,
                                     ((struct fin__py_selector *) object)->module->name_close);
}

/* ---- the type ---- */

PyDoc_STRVAR(
    type_doc,
    "ProxySelector(selector=None)\n--\n\n"
    "A selectors.BaseSelector on epoll, or around `selector`, that remembers which file a number was\n"
    "registered for and tells observers of every change.\n\n"
    "A registration whose number means another file now is dropped when it is looked at: by get_key(),\n"
    "get_map(), register(). A selector that was given is to be used through this one alone. In a forked\n"
    "child register() and select() raise ChildProcessError; unregister(), modify() and close() leave\n"
    "the parent's selector alone.\n\n"
    "    loop = asyncio.SelectorEventLoop(finack.ProxySelector())\n");
PyDoc_STRVAR(
    register_doc,
    "register($self, /, fileobj, events, data=None)\n--\n\n"
    "Watch a file object or number for EVENT_READ, EVENT_WRITE or both; returns its SelectorKey.\n\n"
    "ValueError: no file object, wrong events, closed selector. KeyError: registered already. OSError:\n"
    "closed, or a file that can't be polled.");
PyDoc_STRVAR(
    modify_doc,
    "modify($self, /, fileobj, events, data=None)\n--\n\n"
    "Change what is watched for, and the data; returns the new SelectorKey.\n\n"
    "KeyError: not registered. OSError: the file was closed; it is not registered any more then.");
PyDoc_STRVAR(
    unregister_doc,
    "unregister($self, /, fileobj)\n--\n\n"
    "Stop watching; returns the SelectorKey that was registered. Works also if the file has been closed\n"
    "since. KeyError: not registered.");
PyDoc_STRVAR(
    select_doc,
    "select($self, /, timeout=None)\n--\n\n"
    "Wait until something is ready or `timeout` seconds have passed (None: for ever; 0 or less: don't\n"
    "wait); returns a list of (SelectorKey, events).");
PyDoc_STRVAR(
    get_key_doc,
    "get_key($self, /, fileobj)\n--\n\n"
    "The SelectorKey of a file object or number. KeyError: not registered, or the number means another\n"
    "file now. RuntimeError: the selector is closed.");
PyDoc_STRVAR(
    add_observer_doc,
    "add_observer($self, observer, /)\n--\n\n"
    "Call observer(event, key) after each change, in the thread that makes it; event is \"register\",\n"
    "\"modify\" or \"unregister\". What it raises goes to sys.unraisablehook.");
PyDoc_STRVAR(remove_observer_doc,
             "remove_observer($self, observer, /)\n--\n\n"
             "Undo one add_observer(). ValueError: it is not an observer.");

static PyObject *select_(PyObject *self, PyObject *const *args, Py_ssize_t count,
                         PyObject *keywords)
{
    return fin__py_select((struct fin__py_selector *) self, args, count, keywords);
}

FIN__PY_LOCK_VECTOR(fin__py_register)
FIN__PY_LOCK_VECTOR(fin__py_modify)
FIN__PY_LOCK_VECTOR(fin__py_unregister)
FIN__PY_LOCK_VECTOR(select_)
FIN__PY_LOCK_VECTOR(get_key)
FIN__PY_LOCK(fin__py_close)
FIN__PY_LOCK(get_map)
FIN__PY_LOCK(fileno_)
FIN__PY_LOCK(add_observer)
FIN__PY_LOCK(remove_observer)
FIN__PY_LOCK_INIT(fin__py_init)

static PyMethodDef methods[] = {
    { "register", FIN__PY_VECTOR(FIN__PY_LOCKED(fin__py_register)), METH_FASTCALL | METH_KEYWORDS,
      register_doc },
    { "modify", FIN__PY_VECTOR(FIN__PY_LOCKED(fin__py_modify)), METH_FASTCALL | METH_KEYWORDS,
      modify_doc },
    { "unregister", FIN__PY_VECTOR(FIN__PY_LOCKED(fin__py_unregister)),
      METH_FASTCALL | METH_KEYWORDS, unregister_doc },
    { "select", FIN__PY_VECTOR(FIN__PY_LOCKED(select_)), METH_FASTCALL | METH_KEYWORDS,
      select_doc },
    { "close", FIN__PY_LOCKED(fin__py_close), METH_NOARGS,
      "Forget every registration and close the epoll set." },
    { "get_key", FIN__PY_VECTOR(FIN__PY_LOCKED(get_key)), METH_FASTCALL | METH_KEYWORDS,
      get_key_doc },
    { "get_map", FIN__PY_LOCKED(get_map), METH_NOARGS,
      "What is registered, by file object; None once closed." },
    { "fileno", FIN__PY_LOCKED(fileno_), METH_NOARGS, "The number of the epoll set." },
    { "add_observer", FIN__PY_LOCKED(add_observer), METH_O, add_observer_doc },
    { "remove_observer", FIN__PY_LOCKED(remove_observer), METH_O, remove_observer_doc },
    { "__enter__", pyselector_enter, METH_NOARGS, NULL },
    { "__exit__", FIN__PY_VECTOR(pyselector_leave), METH_FASTCALL, NULL },
    { NULL, NULL, 0, NULL },
};

static PyMemberDef members[] = {
    { "__weaklistoffset__", T_PYSSIZET, offsetof(struct fin__py_selector, weak), READONLY, NULL },
    { "__dictoffset__", T_PYSSIZET, offsetof(struct fin__py_selector, dict), READONLY, NULL },
    { NULL, 0, 0, 0, NULL },
};

static PyType_Slot slots[] = {
    { Py_tp_doc, (void *) type_doc },
    { Py_tp_new, fin__py_new },
    { Py_tp_init, FIN__PY_LOCKED(fin__py_init) },
    { Py_tp_methods, methods },
    { Py_tp_members, members },
    { Py_tp_traverse, fin__py_traverse },
    { Py_tp_clear, fin__py_clear },
    { Py_tp_dealloc, fin__py_dealloc },
    { 0, NULL },
};

static PyType_Spec spec = {
    .name = "finack.ProxySelector",
    .basicsize = sizeof(struct fin__py_selector),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC,
    .slots = slots,
};

int fin__py_add_selector(PyObject *module, struct fin__py_module *m)
{
    PyObject *done;

    m->selector_type = (PyTypeObject *) PyType_FromModuleAndSpec(module, &spec, NULL);
    if (!m->selector_type)
        return -1;
    /* ABCMeta's register(): the class has one of its own. */
    done = PyObject_CallMethod((PyObject *) Py_TYPE(m->base_selector), "register", "OO",
                               m->base_selector, m->selector_type);
    if (!done)
        return -1;
    Py_DECREF(done);
    return PyModule_AddType(module, m->selector_type);
}
