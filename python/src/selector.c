/* SPDX-License-Identifier: MIT */

/* ProxySelector: selectors.BaseSelector on fin_selector, or around another selector. */

#include "arguments.h"
#include "proxy.h"
#include "slots.h"

#include <errno.h>
#include <stddef.h>

/* ---- what can't be done ---- */

PyObject *fin__py_not_registered(PyObject *fileobj)
{
    PyObject *text = PyUnicode_FromFormat("%R is not registered", fileobj);

    if (text)
        PyErr_SetObject(PyExc_KeyError, text);
    Py_XDECREF(text);
    return NULL;
}

static PyObject *already_registered(PyObject *fileobj, int fd)
{
    PyObject *text = PyUnicode_FromFormat("%R (FD %d) is already registered", fileobj, fd);

    if (text)
        PyErr_SetObject(PyExc_KeyError, text);
    Py_XDECREF(text);
    return NULL;
}

static bool is_open(const struct fin__py_selector *self)
{
    return self->selector && !self->closed;
}

static bool is_child(const struct fin__py_selector *self)
{
    return fin__selector_check(self->selector) < 0;
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
    if (!is_open(self)) {
        PyErr_SetString(PyExc_ValueError, "I/O operation on closed selector");
        return -1;
    }
    if (is_child(self)) {
        (void) refuse_child();
        return -1;
    }
    return 0;
}

/* ---- observers ---- */

static void tell(struct fin__py_selector *self, PyObject *event, PyObject *key)
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

static PyObject *add_observer(PyObject *object, PyObject *observer)
{
    struct fin__py_selector *self = (struct fin__py_selector *) object;
    Py_ssize_t count = self->observers ? PyTuple_GET_SIZE(self->observers) : 0;
    PyObject *all;

    if (!PyCallable_Check(observer))
        return PyErr_Format(PyExc_TypeError, "observer must be callable as f(event, key), not %s",
                            Py_TYPE(observer)->tp_name);
    all = PyTuple_New(count + 1);
    if (!all)
        return NULL;
    for (Py_ssize_t i = 0; i < count; i++)
        PyTuple_SET_ITEM(all, i, Py_NewRef(PyTuple_GET_ITEM(self->observers, i)));
    PyTuple_SET_ITEM(all, count, Py_NewRef(observer));
    Py_XSETREF(self->observers, all);
    Py_RETURN_NONE;
}

static PyObject *all_but(PyObject *observers, Py_ssize_t index)
{
    PyObject *all = PyTuple_New(PyTuple_GET_SIZE(observers) - 1);

    for (Py_ssize_t i = 0, to = 0; all && i < PyTuple_GET_SIZE(observers); i++)
        if (i != index)
            PyTuple_SET_ITEM(all, to++, Py_NewRef(PyTuple_GET_ITEM(observers, i)));
    return all;
}

static PyObject *remove_observer(PyObject *object, PyObject *observer)
{
    struct fin__py_selector *self = (struct fin__py_selector *) object;
    PyObject *observers = self->observers, *all;
    Py_ssize_t index = observers ? PySequence_Index(observers, observer) : -1;

    if (index < 0 && PyErr_Occurred() && !PyErr_ExceptionMatches(PyExc_ValueError))
        return NULL;
    if (index < 0 || observers != self->observers) {
        PyErr_Clear();
        return PyErr_Format(PyExc_ValueError, "%R is not an observer", observer);
    }
    all = all_but(observers, index);
    if (!all)
        return NULL;
    Py_XSETREF(self->observers, all);
    Py_RETURN_NONE;
}

/* ---- look-up ---- */

/* New reference. A selector that was given to us may have keys of its own make. */
static PyObject *file_of(struct fin__py_selector *self, PyObject *key)
{
    if (Py_IS_TYPE(key, self->module->key_type))
        return Py_NewRef(PyTuple_GET_ITEM(key, 0));
    return PyObject_GetAttr(key, self->module->name_fileobj);
}

