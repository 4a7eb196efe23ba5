/* SPDX-License-Identifier: MIT */

/* loop._ready for programs that use asyncio's insides: a view of the ring, with those methods of
 * a deque that they use. */

#include "loop/loop.h"
#include "loop/state.h"

#include <string.h>

struct ready {
    PyObject ob_base;
    struct fin__py_loop *loop;
};

static struct fin__py_ring *ring_of(PyObject *object)
{
    return &((struct ready *) object)->loop->ring;
}

static struct fin__py_entry *entry_at(const struct fin__py_ring *ring, size_t index)
{
    return &ring->entries[(ring->head + index) & ring->mask];
}

/* ---- reading ---- */

static Py_ssize_t length(PyObject *object)
{
    return (Py_ssize_t) fin__py_ring_count(ring_of(object));
}

static PyObject *item(PyObject *object, Py_ssize_t index)
{
    const struct fin__py_ring *ring = ring_of(object);

    if (index < 0 || (size_t) index >= fin__py_ring_count(ring)) {
        PyErr_SetString(PyExc_IndexError, "index out of range");
        return NULL;
    }
    return Py_NewRef(entry_at(ring, (size_t) index)->self);
}

static int contains(PyObject *object, PyObject *handle)
{
    const struct fin__py_ring *ring = ring_of(object);

    for (size_t i = 0; i < fin__py_ring_count(ring); i++)
        if (entry_at(ring, i)->self == handle)
            return 1;
    return 0;
}

/* ---- changing ---- */

static PyObject *ready_append(PyObject *object, PyObject *handle)
{
    return fin__py_nothing(
        fin__py_ring_push(((struct ready *) object)->loop, NULL, Py_NewRef(handle), NULL));
}

/* ---- a step of the loop's own, as a handle ---- */

struct step {
    PyObject ob_base;
    struct fin__py_loop *loop;
    struct fin__py_entry entry; /* its `self` is NULL once it was run */
};

static PyObject *step_new(struct fin__py_loop *loop, struct fin__py_entry entry)
{
    PyTypeObject *type = loop->module->asyncio.step_type;
    struct step *step = (struct step *) type->tp_alloc(type, 0);

    if (!step) {
        Py_DECREF(entry.self);
        Py_XDECREF(entry.arg);
        return NULL;
    }
    step->loop = (struct fin__py_loop *) Py_NewRef(loop);
    step->entry = entry;
    return (PyObject *) step;
}

static PyObject *step_run(PyObject *object, PyObject *unused)
{
    struct step *step = (struct step *) object;
    struct fin__py_entry entry = step->entry;
    int result;

    (void) unused;
    step->entry = (struct fin__py_entry) { 0 };
    if (!entry.self)
        Py_RETURN_NONE;
    result = entry.step(step->loop, entry.self, entry.arg);
    Py_DECREF(entry.self);
    Py_XDECREF(entry.arg);
    return fin__py_nothing(result);
}

static PyObject *step_is_cancelled(PyObject *object, void *unused)
{
    (void) object;
    (void) unused;
    Py_RETURN_FALSE;
}

static PyObject *step_callback(PyObject *object, void *unused)
{
    (void) object;
    (void) unused;
    Py_RETURN_NONE;
}

static int step_traverse(PyObject *object, visitproc visit, void *arg)
{
    const struct step *step = (struct step *) object;

    Py_VISIT(Py_TYPE(object));
    Py_VISIT(step->loop);
    Py_VISIT(step->entry.self);
    Py_VISIT(step->entry.arg);
    return 0;
}

static int step_clear(PyObject *object)
{
    struct step *step = (struct step *) object;
    struct fin__py_entry entry = step->entry;

    step->entry = (struct fin__py_entry) { 0 };
    Py_XDECREF(entry.self);
    Py_XDECREF(entry.arg);
    Py_CLEAR(step->loop);
    return 0;
}

static void step_dealloc(PyObject *object)
{
    PyObject_GC_UnTrack(object);
    (void) step_clear(object);
    fin__py_free(object);
}

static PyMethodDef step_methods[] = {
    { "_run", step_run, METH_NOARGS, "Take it." },
    { NULL, NULL, 0, NULL },
};

