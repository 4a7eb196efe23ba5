/* SPDX-License-Identifier: MIT */

/* The close of a transport as Python sees it: finack._core.Ending, and the methods of loop and
 * transport for it. */

#include "transport/tls.h"

#include "close/policy.h"
#include "slots.h"
#include "values.h"

#include <stddef.h>
#include <structmember.h>

/* ---- methods ---- */

/* `last`, if it is not NULL, is the loop's. */
static int parse(struct fin__py_last_policy *last, PyObject *tuple, struct fin_policy *policy)
{
    int result = last ? fin__py_policy_again(last, tuple, policy) : fin__py_policy(tuple, policy);

    if (result == 0 && (result = fin__policy_check(policy)) < 0)
        (void) fin__py_os_error(result);
    return result < 0 ? -1 : 0;
}

/* A future that is done when the close is complete; None: it is. */
PyObject *fin__py_ending_wait(PyObject *object, PyObject *unused)
{
    struct fin__py_ending *c = (struct fin__py_ending *) object;
    PyObject *loop, *future, *list;

    (void) unused;
    if (c->over)
        Py_RETURN_NONE;
    loop = Py_NewRef(c->loop);
    future = fin__py_create_future(loop, NULL);
    list = c->waiters ? Py_NewRef(c->waiters) : PyList_New(0);
    Py_DECREF(loop);
    if (list && !c->waiters)
        c->waiters = Py_NewRef(list);
    if (!list || (future && PyList_Append(c->waiters, future) < 0))
        Py_CLEAR(future);
    Py_XDECREF(list);
    if (future && c->over) /* what ran meanwhile has completed it */
        Py_SETREF(future, Py_NewRef(Py_None));
    return future;
}

static PyObject *abort_(PyObject *object, PyObject *unused)
{
    (void) unused;
    return fin__py_nothing(fin__py_ending_abort((struct fin__py_ending *) object, NULL));
}

static PyObject *force_(PyObject *object, PyObject *unused)
{
    (void) unused;
    return fin__py_nothing(fin__py_ending_force((struct fin__py_ending *) object));
}

static PyObject *receipt(PyObject *object, PyObject *unused)
{
    const struct fin__py_ending *c = (struct fin__py_ending *) object;
    struct fin_receipt r = FIN_RECEIPT_INIT;

    (void) unused;
    fin__machine_report(&c->machine, &r);
    if (c->machine.held == FIN_YES)
        fin__proof_holders(&c->machine, c->proof.inode, (enum fin__kind) c->ep.kind, &r);
    return fin__py_receipt(&r);
}

/* The two addresses, None where there is none. */
static PyObject *names(PyObject *object, PyObject *unused)
{
    const struct fin__py_ending *c = (struct fin__py_ending *) object;
    const struct fin__py_transport *t = c->transport;
    const struct fin__py_address ours = t ? t->ours : c->ours, theirs = t ? t->theirs : c->theirs;
    PyObject *extra = Py_XNewRef(t ? t->extra : c->extra), *result;

    (void) unused; /* the close may be complete before the second is made */
    result = Py_BuildValue("(NN)", fin__py_kept_name(&ours, extra, "sockname"),
                           fin__py_kept_name(&theirs, extra, "peername"));
    Py_XDECREF(extra);
    return result;
}

/* As identify() has it, what is known of it: the inode if somebody was to hear of the close, or who
 * holds it is to be found; the cookie of one that ghosts() may be asked for. */
static PyObject *get_identity(PyObject *object, void *unused)
{
    const struct fin__py_ending *c = (struct fin__py_ending *) object;
    const struct fin_identity *id = &c->proof.id;

    (void) unused;
    return Py_BuildValue("(KKK)", (unsigned long long) (id->cookie ? id->cookie : UINT64_MAX),
                         (unsigned long long) id->device,
                         (unsigned long long) (id->inode ? id->inode : c->proof.inode));
}

/* The ending is what its timer calls. */
static PyObject *deadline(PyObject *object, PyObject *args, PyObject *keywords)
{
    (void) args;
    (void) keywords;
    return fin__py_nothing(fin__py_ending_deadline((struct fin__py_ending *) object));
}

/* ---- the type ---- */

static int traverse(PyObject *object, visitproc visit, void *arg)
{
    struct fin__py_ending *c = (struct fin__py_ending *) object;

    Py_VISIT(Py_TYPE(object));
    Py_VISIT(c->loop);
    Py_VISIT(c->transport);
    Py_VISIT(c->waiters);
    Py_VISIT(c->error);
    Py_VISIT(c->timer);
    Py_VISIT(c->extra);
    Py_VISIT(c->known);
    return 0;
}

static int clear(PyObject *object)
{
    struct fin__py_ending *c = (struct fin__py_ending *) object;

    Py_CLEAR(c->waiters);
    Py_CLEAR(c->error);
    Py_CLEAR(c->timer);
    Py_CLEAR(c->extra);
    Py_CLEAR(c->known);
    return 0;
}

