/* SPDX-License-Identifier: MIT */

#include "module.h"

#include "slots.h"

#include "base/clock.h"

#include <errno.h>

PyObject *fin__py_os_error(int result)
{
    errno = -result;
    return PyErr_SetFromErrno(PyExc_OSError);
}

/* ---- state ---- */

static int module_traverse(PyObject *module, visitproc visit, void *arg)
{
    struct fin__py_module *m = PyModule_GetState(module);
    int result;

    Py_VISIT(m->selector_type);
    Py_VISIT(m->map_type);
    Py_VISIT(m->close_set_type);
    Py_VISIT(m->key_type);
    Py_VISIT(m->base_selector);
    result = fin__py_tombs_traverse(m, visit, arg);
    return result ? result : fin__py_asyncio_traverse(&m->asyncio, visit, arg);
}

static int module_clear(PyObject *module)
{
    struct fin__py_module *m = PyModule_GetState(module);

    Py_CLEAR(m->selector_type);
    Py_CLEAR(m->map_type);
    Py_CLEAR(m->close_set_type);
    Py_CLEAR(m->base_selector);
    fin__py_asyncio_clear(&m->asyncio);
    return 0;
}

/* What methods use is kept until the last of our objects is freed: each holds its type, and that
 * holds the module. */
static void free_module(void *module)
{
    struct fin__py_module *m = PyModule_GetState(module);

    (void) module_clear(module);
    Py_CLEAR(m->key_type);
#define CLEAR(name, text) Py_CLEAR(m->name_##name);
    FIN__PY_OWN_NAMES(CLEAR)
#undef CLEAR
    fin__py_asyncio_free(&m->asyncio);
}

/* ---- start ---- */

static int fetch_all(struct fin__py_module *m)
{
    m->base_selector = fin__py_fetch("selectors", "BaseSelector");
    m->key_type = (PyTypeObject *) fin__py_fetch("selectors", "SelectorKey");
    if (!m->base_selector || !m->key_type)
        return -1;
    /* Keys are made as the plain tuples that they are (fin__py_key()). */
    if (PyType_Check(m->key_type) && PyType_IsSubtype(m->key_type, &PyTuple_Type)
        && m->key_type->tp_basicsize == PyTuple_Type.tp_basicsize)
        return 0;
    PyErr_SetString(PyExc_ImportError, "selectors.SelectorKey is not the named tuple it was");
    return -1;
}

static int name_all(struct fin__py_module *owner)
{
    const struct fin__py_name names[] = { FIN__PY_OWN_NAMES(FIN__PY_NAME_WANTED) };

    return fin__py_intern(names, sizeof names / sizeof *names);
}

static int module_start(PyObject *module)
{
    struct fin__py_module *m = PyModule_GetState(module);

    /* Far from the small numbers that others give to their entries. */
    m->serial = m->first_serial = UINT64_C(1) << 38 | (fin__now() & 0xffffffff);
    if (fetch_all(m) < 0 || name_all(m) < 0)
        return -1;
    if (fin__py_add_close_now(module) < 0 || fin__py_add_identity(module) < 0
        || fin__py_add_witness(module) < 0)
        return -1;
    if (fin__py_add_close_set(module, m) < 0 || fin__py_add_close(module) < 0)
        return -1;
    if (fin__py_add_receipt_of(module) < 0 || fin__py_add_tls(module) < 0)
        return -1;
    if (fin__py_add_map(module, m) < 0)
        return -1;
    return fin__py_add_selector(module, m);
}

/* Not at import: asyncio takes longer to import than all the rest. */
static PyObject *prepare(PyObject *module, PyObject *unused)
{
    struct fin__py_module *m = PyModule_GetState(module);

    (void) unused;
    if (!m->asyncio.loop_type && fin__py_asyncio_start(module, &m->asyncio) < 0)
        return NULL;
    Py_RETURN_NONE;
}

static PyMethodDef functions[] = {
    { "prepare", prepare, METH_NOARGS, "Make the types that need asyncio: Loop and its own." },
    { NULL, NULL, 0, NULL },
};

static PyModuleDef_Slot slots[] = {
    { Py_mod_exec, module_start },
    FIN__PY_INTERPRETERS_SLOT FIN__PY_GIL_SLOT { 0, NULL },
};

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT,
    .m_name = "finack._core",
    .m_doc = "The engine of finack; use the names that the package finack exports.",
    .m_size = sizeof(struct fin__py_module),
    .m_methods = functions,
    .m_slots = slots,
    .m_traverse = module_traverse,
    .m_clear = module_clear,
    .m_free = free_module,
};

struct PyModuleDef *fin__py_definition(void)
{
    return &definition;
}

PyMODINIT_FUNC PyInit__core(void);

PyMODINIT_FUNC PyInit__core(void)
{
    return PyModuleDef_Init(&definition);
}