static PyGetSetDef step_members[] = {
    { "_cancelled", step_is_cancelled, NULL, NULL, NULL },
    { "_callback", step_callback, NULL, NULL, NULL },
    { NULL, NULL, NULL, NULL, NULL },
};

static PyType_Slot step_slots[] = {
    { Py_tp_doc, "A step of the loop's own, for a turn that is not." },
    { Py_tp_methods, step_methods },
    { Py_tp_getset, step_members },
    { Py_tp_traverse, step_traverse },
    { Py_tp_clear, step_clear },
    { Py_tp_dealloc, step_dealloc },
    { 0, NULL },
};

static PyType_Spec step_spec = {
    .name = "finack._core.Step",
    .basicsize = sizeof(struct step),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = step_slots,
};

/* ---- taking ---- */

/* What a turn other than ours, such as nest_asyncio's, takes out and runs. */
static PyObject *handle_of(PyObject *object, struct fin__py_entry entry)
{
    return entry.step ? step_new(((struct ready *) object)->loop, entry) : entry.self;
}

static PyObject *nothing_there(void)
{
    PyErr_SetString(PyExc_IndexError, "no handle is ready");
    return NULL;
}

static PyObject *popleft(PyObject *object, PyObject *unused)
{
    struct fin__py_ring *ring = ring_of(object);

    (void) unused;
    ((struct ready *) object)->loop->turning = false; /* this turn is not its own, if in one */
    return fin__py_ring_count(ring) ? handle_of(object, fin__py_ring_take(ring)) : nothing_there();
}

static PyObject *pop(PyObject *object, PyObject *unused)
{
    struct fin__py_ring *ring = ring_of(object);

    (void) unused;
    return fin__py_ring_count(ring) ? handle_of(object, ring->entries[--ring->tail & ring->mask])
                                    : nothing_there();
}

static PyObject *clear_all(PyObject *object, PyObject *unused)
{
    (void) unused;
    fin__py_ring_clear(ring_of(object));
    Py_RETURN_NONE;
}

/* ---- the type ---- */

static int ready_traverse(PyObject *object, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(object));
    Py_VISIT(((struct ready *) object)->loop);
    return 0;
}

static void ready_dealloc(PyObject *object)
{
    PyObject_GC_UnTrack(object);
    Py_XDECREF(((struct ready *) object)->loop);
    fin__py_free(object);
}

static PyMethodDef methods[] = {
    { "append", ready_append, METH_O, "Have the loop run a handle." },
    { "popleft", popleft, METH_NOARGS, "Take the first handle out." },
    { "pop", pop, METH_NOARGS, "Take the last handle out." },
    { "clear", clear_all, METH_NOARGS, "Forget all." },
    { NULL, NULL, 0, NULL },
};

static PyType_Slot slots[] = {
    { Py_tp_doc, "The handles that are ready to run." },
    { Py_tp_methods, methods },
    { Py_tp_traverse, ready_traverse },
    { Py_tp_dealloc, ready_dealloc },
    { Py_tp_hash, PyObject_HashNotImplemented },
    { Py_sq_length, length },
    { Py_sq_item, item },
    { Py_sq_contains, contains },
    { 0, NULL },
};

static PyType_Spec spec = {
    .name = "finack._core.Ready",
    .basicsize = sizeof(struct ready),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_DISALLOW_INSTANTIATION
        | Py_TPFLAGS_SEQUENCE,
    .slots = slots,
};

PyObject *fin__py_ready_new(struct fin__py_loop *loop)
{
    PyTypeObject *type = loop->module->asyncio.ready_type;
    struct ready *ready = type ? (struct ready *) type->tp_alloc(type, 0) : NULL;

    if (ready)
        ready->loop = (struct fin__py_loop *) Py_NewRef(loop);
    return (PyObject *) ready;
}

int fin__py_add_ready(PyObject *module, struct fin__py_asyncio *a)
{
    a->ready_type = (PyTypeObject *) PyType_FromModuleAndSpec(module, &spec, NULL);
    a->step_type = (PyTypeObject *) PyType_FromModuleAndSpec(module, &step_spec, NULL);
    return a->ready_type && a->step_type ? 0 : -1;
}
