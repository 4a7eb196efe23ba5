/* SPDX-License-Identifier: MIT */

/* How a ProxySelector begins and ends. */

#include "arguments.h"
#include "proxy.h"

/* ---- life ---- */

/* The keys go last: what they refer to may run anything when it goes. */
static void forget_keys(struct fin__py_selector *self)
{
    struct fin__table table = self->selector->table;

    self->selector->table = (struct fin__table) { .generation = table.generation };
    self->edges = 0;
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

/* Of what is marked as closed. */
static void forget_all(struct fin__py_selector *self)
{
    self->waiting++;
    if (self->selector)
        forget_keys(self);
    Py_CLEAR(self->map);
    self->waiting--;
    fin__py_finish(self);
}

PyObject *fin__py_close(PyObject *object, PyObject *unused)
{
    struct fin__py_selector *self = (struct fin__py_selector *) object;
    PyObject *result;

    (void) unused;
    if (!fin__py_is_open(self))
        Py_RETURN_NONE;
    self->closed = true;
    self->waiting++;
    result = self->wrapped ? fin__py_call_wrapped(self, self->module->name_close, NULL)
                           : Py_NewRef(Py_None);
    self->waiting--;
    forget_all(self);
    return result;
}

PyObject *fin__py_new(PyTypeObject *type, PyObject *args, PyObject *keywords)
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

static int selector_life_start(struct fin__py_selector *self)
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
static int selector_life_adopt(struct fin__py_selector *self, PyObject *key)
{
    PyObject *number = PyObject_GetAttr(key, self->module->name_fd);
    PyObject *events = number ? PyObject_GetAttr(key, self->module->name_events) : NULL;
    struct fin__mark mark;
    int fd, mask, result = -1;

    if (events && fin__py_descriptor(self->module, number, &fd) == 0
        && fin__py_events(events, &mask) == 0 && fin__py_usable(self) == 0
        && fin__py_identify(self, fd, &mark) == 0) {
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
    PyObject *map = fin__py_call_wrapped(self, self->module->name_get_map, NULL), *keys = NULL;
    int result = -1;

    if (map == Py_None)
        PyErr_SetString(PyExc_ValueError, "the selector is closed");
    else if (map)
        keys = PyMapping_Values(map);
    if (keys) {
        result = 0;
        for (Py_ssize_t i = 0; result == 0 && i < PyList_GET_SIZE(keys); i++)
            result = selector_life_adopt(self, Py_NewRef(PyList_GET_ITEM(keys, i)));
    }
    Py_XDECREF(map);
    Py_XDECREF(keys);
    return result;
}

static int check_wrapped(struct fin__py_selector *self, PyObject *selector)
{
    int fits = selector == Py_None ? 1 : PyObject_IsInstance(selector, self->module->base_selector);

    if (fits == 0)
        PyErr_Format(PyExc_TypeError, "selector must be a selectors.BaseSelector or None, not %s",
                     Py_TYPE(selector)->tp_name);
    return fits <= 0 ? -1 : 0;
}

/* After a failure the object is as it was before __init__; closed for as long as that takes, since
 * keys may run anything when they go. */
static void undo(struct fin__py_selector *self)
{
    bool closed = self->closed;

    self->closed = true;
    forget_all(self);
    Py_CLEAR(self->wrapped);
    self->closed = closed || self->selector;
}

int fin__py_init(PyObject *object, PyObject *args, PyObject *keywords)
{
    static char *names[] = { "selector", NULL };
    struct fin__py_selector *self = (struct fin__py_selector *) object;
    PyObject *selector = Py_None;

    if (!PyArg_ParseTupleAndKeywords(args, keywords, "|O:ProxySelector", names, &selector))
        return -1;
    if (check_wrapped(self, selector) < 0)
        return -1;
    if (self->selector || self->closed) { /* asked last: the check may have called us again */
        PyErr_SetString(PyExc_RuntimeError, "ProxySelector is initialised already");
        return -1;
    }
    if (selector != Py_None)
        self->wrapped = Py_NewRef(selector);
    if (selector_life_start(self) == 0 && (!self->wrapped || adopt_all(self) == 0))
        return 0;
    undo(self);
    return -1;
}

int fin__py_traverse(PyObject *object, visitproc visit, void *arg)
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

int fin__py_clear(PyObject *object)
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

void fin__py_dealloc(PyObject *object)
{
    PyObject_GC_UnTrack(object);
    if (((struct fin__py_selector *) object)->weak)
        PyObject_ClearWeakRefs(object);
    (void) fin__py_clear(object);
    fin__py_finish((struct fin__py_selector *) object);
    fin__py_free(object);
}