static void dealloc(PyObject *object)
{
    struct fin__py_ending *c = (struct fin__py_ending *) object;

    PyObject_GC_UnTrack(object);
    (void) clear(object);
    Py_CLEAR(c->transport);
    Py_CLEAR(c->loop);
    fin__py_free(object);
}

static PyMethodDef methods[] = {
    { "wait", fin__py_ending_wait, METH_NOARGS,
      "A future that is done when the close is complete; or None." },
    { "abort", abort_, METH_NOARGS, "Ask for the end: RST." },
    { "force", force_, METH_NOARGS, "Wait no longer: as if the deadline had come." },
    { "receipt", receipt, METH_NOARGS, "What Receipt._from_core() takes." },
    { "names", names, METH_NOARGS, "The addresses of both ends." },
    { NULL, NULL, 0, NULL },
};

static PyMemberDef members[] = {
    { "datagram", T_BOOL, offsetof(struct fin__py_ending, datagram), READONLY, NULL },
    { "noted", T_BOOL, offsetof(struct fin__py_ending, noted), READONLY, NULL },
    { "over", T_BOOL, offsetof(struct fin__py_ending, over), READONLY, NULL },
    { "driven", T_INT, offsetof(struct fin__py_ending, driven), READONLY, NULL },
    { NULL, 0, 0, 0, NULL },
};

/* It did not wait for the peer, and nobody holds it: so much is known without a look at the
 * receipt. */
static PyObject *get_prompt(PyObject *object, void *unused)
{
    const struct fin__machine *m = &((struct fin__py_ending *) object)->machine;

    (void) unused;
    return PyBool_FromLong(m->outcome == FIN_OUTCOME_PROMPT && m->held == FIN_NO);
}

/* When the descriptor was released, as time.monotonic() has it; None: it was not. */
static PyObject *get_released(PyObject *object, void *unused)
{
    const struct fin__machine *m = &((struct fin__py_ending *) object)->machine;

    (void) unused;
    if (!fin__reached(m, FIN_STAGE_RELEASED))
        Py_RETURN_NONE;
    return PyFloat_FromDouble((double) (m->start + (uint64_t) m->stage[FIN_STAGE_RELEASED]) / 1e9);
}

static PyObject *get_known(PyObject *object, void *unused)
{
    PyObject *known = ((struct fin__py_ending *) object)->known;

    (void) unused;
    return Py_NewRef(known ? known : Py_None);
}

/* A receipt may lead back to here, by the traceback of its error. */
static int set_known(PyObject *object, PyObject *known, void *unused)
{
    (void) unused;
    if (!PyObject_GC_IsTracked(object) && known && !PyWeakref_Check(known))
        PyObject_GC_Track(object);
    Py_XSETREF(((struct fin__py_ending *) object)->known, Py_XNewRef(known));
    return 0;
}

/* The receipt that there is; None: there is none. */
static PyObject *known_receipt(struct fin__py_ending *c)
{
    PyObject *known = Py_NewRef(c->known ? c->known : Py_None), *receipt;

    if (!PyWeakref_CheckRefExact(known))
        return known;
    receipt = PyObject_CallNoArgs(known);
    Py_DECREF(known);
    return receipt;
}

/* As Receipt._from_core() makes one: what is in it is worked out when somebody looks. */
static PyObject *make_receipt(PyTypeObject *kind, PyObject *namer, PyObject *ending, PyObject *key)
{
    PyObject *args = PyTuple_New(0), *source = PyTuple_Pack(2, ending, namer);
    PyObject *receipt = args ? kind->tp_new(kind, args, NULL) : NULL, *weak = NULL;

    if (receipt && source && PyObject_GenericSetAttr(receipt, key, source) == 0)
        weak = PyWeakref_NewRef(receipt, NULL);
    if (!weak || set_known(ending, weak, NULL) < 0)
        Py_CLEAR(receipt);
    Py_XDECREF(weak);
    Py_XDECREF(source);
    Py_XDECREF(args);
    return receipt;
}

/* receipt_of(class, function, ending) */
static PyObject *receipt_of(PyObject *module, PyObject *const *args, Py_ssize_t count)
{
    const struct fin__py_module *m = PyModule_GetState(module);
    const struct fin__py_asyncio *a = &m->asyncio;
    PyObject *known;

    if (count != 3 || !a->ending_type || !Py_IS_TYPE(args[2], a->ending_type)
        || !PyType_Check(args[0])
        || ((PyTypeObject *) args[0])->tp_new != PyBaseObject_Type.tp_new) {
        PyErr_BadArgument();
        return NULL;
    }
    known = known_receipt((struct fin__py_ending *) args[2]);
    if (!known || known != Py_None)
        return known;
    Py_DECREF(known);
    return make_receipt((PyTypeObject *) args[0], args[1], args[2], a->name_source);
}

static PyGetSetDef attributes[] = {
    { "known", get_known, set_known, "The receipt, or a weak reference to it.", NULL },
    { "released", get_released, NULL, "When it was, by time.monotonic(); or None.", NULL },
    { "prompt", get_prompt, NULL, "Whether it ended so, and nobody holds the socket.", NULL },
    { "identity", get_identity, NULL, "As that of identify().", NULL },
    { NULL, NULL, NULL, NULL, NULL },
};

