/* SPDX-License-Identifier: MIT */

#include "close.h"
#include "locks.h"

#include "base/descriptor.h"
#include "base/errors.h"
#include "kernel/fdinfo.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/epoll.h>

#define BATCH 64
#define INDEX_BITS 24
#define INDEX_MAX ((1u << INDEX_BITS) - 1)
#define EDGES (EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET)

int fin__py_close_set_usable(const struct fin__py_close_set *self)
{
    if (self->busy) {
        PyErr_SetString(PyExc_RuntimeError, "another thread is using this CloseSet");
        return -1;
    }
    if (self->closed) {
        PyErr_SetString(PyExc_ValueError, "this CloseSet is closed");
        return -1;
    }
    if (fin__fork_check(&self->guard) < 0) {
        (void) fin__py_os_error(-ECHILD);
        return -1;
    }
    return 0;
}

int fin__py_close_set_need_proof(struct fin__py_close_set *self)
{
    struct fin__witness *witness = &self->kernel.witness;
    int result = witness->set < 0 && self->proving == 0 ? fin__witness_open(witness) : 0;

    return fin__is_lack(result) ? result : 0;
}

/* ---- who is watched ---- */

/* An entry may outlive its close: if the descriptor is closed by mistake and somebody else holds
 * the description, the entry stays in the set. So entries carry an identifier, and that is
 * looked up. */
static struct fin__py_watched *close_set_find(const struct fin__py_close_set *self, uint64_t id)
{
    uint32_t index = (uint32_t) id & INDEX_MAX;

    if (index >= self->size || !self->watched[index].close || self->watched[index].id != id)
        return NULL;
    return &self->watched[index];
}

static int close_set_grow(struct fin__py_close_set *self)
{
    uint32_t size = self->size ? self->size * 2 : 16;
    struct fin__py_watched *watched;

    if (self->free)
        return 0;
    if (size > INDEX_MAX)
        return -ENOMEM;
    watched = PyMem_RawRealloc(self->watched, size * sizeof *watched);
    if (!watched)
        return -ENOMEM;
    for (uint32_t i = self->size; i < size; i++)
        watched[i] = (struct fin__py_watched) { .id = i + 1 < size ? i + 2 : 0 };
    self->free = self->size + 1;
    self->watched = watched;
    self->size = size;
    return 0;
}

static uint64_t close_set_enter(struct fin__py_close_set *self, struct fin__py_close *c)
{
    uint32_t index = self->free - 1;
    struct fin__py_watched *w = &self->watched[index];

    self->free = (uint32_t) w->id;
    FIN__PY_MUTEX_LOCK(self->module);
    *w = (struct fin__py_watched) { c, ++self->module->serial << INDEX_BITS | index };
    FIN__PY_MUTEX_UNLOCK(self->module);
    return w->id;
}

static void close_set_leave(struct fin__py_close_set *self, struct fin__py_watched *w)
{
    *w = (struct fin__py_watched) { .id = self->free };
    self->free = (uint32_t) (w - self->watched) + 1;
}

/* ---- the epoll set ---- */

static int close_set_add(const struct fin__py_close_set *self, int fd, uint64_t id)
{
    struct epoll_event entry = { .events = EDGES, .data.u64 = id };

    return epoll_ctl(self->set, EPOLL_CTL_ADD, fd, &entry) < 0 ? -errno : 0;
}

/* With all that were in one before that was lost: each gets an edge. */
static int need_set(struct fin__py_close_set *self)
{
    if (self->set >= 0)
        return 0;
    self->set = epoll_create1(EPOLL_CLOEXEC);
    if (self->set < 0)
        return -errno;
    self->doubtful = false;
    for (uint32_t i = 0; i < self->size; i++)
        if (self->watched[i].close)
            (void) close_set_add(self, fin__py_close_fd(self->watched[i].close),
                                 self->watched[i].id);
    return 0;
}

struct search {
    struct fin__py_close_set *self;
    bool any, ours;
};

static void close_set_compare(const struct fin__entry *entry, void *arg)
{
    struct search *search = arg;
    uint64_t serial = entry->data >> INDEX_BITS;

    search->any = true;
    if (serial >= search->self->module->first_serial && serial <= search->self->module->serial)
        search->ours = true;
}

/* Is the number still our set? A set without entries is taken for it. */
static bool is_ours(struct fin__py_close_set *self)
{
    struct search search = { .self = self };
    struct epoll_event event;
    char path[48];
    int fdinfo;

    (void) snprintf(path, sizeof path, "/proc/self/fdinfo/%d", self->set);
    fdinfo = open(path, O_RDONLY | O_CLOEXEC);
    if (fdinfo < 0)
        return errno != ENOENT;
    (void) fin__fdinfo_read(fdinfo, close_set_compare, &search);
    fin__drop(&fdinfo);
    return search.ours || (!search.any && epoll_wait(self->set, &event, 1, 0) >= 0);
}

/* The program has closed it by mistake: the number is free, or another file, which we must not
 * close. */
static void lose(struct fin__py_close_set *self)
{
    self->set = -1;
}

static void drop_set(struct fin__py_close_set *self)
{
    if (self->set >= 0 && self->doubtful && !is_ours(self))
        lose(self);
    fin__drop(&self->set);
}

