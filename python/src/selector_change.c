/* SPDX-License-Identifier: MIT */

/* ProxySelector.register(), modify() and unregister() */

#include "arguments.h"
#include "proxy.h"
#include "slots.h"

#include <errno.h>

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

static bool differs(const struct fin__slot *slot, const struct fin__mark *mark)
{
    return slot->mark.serial != 0 && mark->serial != 0
        && (slot->mark.serial != mark->serial || slot->mark.device != mark->device);
}

static PyObject *already_registered(PyObject *fileobj, int fd)
{
    PyObject *text = PyUnicode_FromFormat("%R (FD %d) is already registered", fileobj, fd);

    if (text)
        PyErr_SetObject(PyExc_KeyError, text);
    Py_XDECREF(text);
    return NULL;
}

/* Takes over `key`. */
static PyObject *selector_change_add(struct fin__py_selector *self, const struct request *request,
                                     const struct fin__mark *mark, PyObject *key)
{
    int result = fin__py_is_open(self)
        ? fin__selector_add(self->selector, request->fd, mark, request->mask, key)
        : -EBADF;

    if (result == 0) {
        Py_INCREF(key);
        if (self->observers)
            fin__py_tell(self, self->module->name_register, key);
        return key;
    }
    Py_DECREF(key);
    if (result == -EEXIST)
        return already_registered(request->fileobj, request->fd);
    return fin__py_os_error(result);
}

static PyObject *make_key(struct fin__py_selector *self, const struct request *r, PyObject *method)
{
    PyObject *wrapped, *key;

    if (!self->wrapped || fin__py_is_child(self))
        return fin__py_key(self->module, r->fileobj, r->fd, r->events, r->data);
    wrapped = Py_NewRef(self->wrapped);
    key = PyObject_CallMethodObjArgs(wrapped, method, r->fileobj, r->events, r->data, NULL);
    Py_DECREF(wrapped);
    return key;
}

PyObject *fin__py_register(PyObject *object, PyObject *const *args, Py_ssize_t count,
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
    if (fin__py_identify(self, request.fd, &mark) < 0)
        return NULL;
    slot = fin__py_find(self, request.fd);
    if (slot && !differs(slot, &mark))
        return already_registered(request.fileobj, request.fd);
    if (slot)
        fin__py_drop(self, request.fd);
    key = make_key(self, &request, self->module->name_register);
    return key ? selector_change_add(self, &request, &mark, key) : NULL;
}

/* ---- modify ---- */

/* As in the standard library, what could not be changed is registered no more. */
static PyObject *fail_modify(struct fin__py_selector *self, int fd, int result)
{
    struct fin__py_aside aside;

    if (result < 0)
        (void) fin__py_os_error(result);
    aside = fin__py_set_aside();
    if (fin__py_find(self, fd))
        fin__py_drop(self, fd);
    fin__py_restore(&aside);
    return NULL;
}

/* Takes over `key`. */
static PyObject *selector_change_replace(struct fin__py_selector *self,
                                         const struct request *request, PyObject *key)
{
    struct fin__slot *slot = fin__py_find(self, request->fd);
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
        fin__py_tell(self, self->module->name_modify, key);
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

PyObject *fin__py_modify(PyObject *object, PyObject *const *args, Py_ssize_t count,
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
    slot = fin__py_find(self, request.fd);
    if (!slot)
        return fin__py_not_registered(request.fileobj);
    if (is_same(self, slot, &request))
        return Py_NewRef(slot->data);
    file = fin__py_file_of(self, slot->data); /* that of the key, which may be another object */
    if (!file)
        return NULL;
    request.fileobj = file;
    key = make_key(self, &request, self->module->name_modify);
    key = key ? selector_change_replace(self, &request, key) : fail_modify(self, request.fd, 0);
    Py_DECREF(file);
    return key;
}

/* ---- unregister ---- */

static const char *const file_alone[] = { "fileobj", NULL };

static PyObject *unregister_wrapped(struct fin__py_selector *self, PyObject *fileobj)
{
    if (!self->wrapped || fin__py_is_child(self))
        return Py_NewRef(Py_None);
    return fin__py_call_wrapped(self, self->module->name_unregister, fileobj);
}

PyObject *fin__py_unregister(PyObject *object, PyObject *const *args, Py_ssize_t count,
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
    if (!fin__py_find(self, fd))
        return fin__py_not_registered(fileobj);
    done = unregister_wrapped(self, fileobj);
    if (!done)
        return NULL;
    Py_DECREF(done);
    if (!fin__py_find(self, fd)) /* by another thread, meanwhile */
        return fin__py_not_registered(fileobj);
    key = fin__py_take_out(self, fd);
    if (self->observers)
        fin__py_tell(self, self->module->name_unregister, key);
    return key;
}