static PyType_Slot slots[] = {
    { Py_tp_doc, "The close of a transport." },
    { Py_tp_methods, methods },
    { Py_tp_members, members },
    { Py_tp_getset, attributes },
    { Py_tp_call, deadline },
    { Py_am_await, fin__py_ending_await },
    { Py_tp_traverse, traverse },
    { Py_tp_clear, clear },
    { Py_tp_dealloc, dealloc },
    { 0, NULL },
};

static PyType_Spec spec = {
    .name = "finack._core.Ending",
    .basicsize = sizeof(struct fin__py_ending),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = slots,
};

int fin__py_add_ending(PyObject *module, struct fin__py_asyncio *a)
{
    a->ending_type = (PyTypeObject *) PyType_FromModuleAndSpec(module, &spec, NULL);
    return a->ending_type ? 0 : -1;
}

/* ---- of the loop and the transport ---- */

/* _set_close(policy or None, cap) */
PyObject *fin__py_set_close(PyObject *object, PyObject *args)
{
    struct fin__py_loop *loop = (struct fin__py_loop *) object;
    PyObject *tuple;
    int cap;

    if (!PyArg_ParseTuple(args, "Oi", &tuple, &cap))
        return NULL;
    loop->close_cap = cap;
    loop->closes = false;
    if (tuple == Py_None)
        Py_RETURN_NONE;
    if (parse(NULL, tuple, &loop->close_policy) < 0)
        return NULL;
    loop->closes = true;
    Py_RETURN_NONE;
}

/* By this policy, unless another aclose() has come before: what that one asked for stays. */
static PyObject *go_on_by(struct fin__py_ending *c, const struct fin_policy *policy)
{
    PyObject *ending = Py_NewRef(c);

    if (!c->over && !c->driven && fin__py_ending_adopt(c, policy) < 0)
        Py_CLEAR(ending);
    return ending;
}

static PyObject *begin_by(struct fin__py_transport *t, const struct fin_policy *policy)
{
    if (fin__py_refuses(t, "aclose"))
        return NULL;
    if (!t->loop || t->plain || t->fd < 0 || t->connecting || !t->watched || t->losing
        || (t->closing && !fin__py_is_shutting(t)))
        Py_RETURN_NONE;
    if (fin__py_ending_begin(t, policy, FIN__PY_BY_ACLOSE, NULL) < 0)
        return NULL;
    return Py_NewRef(t->ending ? t->ending : Py_None);
}

/* transport._close_by(policy, loop), the loop that runs: the close that is at work, by this policy,
 * or was; None: the engine can't. */
PyObject *fin__py_close_by(PyObject *object, PyObject *const *args, Py_ssize_t count)
{
    struct fin__py_transport *t = (struct fin__py_transport *) object;
    struct fin__py_loop *loop = t->loop;
    struct fin_policy policy;
    int result;

    if (count != 2) {
        PyErr_BadArgument();
        return NULL;
    }
    if (!loop)
        return Py_NewRef(t->ending ? t->ending : Py_None);
    if ((PyObject *) loop != args[1])
        Py_RETURN_NONE;
    Py_INCREF(loop);
    result = parse(&loop->last_policy, args[0], &policy); /* which may run the program's code */
    Py_DECREF(loop);
    if (result < 0)
        return NULL;
    if (policy.scope == FIN_SCOPE_DESCRIPTOR)
        Py_RETURN_NONE;
    if (t->ending)
        return go_on_by((struct fin__py_ending *) t->ending, &policy);
    return begin_by(t, &policy);
}

PyObject *fin__py_force_closes(PyObject *object, PyObject *unused)
{
    struct fin__py_loop *loop = (struct fin__py_loop *) object;

    (void) unused;
    if (fin__py_endings_check(loop) < 0) /* what is to be asked about can't be forced */
        return NULL;
    (void) fin__py_endings_force(loop, loop->lingering, true);
    return fin__py_nothing(fin__py_endings_check(loop));
}

PyObject *fin__py_records(PyObject *object, PyObject *unused)
{
    const struct fin__py_loop *loop = (struct fin__py_loop *) object;
    uint64_t count = loop->record_count < FIN__PY_RECORDS ? loop->record_count : FIN__PY_RECORDS;
    PyObject *list = PyList_New(0);

    (void) unused;
    for (uint64_t i = loop->record_count - count; list && i < loop->record_count; i++)
        if (PyList_Append(list, loop->records[i % FIN__PY_RECORDS]) < 0)
            Py_CLEAR(list);
    return list;
}

static PyMethodDef functions[] = {
    { "receipt_of", FIN__PY_VECTOR(receipt_of), METH_FASTCALL,
      "The receipt of an Ending: of this class, which finds out by that function what it names." },
    { NULL, NULL, 0, NULL },
};

int fin__py_add_receipt_of(PyObject *module)
{
    return PyModule_AddFunctions(module, functions);
}