static int search(struct fin__py_selector *self, PyObject *fileobj, int *ret)
{
    for (int fd = 0; is_open(self) && fd < self->selector->table.size; fd++) {
        const struct fin__slot *slot = fin__table_find(&self->selector->table, fd);
        PyObject *file;

        if (!slot)
            continue;
        file = file_of(self, slot->data);
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
    PyObject *type, *value, *trace;
    int found;

    if (fin__py_descriptor(self->module, fileobj, fd) == 0)
        return 0;
    if (!PyErr_ExceptionMatches(PyExc_ValueError) || PyLong_Check(fileobj))
        return -1;
    PyErr_Fetch(&type, &value, &trace);
    found = search(self, fileobj, fd);
    if (found == 0) {
        PyErr_Restore(type, value, trace);
        return -1;
    }
    Py_XDECREF(type);
    Py_XDECREF(value);
    Py_XDECREF(trace);
    return found < 0 ? -1 : 0;
}

static struct fin__slot *find(const struct fin__py_selector *self, int fd)
{
    return is_open(self) ? fin__table_find(&self->selector->table, fd) : NULL;
}

/* Takes a registration out and returns its key, which is the caller's then. */
static PyObject *take_out(struct fin__py_selector *self, int fd)
{
    PyObject *key = fin__table_find(&self->selector->table, fd)->data;

    fin__selector_remove(self->selector, fd);
    return key;
}

/* The selector that polls forgets it too; whether it could is nobody's concern here. */
static void forget_wrapped(struct fin__py_selector *self, int fd)
{
    PyObject *result = PyObject_CallMethod(self->wrapped, "unregister", "i", fd);

    if (!result && PyErr_ExceptionMatches(PyExc_Exception))
        PyErr_Clear();
    else if (!result)
        PyErr_WriteUnraisable(self->wrapped);
    Py_XDECREF(result);
}

static void drop(struct fin__py_selector *self, int fd)
{
    PyObject *key = take_out(self, fd);

    if (self->wrapped && !is_child(self))
        forget_wrapped(self, fd);
    tell(self, self->module->name_unregister, key);
    Py_DECREF(key);
}

PyObject *fin__py_current(struct fin__py_selector *self, int fd)
{
    struct fin__slot *slot = find(self, fd);

    if (!slot)
        return NULL;
    if (!fin__slot_is_taken(slot, fd))
        return slot->data;
    drop(self, fd);
    return NULL;
}

/* ---- register ---- */

struct request {
    PyObject *fileobj, *events, *data;
    int fd, mask;
};

static int spread(const char *function, PyObject *const *args, Py_ssize_t count, PyObject *keywords,
                  struct request *request)
{
    static const char *const names[] = { "fileobj", "events", "data", NULL };
    const struct fin__py_call call = { function, names, 2 };
    PyObject *values[3];

    if (fin__py_spread(&call, args, count, keywords, values) < 0)
        return -1;
    request->fileobj = values[0];
    request->events = values[1];
    request->data = values[2] ? values[2] : Py_None;
    return fin__py_events(request->events, &request->mask);
}

/* A wrapped selector may take what epoll would not: it judges then. */
static int identify(struct fin__py_selector *self, int fd, struct fin__mark *mark)
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

static bool differs(const struct fin__slot *slot, const struct fin__mark *mark)
{
    return slot->mark.serial != 0 && mark->serial != 0
        && (slot->mark.serial != mark->serial || slot->mark.device != mark->device);
}

/* Takes over `key`. */
static PyObject *add(struct fin__py_selector *self, const struct request *request,
                     const struct fin__mark *mark, PyObject *key)
{
    int result = is_open(self)
        ? fin__selector_add(self->selector, request->fd, mark, request->mask, key)
        : -EBADF;

    if (result == 0) {
        Py_INCREF(key);
        if (self->observers)
            tell(self, self->module->name_register, key);
        return key;
    }
    Py_DECREF(key);
    if (result == -EEXIST)
        return already_registered(request->fileobj, request->fd);
    return fin__py_os_error(result);
}

static PyObject *make_key(struct fin__py_selector *self, const struct request *r, PyObject *method)
{
    if (!self->wrapped || is_child(self))
        return fin__py_key(self->module, r->fileobj, r->fd, r->events, r->data);
    return PyObject_CallMethodObjArgs(self->wrapped, method, r->fileobj, r->events, r->data, NULL);
}

static PyObject *register_(PyObject *object, PyObject *const *args, Py_ssize_t count,
                           PyObject *keywords)
{
    struct fin__py_selector *self = (struct fin__py_selector *) object;
    struct request request;
    const struct fin__slot *slot;
    struct fin__mark mark;
    PyObject *key;

    if (spread("register", args, count, keywords, &request) < 0)
        return NULL;
    if (fin__py_lookup(self, request.fileobj, &request.fd) < 0 || fin__py_usable(self) < 0)
        return NULL;
    if (identify(self, request.fd, &mark) < 0)
        return NULL;
    slot = find(self, request.fd);
    if (slot && !differs(slot, &mark))
        return already_registered(request.fileobj, request.fd);
    if (slot)
        drop(self, request.fd);
    key = make_key(self, &request, self->module->name_register);
    return key ? add(self, &request, &mark, key) : NULL;
}

/* ---- modify ---- */

/* As in the standard library, what could not be changed is registered no more. */
static PyObject *fail_modify(struct fin__py_selector *self, int fd, int result)
{
    PyObject *type, *value, *trace;

    if (result < 0)
        (void) fin__py_os_error(result);
    PyErr_Fetch(&type, &value, &trace);
    if (find(self, fd))
        drop(self, fd);
    PyErr_Restore(type, value, trace);
    return NULL;
}

/* Takes over `key`. */
static PyObject *replace(struct fin__py_selector *self, const struct request *request,
                         PyObject *key)
{
    struct fin__slot *slot = find(self, request->fd);
    int result = slot ? fin__selector_rewatch(self->selector, request->fd, request->mask) : -ENOENT;
    PyObject *was;

    if (result < 0) {
        Py_DECREF(key);
        return fail_modify(self, request->fd, result);
    }
    was = slot->data;
    slot->data = key;
    slot->events = request->mask;
    Py_INCREF(key);
    Py_DECREF(was);
    if (self->observers)
        tell(self, self->module->name_modify, key);
    return key;
}

/* Nothing to be done: the key stays the same object. */
static bool is_same(struct fin__py_selector *self, const struct fin__slot *slot,
                    const struct request *request)
{
    const PyObject *key = slot->data;

    return !self->wrapped && slot->events == request->mask
        && PyTuple_GET_ITEM(key, 3) == request->data;
}

static PyObject *modify(PyObject *object, PyObject *const *args, Py_ssize_t count,
                        PyObject *keywords)
{
    struct fin__py_selector *self = (struct fin__py_selector *) object;
    struct request request;
    const struct fin__slot *slot;
    PyObject *key, *file;

    if (spread("modify", args, count, keywords, &request) < 0)
        return NULL;
    if (fin__py_lookup(self, request.fileobj, &request.fd) < 0)
        return NULL;
    slot = find(self, request.fd);
    if (!slot)
        return fin__py_not_registered(request.fileobj);
    if (is_same(self, slot, &request))
        return Py_NewRef(slot->data);
    file = file_of(self, slot->data); /* that of the key, which may be another object */
    if (!file)
        return NULL;
    request.fileobj = file;
    key = make_key(self, &request, self->module->name_modify);
    key = key ? replace(self, &request, key) : fail_modify(self, request.fd, 0);
    Py_DECREF(file);
    return key;
}

/* ---- unregister ---- */

static const char *const file_alone[] = { "fileobj", NULL };

static PyObject *unregister_wrapped(struct fin__py_selector *self, PyObject *fileobj)
{
    if (!self->wrapped || is_child(self))
        return Py_NewRef(Py_None);
    return PyObject_CallMethodOneArg(self->wrapped, self->module->name_unregister, fileobj);
}

static PyObject *unregister(PyObject *object, PyObject *const *args, Py_ssize_t count,
                            PyObject *keywords)
{
    static const struct fin__py_call call = { "unregister", file_alone, 1 };
    struct fin__py_selector *self = (struct fin__py_selector *) object;
    PyObject *fileobj, *key, *done;
    int fd;

    if (fin__py_spread(&call, args, count, keywords, &fileobj) < 0)
        return NULL;
    if (fin__py_lookup(self, fileobj, &fd) < 0)
        return NULL;
    if (!find(self, fd))
        return fin__py_not_registered(fileobj);
    done = unregister_wrapped(self, fileobj);
    if (!done)
        return NULL;
    Py_DECREF(done);
    if (!find(self, fd)) /* by another thread, meanwhile */
        return fin__py_not_registered(fileobj);
    key = take_out(self, fd);
    if (self->observers)
        tell(self, self->module->name_unregister, key);
    return key;
}

/* ---- keys ---- */

static PyObject *get_key(PyObject *object, PyObject *const *args, Py_ssize_t count,
                         PyObject *keywords)
{
    static const struct fin__py_call call = { "get_key", file_alone, 1 };
    struct fin__py_selector *self = (struct fin__py_selector *) object;
    PyObject *fileobj, *key;
    int fd;

    if (fin__py_spread(&call, args, count, keywords, &fileobj) < 0)
        return NULL;
    if (!is_open(self)) {
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
    if (!is_open(self)) {
        PyErr_SetString(PyExc_ValueError, "I/O operation on closed selector");
        return NULL;
    }
    if (self->wrapped)
        return PyObject_CallMethodNoArgs(self->wrapped, self->module->name_fileno);
    return PyLong_FromLong(fin_selector_fd(self->selector));
}

/* ---- life ---- */

/* The keys go last: what they refer to may run anything when it goes. */
static void forget_keys(struct fin__py_selector *self)
{
    struct fin__table table = self->selector->table;

    self->selector->table = (struct fin__table) { .generation = table.generation };
    for (int fd = 0; fd < table.size; fd++) {
        const struct fin__slot *slot = fin__table_find(&table, fd);

        if (slot)
            Py_DECREF((PyObject *) slot->data);
    }
    fin__table_free(&table);
}

void fin__py_finish(struct fin__py_selector *self)
{
    if (!self->closed || self->waiting > 0)
        return;
    self->selector = fin_selector_free(self->selector);
    PyMem_RawFree(self->spare);
    self->spare = NULL;
}

static PyObject *close_(PyObject *object, PyObject *unused)
{
    struct fin__py_selector *self = (struct fin__py_selector *) object;
    PyObject *result = NULL;

    (void) unused;
    if (!is_open(self))
        Py_RETURN_NONE;
    self->closed = true;
    self->waiting++;
    if (self->wrapped)
        result = PyObject_CallMethodNoArgs(self->wrapped, self->module->name_close);
    Py_CLEAR(self->map);
    forget_keys(self);
    self->waiting--;
    fin__py_finish(self);
    if (self->wrapped)
        return result;
    Py_RETURN_NONE;
}

static PyObject *enter(PyObject *object, PyObject *unused)
{
    (void) unused;
    return Py_NewRef(object);
}

static PyObject *leave(PyObject *object, PyObject *const *args, Py_ssize_t count)
{
    (void) args;
    (void) count;
    return PyObject_CallMethodNoArgs(object,
                                     ((struct fin__py_selector *) object)->module->name_close);
}

static PyObject *new (PyTypeObject *type, PyObject *args, PyObject *keywords)
{
    struct fin__py_selector *self;
    PyObject *module = PyType_GetModuleByDef(type, fin__py_definition());

    (void) args;
    (void) keywords;
    if (!module)
        return NULL;
    self = (struct fin__py_selector *) type->tp_alloc(type, 0);
    if (self)
        self->module = PyModule_GetState(module);
    return (PyObject *) self;
}

static int start(struct fin__py_selector *self)
{
    int result =
        self->wrapped ? fin__selector_new_bare(&self->selector) : fin_selector_new(&self->selector);

    if (result < 0) {
        (void) fin__py_os_error(result);
        return -1;
    }
    self->map = fin__py_map_new(self);
    return self->map ? 0 : -1;
}

/* What the selector had before it was given to us. Takes over `key`. */
static int adopt(struct fin__py_selector *self, PyObject *key)
{
    PyObject *number = PyObject_GetAttr(key, self->module->name_fd);
    PyObject *events = number ? PyObject_GetAttrString(key, "events") : NULL;
    struct fin__mark mark;
    int fd, mask, result = -1;

    if (events && fin__py_descriptor(self->module, number, &fd) == 0
        && fin__py_events(events, &mask) == 0 && identify(self, fd, &mark) == 0) {
        result = fin__selector_add(self->selector, fd, &mark, mask, key);
        if (result < 0)
            (void) fin__py_os_error(result);
    }
    Py_XDECREF(number);
    Py_XDECREF(events);
    if (result < 0)
        Py_DECREF(key);
    return result;
}

static int adopt_all(struct fin__py_selector *self)
{
    PyObject *map = PyObject_CallMethod(self->wrapped, "get_map", NULL), *keys = NULL;
    int result = -1;

    if (map == Py_None)
        PyErr_SetString(PyExc_ValueError, "the selector is closed");
    else if (map)
        keys = PyMapping_Values(map);
    if (keys) {
        result = 0;
        for (Py_ssize_t i = 0; result == 0 && i < PyList_GET_SIZE(keys); i++)
            result = adopt(self, Py_NewRef(PyList_GET_ITEM(keys, i)));
    }
    Py_XDECREF(map);
    Py_XDECREF(keys);
    return result;
}

static int accept_wrapped(struct fin__py_selector *self, PyObject *selector)
{
    int fits = PyObject_IsInstance(selector, self->module->base_selector);

    if (fits == 0)
        PyErr_Format(PyExc_TypeError, "selector must be a selectors.BaseSelector or None, not %s",
                     Py_TYPE(selector)->tp_name);
    if (fits <= 0)
        return -1;
    self->wrapped = Py_NewRef(selector);
    return 0;
}

static int init(PyObject *object, PyObject *args, PyObject *keywords)
{
    static char *names[] = { "selector", NULL };
    struct fin__py_selector *self = (struct fin__py_selector *) object;
    PyObject *selector = Py_None;

    if (!PyArg_ParseTupleAndKeywords(args, keywords, "|O:ProxySelector", names, &selector))
        return -1;
    if (self->selector || self->closed) {
        PyErr_SetString(PyExc_RuntimeError, "ProxySelector is initialised already");
        return -1;
    }
    if (selector != Py_None && accept_wrapped(self, selector) < 0)
        return -1;
    if (start(self) < 0)
        return -1;
    return self->wrapped ? adopt_all(self) : 0;
}

static int traverse(PyObject *object, visitproc visit, void *arg)
{
    const struct fin__py_selector *self = (struct fin__py_selector *) object;

    for (int fd = 0; self->selector && fd < self->selector->table.size; fd++) {
        const struct fin__slot *slot = fin__table_find(&self->selector->table, fd);

        if (slot)
            Py_VISIT((PyObject *) slot->data);
    }
    Py_VISIT(Py_TYPE(object));
    Py_VISIT(self->wrapped);
    Py_VISIT(self->map);
    Py_VISIT(self->observers);
    Py_VISIT(self->dict);
    return 0;
}

static int clear(PyObject *object)
{
    struct fin__py_selector *self = (struct fin__py_selector *) object;

    self->closed = true;
    if (self->selector)
        forget_keys(self);
    Py_CLEAR(self->map);
    Py_CLEAR(self->wrapped);
    Py_CLEAR(self->observers);
    Py_CLEAR(self->dict);
    return 0;
}

static void dealloc(PyObject *object)
{
    PyTypeObject *type = Py_TYPE(object);

    PyObject_GC_UnTrack(object);
    if (((struct fin__py_selector *) object)->weak)
        PyObject_ClearWeakRefs(object);
    (void) clear(object);
    fin__py_finish((struct fin__py_selector *) object);
    type->tp_free(object);
    Py_DECREF(type);
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

#define VECTOR(function) (PyCFunction)(void (*)(void))(function)

static PyObject *select_(PyObject *self, PyObject *const *args, Py_ssize_t count,
                         PyObject *keywords)
{
    return fin__py_select((struct fin__py_selector *) self, args, count, keywords);
}

static PyMethodDef methods[] = {
    { "register", VECTOR(register_), METH_FASTCALL | METH_KEYWORDS, register_doc },
    { "modify", VECTOR(modify), METH_FASTCALL | METH_KEYWORDS, modify_doc },
    { "unregister", VECTOR(unregister), METH_FASTCALL | METH_KEYWORDS, unregister_doc },
    { "select", VECTOR(select_), METH_FASTCALL | METH_KEYWORDS, select_doc },
    { "close", close_, METH_NOARGS, "Forget every registration and close the epoll set." },
    { "get_key", VECTOR(get_key), METH_FASTCALL | METH_KEYWORDS, get_key_doc },
    { "get_map", get_map, METH_NOARGS, "What is registered, by file object; None once closed." },
    { "fileno", fileno_, METH_NOARGS, "The number of the epoll set." },
    { "add_observer", add_observer, METH_O, add_observer_doc },
    { "remove_observer", remove_observer, METH_O, remove_observer_doc },
    { "__enter__", enter, METH_NOARGS, NULL },
    { "__exit__", VECTOR(leave), METH_FASTCALL, NULL },
    { NULL, NULL, 0, NULL },
};

static PyMemberDef members[] = {
    FIN__PY_WEAK_AND_DICT(struct fin__py_selector) { NULL, 0, 0, 0, NULL },
};

static PyType_Slot slots[] = {
    { Py_tp_doc, (void *) type_doc }, { Py_tp_new, new },         { Py_tp_init, init },
    { Py_tp_methods, methods },       { Py_tp_members, members }, { Py_tp_traverse, traverse },
    { Py_tp_clear, clear },           { Py_tp_dealloc, dealloc }, { 0, NULL },
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
