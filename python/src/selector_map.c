/* SPDX-License-Identifier: MIT */

/* What ProxySelector.get_map() returns: a mapping of file objects to keys. */

#include "proxy.h"

struct map {
    PyObject ob_base;
    struct fin__py_selector *selector;
};

/* ---- one key ---- */

/* A new reference; NULL with KeyError, or with ValueError for what is no file object. */
static PyObject *subscript(PyObject *object, PyObject *fileobj)
{
    struct fin__py_selector *selector = ((struct map *) object)->selector;
    PyObject *key;
    int fd;

    if (fin__py_lookup(selector, fileobj, &fd) < 0)
        return NULL;
    key = fin__py_current(selector, fd);
    return key ? Py_NewRef(key) : fin__py_not_registered(fileobj);
}

static PyObject *selector_map_get(PyObject *object, PyObject *const *args, Py_ssize_t count)
{
    struct fin__py_selector *selector = ((struct map *) object)->selector;
    PyObject *key;
    int fd;

    if (count < 1 || count > 2) {
        PyErr_Format(PyExc_TypeError, "get() takes a file object and a default (%zd given)", count);
        return NULL;
    }
    if (fin__py_lookup(selector, args[0], &fd) < 0)
        return NULL;
    key = fin__py_current(selector, fd);
    if (key)
        return Py_NewRef(key);
    return Py_NewRef(count == 2 ? args[1] : Py_None);
}

static int contains(PyObject *object, PyObject *fileobj)
{
    struct fin__py_selector *selector = ((struct map *) object)->selector;
    int fd;

    if (fin__py_lookup(selector, fileobj, &fd) < 0)
        return -1;
    return fin__py_current(selector, fd) != NULL;
}

/* ---- all keys ---- */

static Py_ssize_t length(PyObject *object)
{
    const struct fin__py_selector *selector = ((struct map *) object)->selector;

    return fin__py_is_open(selector) ? selector->selector->table.count - selector->edges : 0;
}

/* Looking may drop a key, which calls observers, which may do anything: nothing is kept across. */
static PyObject *numbers(struct fin__py_selector *selector)
{
    PyObject *list = PyList_New(0);

    for (int fd = 0; list && fin__py_is_open(selector) && fd < selector->selector->table.size;
         fd++) {
        PyObject *number;

        if (!fin__py_current(selector, fd))
            continue;
        number = PyLong_FromLong(fd);
        if (!number || PyList_Append(list, number) < 0)
            Py_CLEAR(list);
        Py_XDECREF(number);
    }
    return list;
}

static PyObject *iterate(PyObject *object)
{
    PyObject *list = numbers(((struct map *) object)->selector), *iterator;

    if (!list)
        return NULL;
    iterator = PyObject_GetIter(list);
    Py_DECREF(list);
    return iterator;
}

/* ---- the type ---- */

static int selector_map_traverse(PyObject *object, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(object));
    Py_VISIT(((struct map *) object)->selector);
    return 0;
}

static int selector_map_clear(PyObject *object)
{
    (void) object; /* ProxySelector breaks the cycle; a map without a selector would be of no use */
    return 0;
}

static void selector_map_dealloc(PyObject *object)
{
    PyObject_GC_UnTrack(object);
    Py_XDECREF(((struct map *) object)->selector);
    fin__py_free(object);
}

/* The lock is the selector's. */
#define OWNER ((PyObject *) ((struct map *) self)->selector)
FIN__PY_LOCK_FAST_WITH(selector_map_get, OWNER)
FIN__PY_LOCK_UNARY_WITH(PyObject *, iterate, OWNER)
FIN__PY_LOCK_BINARY_WITH(PyObject *, subscript, OWNER)
FIN__PY_LOCK_UNARY_WITH(Py_ssize_t, length, OWNER)
FIN__PY_LOCK_BINARY_WITH(int, contains, OWNER)

PyDoc_STRVAR(get_doc,
             "get($self, fileobj, default=None, /)\n--\n\n"
             "The SelectorKey of a file object or number, else the default.");

static PyMethodDef methods[] = {
    { "get", FIN__PY_VECTOR(FIN__PY_LOCKED(selector_map_get)), METH_FASTCALL, get_doc },
    { NULL, NULL, 0, NULL },
};

static PyType_Slot slots[] = {
    { Py_tp_doc, "What is registered, by file object or number; read only." },
    { Py_tp_methods, methods },
    { Py_tp_traverse, selector_map_traverse },
    { Py_tp_clear, selector_map_clear },
    { Py_tp_dealloc, selector_map_dealloc },
    { Py_tp_iter, FIN__PY_LOCKED(iterate) },
    { Py_tp_hash, PyObject_HashNotImplemented },
    { Py_mp_subscript, FIN__PY_LOCKED(subscript) },
    { Py_mp_length, FIN__PY_LOCKED(length) },
    { Py_sq_contains, FIN__PY_LOCKED(contains) },
    { 0, NULL },
};

static PyType_Spec spec = {
    .name = "finack._core.SelectorMap",
    .basicsize = sizeof(struct map),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_DISALLOW_INSTANTIATION
        | Py_TPFLAGS_MAPPING,
    .slots = slots,
};

PyObject *fin__py_map_new(struct fin__py_selector *selector)
{
    PyTypeObject *type = selector->module->map_type;
    struct map *map = (struct map *) type->tp_alloc(type, 0);

    if (map)
        map->selector = (struct fin__py_selector *) Py_NewRef(selector);
    return (PyObject *) map;
}

/* What a mapping has that needs nothing but its keys. */
static int take_from_mapping(PyTypeObject *type)
{
    static const char *const names[] = { "keys", "items", "values", "__eq__" };
    PyObject *mapping = fin__py_fetch("collections.abc", "Mapping");
    int result = mapping ? 0 : -1;

    for (size_t i = 0; result == 0 && i < sizeof names / sizeof *names; i++) {
        PyObject *method = PyObject_GetAttrString(mapping, names[i]);

        result = method ? PyObject_SetAttrString((PyObject *) type, names[i], method) : -1;
        Py_XDECREF(method);
    }
    Py_XDECREF(mapping);
    return result;
}

int fin__py_add_map(PyObject *module, struct fin__py_module *m)
{
    m->map_type = (PyTypeObject *) PyType_FromModuleAndSpec(module, &spec, NULL);
    if (!m->map_type || take_from_mapping(m->map_type) < 0)
        return -1;
    return fin__py_enlist("Mapping", m->map_type);
}