int64_t fin__py_close_set_watch(struct fin__py_close_set *self, struct fin__py_close *c, int fd)
{
    int result = close_set_grow(self);
    uint64_t id;

    if (result == 0)
        result = need_set(self);
    if (result < 0)
        return result;
    id = close_set_enter(self, c);
    result = close_set_add(self, fd, id);
    if (result == -EBADF || result == -EINVAL) {
        lose(self);
        result = need_set(self); /* with this one */
    }
    if (result == 0)
        return (int64_t) id;
    close_set_leave(self, close_set_find(self, id));
    return result;
}

void fin__py_close_set_unwatch(struct fin__py_close_set *self, uint64_t id, int fd)
{
    struct fin__py_watched *w = close_set_find(self, id);

    if (!w)
        return;
    close_set_leave(self, w);
    /* A parent's set is left as it is. */
    if (self->set >= 0 && fin__fork_check(&self->guard) == 0
        && epoll_ctl(self->set, EPOLL_CTL_DEL, fd, NULL) < 0)
        self->doubtful = true;
}

/* ---- life ---- */

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
    self->module = PyType_GetModuleState(type);
    self->set = -1;
    fin__kernel_begin(&self->kernel);
    fin__fork_guard_init(&self->guard);
    return (PyObject *) self;
}

static PyObject *close_set_close(PyObject *object, PyObject *unused)
{
    struct fin__py_close_set *self = (struct fin__py_close_set *) object;

    (void) unused;
    if (self->busy) {
        (void) fin__py_close_set_usable(self);
        return NULL;
    }
    self->closed = true;
    drop_set(self);
    fin__kernel_end(&self->kernel);
    Py_RETURN_NONE;
}

static void close_set_dealloc(PyObject *object)
{
    struct fin__py_close_set *self = (struct fin__py_close_set *) object;

    drop_set(self);
    fin__kernel_end(&self->kernel);
    PyMem_RawFree(self->watched);
    Py_XDECREF(self->last.tuple);
    fin__py_free(object);
}

static PyObject *fileno_(PyObject *object, PyObject *unused)
{
    struct fin__py_close_set *self = (struct fin__py_close_set *) object;
    int result;

    (void) unused;
    if (fin__py_close_set_usable(self) < 0)
        return NULL;
    result = need_set(self);
    if (result < 0)
        return fin__py_os_error(result);
    return PyLong_FromLong(self->set);
}

/* Appends the closes that have events. 1: an entry belongs to no close; -1: an exception.
 * Appending may run anything. */
static int list_one(struct fin__py_close_set *self, const struct epoll_event *event, PyObject *list)
{
    const struct fin__py_watched *w = close_set_find(self, event->data.u64);
    PyObject *owner = w ? fin__py_close_ready(w->close, event->events) : NULL;
    int result;

    if (!w)
        return 1;
    result = owner ? PyList_Append(list, owner) : 0;
    Py_XDECREF(owner);
    return result;
}

static int list_all(struct fin__py_close_set *self, PyObject *list)
{
    struct epoll_event events[BATCH];
    int n = epoll_wait(self->set, events, BATCH, 0), result = 0;
    bool strange = n < 0 && errno != EINTR;

    for (int i = 0; i < n && result >= 0; i++) {
        result = list_one(self, &events[i], list);
        strange = strange || result > 0;
    }
    if (result >= 0 && strange && self->set >= 0 && (n < 0 || !is_ours(self))) {
        lose(self);
        (void) fin__py_os_error(-EBADF);
        result = -1;
    }
    return result < 0 ? -1 : 0;
}

static PyObject *poll_(PyObject *object, PyObject *unused)
{
    struct fin__py_close_set *self = (struct fin__py_close_set *) object;
    PyObject *list;

    (void) unused;
    if (fin__py_close_set_usable(self) < 0)
        return NULL;
    list = PyList_New(0);
    if (list && self->set >= 0 && list_all(self, list) < 0)
        Py_CLEAR(list);
    return list;
}

FIN__PY_LOCK(fileno_)
FIN__PY_LOCK(poll_)
FIN__PY_LOCK(close_set_close)

PyDoc_STRVAR(type_doc,
             "CloseSet()\n--\n\n"
             "What the closes of one loop share; its descriptor is readable when one of them has\n"
             "something to do. Opens nothing before there is need of it.\n\n"
             "RuntimeError: another thread is using it, or one of its closes.");

static PyMethodDef methods[] = {
    { "fileno", FIN__PY_LOCKED(fileno_), METH_NOARGS,
      "fileno($self, /)\n--\n\nThe descriptor to watch for input." },
    { "poll", FIN__PY_LOCKED(poll_), METH_NOARGS,
      "poll($self, /)\n--\n\n"
      "The owners of the closes with news. OSError (EBADF): the set's descriptor was closed\n"
      "behind its back; fileno() makes another one, and every close gets an edge." },
    { "close", FIN__PY_LOCKED(close_set_close), METH_NOARGS,
      "close($self, /)\n--\n\nClose what it opened." },
    { NULL, NULL, 0, NULL },
};

static PyType_Slot slots[] = {
    { Py_tp_doc, (void *) type_doc },     { Py_tp_new, new }, { Py_tp_methods, methods },
    { Py_tp_dealloc, close_set_dealloc }, { 0, NULL },
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
