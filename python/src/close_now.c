/* SPDX-License-Identifier: MIT */

/* The blocking close, and other calls on sockets for drivers in Python. */

#include "guarded.h"
#include "slots.h"
#include "values.h"

#include "base/clock.h"
#include "close/endpoint.h"
#include "close/machine.h"
#include "close/policy.h"
#include "close/sight.h"

#include <errno.h>
#include <limits.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* ---- close ---- */

/* Between taking the number from its owner and here no Python may run: an interrupt would lose
 * it. */
static int take_number(PyObject *from, int *fd)
{
    PyObject *number = PyLong_Check(from) ? Py_NewRef(from) : PyObject_CallNoArgs(from);
    long value = number ? PyLong_AsLong(number) : -1;

    Py_XDECREF(number);
    if (PyErr_Occurred())
        return -1;
    *fd = value < 0 || value > INT_MAX ? -1 : (int) value;
    return 0;
}

/* ---- tombs ---- */

/* Of a callable: 1, 0, or -1 with an exception. */
static int ask_users(PyObject *in_use)
{
    PyObject *answer = PyObject_CallNoArgs(in_use);
    int result = answer ? PyObject_IsTrue(answer) : -1;

    Py_XDECREF(answer);
    return result;
}

/* For reap(), which asks `user`, if there is one, whether somebody is inside. A tomb of NULL is
 * fine. */
static void close_now_keep(struct fin__py_module *m, struct fin__tomb *tomb, PyObject *user)
{
    if (!tomb)
        return;
    tomb->user = Py_XNewRef(user);
    FIN__PY_MUTEX_LOCK(m);
    tomb->next = m->tombs;
    m->tombs = tomb;
    FIN__PY_MUTEX_UNLOCK(m);
}

/* ---- signals meanwhile ---- */

struct interrupts {
    PyThreadState *state;
    PyObject *raised; /* by a handler; NULL: nothing */
    bool watched;
    PyObject *in_use; /* asked whether somebody is inside above the kernel; NULL: nobody */
};

/* Called without the interpreter: runs the handlers of signals that came. */
static bool is_interrupted(void *arg)
{
    struct interrupts *in = arg;

    if (!in->watched || in->raised)
        return in->raised;
    PyEval_RestoreThread(in->state);
    if (PyErr_CheckSignals() < 0)
        in->raised = fin__py_take_error();
    in->state = PyEval_SaveThread();
    return in->raised;
}

/* Called without the interpreter's lock. If it can't be known, a thread may be inside. */
static bool are_inside(void *arg)
{
    struct interrupts *in = arg;
    PyObject *error;
    int result;

    PyEval_RestoreThread(in->state);
    result = ask_users(in->in_use);
    error = result < 0 ? fin__py_take_error() : NULL;
    if (in->raised)
        Py_XDECREF(error);
    else
        in->raised = error;
    in->state = PyEval_SaveThread();
    return result != 0;
}

/* The result is in the list before any Python can run: an interrupt might lose a returned value.
 * Steals what was raised. */
static int note_result(const struct interrupts *in, PyObject *values, PyObject *list)
{
    int result = values && list ? PyList_Append(list, values) : 0;

    if (result == 0 && in->raised)
        result = PyList_Append(list, in->raised);
    Py_XDECREF(in->raised);
    return result;
}

/* No kernel handle is kept: its descriptors would show up wherever a program counts its own. */
static PyObject *close_now_close(PyObject *module, PyObject *args)
{
    struct fin__py_module *m = PyModule_GetState(module);
    struct fin_receipt receipt = FIN_RECEIPT_INIT;
    struct interrupts in = { 0 };
    struct fin__guarded_options options = { .cut = is_interrupted, .arg = &in };
    struct fin_policy policy;
    struct fin__tomb *tomb = NULL;
    PyObject *from, *tuple, *requested = Py_None, *kept = NULL, *values;
    int fd, result, half_written = 0;

    if (!PyArg_ParseTuple(args, "OO|OO!Op:close", &from, &tuple, &requested, &PyList_Type, &kept,
                          &in.in_use, &half_written))
        return NULL;
    if (fin__py_policy(tuple, &policy) < 0 || fin__py_moment(requested, &options.requested) < 0
        || take_number(from, &fd) < 0)
        return NULL;
    in.watched = kept;
    options.in_use = in.in_use ? are_inside : NULL;
    options.half_written = half_written;
    in.state = PyEval_SaveThread();
    result = fin__close_guarded(fd, &policy, &options, &receipt, &tomb);
    PyEval_RestoreThread(in.state);
    close_now_keep(m, tomb, in.in_use);
    values = result < 0 ? NULL : fin__py_receipt(&receipt);
    if (note_result(&in, values, kept) < 0)
        Py_CLEAR(values);
    return result < 0 ? fin__py_os_error(result) : values;
}

static PyObject *close_now_release(PyObject *module, PyObject *args)
{
    struct fin__py_module *m = PyModule_GetState(module);
    struct interrupts in = { 0 };
    struct fin__guarded_options options = { .arg = &in };
    struct fin__tomb *tomb = NULL;
    uint64_t deadline;
    PyObject *until, *raised = NULL;
    int fd, result;

    if (!PyArg_ParseTuple(args, "iO|OO!:release", &fd, &until, &in.in_use, &PyList_Type, &raised)
        || fin__py_moment(until, &deadline) < 0)
        return NULL;
    options.in_use = raised ? are_inside : NULL;
    in.state = PyEval_SaveThread();
    result = fin__release_guarded(fd, deadline, &options, &tomb);
    PyEval_RestoreThread(in.state);
    close_now_keep(m, tomb, in.in_use);
    if (note_result(&in, NULL, raised) < 0)
        return NULL;
    if (result < 0 && tomb)
        Py_RETURN_NONE;
    return result < 0 && result != -EINTR ? fin__py_os_error(result) : PyBool_FromLong(!tomb);
}

#define SETTLE_NS (100 * (uint64_t) FIN__NS_PER_MS)

static PyObject *inside(PyObject *module, PyObject *args)
{
    struct fin__inside in;
    int fd;

    (void) module;
    if (!PyArg_ParseTuple(args, "i:inside", &fd))
        return NULL;
    Py_BEGIN_ALLOW_THREADS
    fin__inside_begin(&in, fd);
    fin__inside_settle(&in, SETTLE_NS);
    fin__inside_end(&in);
    Py_END_ALLOW_THREADS
    return Py_BuildValue("(IIK)", in.receiving, in.sending + in.unknown,
                         (unsigned long long) in.unsent);
}

static bool is_left(struct fin__tomb *tomb)
{
    int result;

    if (!fin__tomb_is_left(tomb))
        return false;
    result = tomb->user ? ask_users(tomb->user) : 0;
    if (result < 0)
        PyErr_WriteUnraisable(tomb->user);
    return result == 0;
}

static void close_now_open(struct fin__py_module *m, struct fin__tomb *tomb)
{
    struct fin__tomb **at = &m->tombs;
    PyObject *user = tomb->user;

    FIN__PY_MUTEX_LOCK(m);
    while (*at != tomb)
        at = &(*at)->next;
    *at = tomb->next;
    FIN__PY_MUTEX_UNLOCK(m);
    fin__tomb_open(tomb);
    Py_XDECREF(user);
}

/* So that nobody else takes a tomb out meanwhile: Python code that is called may come here
 * again, and so may another thread. In a forked child that thread does not exist. */
static bool begin_reaping(struct fin__py_module *m, long *tombs)
{
    bool busy;

    *tombs = 0;
    FIN__PY_MUTEX_LOCK(m);
    busy = m->reaper == getpid();
    if (!busy)
        m->reaper = getpid();
    for (struct fin__tomb *tomb = m->tombs; tomb; tomb = tomb->next)
        ++*tombs;
    FIN__PY_MUTEX_UNLOCK(m);
    return !busy;
}

static struct fin__tomb *first_tomb(struct fin__py_module *m)
{
    struct fin__tomb *first;

    FIN__PY_MUTEX_LOCK(m);
    first = m->tombs;
    FIN__PY_MUTEX_UNLOCK(m);
    return first;
}

static PyObject *reap(PyObject *module, PyObject *unused)
{
    struct fin__py_module *m = PyModule_GetState(module);
    struct fin__tomb *next;
    long left;

    (void) unused;
    if (!begin_reaping(m, &left))
        return PyLong_FromLong(left);
    for (struct fin__tomb *tomb = first_tomb(m); tomb; tomb = next) {
        next = tomb->next;
        if (is_left(tomb)) {
            close_now_open(m, tomb);
            left--;
        }
    }
    FIN__PY_MUTEX_LOCK(m);
    m->reaper = 0;
    FIN__PY_MUTEX_UNLOCK(m);
    return PyLong_FromLong(left);
}

int fin__py_tombs_traverse(struct fin__py_module *m, visitproc visit, void *arg)
{
    for (struct fin__tomb *tomb = m->tombs; tomb; tomb = tomb->next)
        Py_VISIT(tomb->user);
    return 0;
}

static PyObject *examine(PyObject *module, PyObject *args)
{
    struct fin__endpoint ep;
    struct fin_kernel kernel;
    struct fin_policy policy;
    PyObject *tuple;
    int fd, result;

    (void) module;
    if (!PyArg_ParseTuple(args, "iO:examine", &fd, &tuple) || fin__py_policy(tuple, &policy) < 0)
        return NULL;
    fin__kernel_begin(&kernel);
    result = fin__endpoint_examine(&kernel, fd, NULL, &ep);
    fin__kernel_end(&kernel);
    if (result < 0)
        return fin__py_os_error(result);
    return PyBool_FromLong(fin__policy_spares_connection(&policy, ep.traits & FIN__LISTENING));
}

/* As the interpreter does with what a finaliser raises. */
static PyObject *unraisable(PyObject *module, PyObject *args)
{
    PyObject *error, *where;

    (void) module;
    if (!PyArg_ParseTuple(args, "OO:unraisable", &error, &where))
        return NULL;
    if (!PyExceptionInstance_Check(error)) {
        PyErr_SetString(PyExc_TypeError, "an exception is needed");
        return NULL;
    }
    PyErr_SetObject((PyObject *) Py_TYPE(error), error);
    PyErr_WriteUnraisable(where);
    Py_RETURN_NONE;
}

/* ---- RST ---- */

static int close_now_reset(int fd, bool *at_once)
{
    struct fin_kernel kernel;
    struct fin__endpoint ep;
    struct fin__event ev;
    int result;

    fin__kernel_begin(&kernel);
    result = fin__endpoint_examine(&kernel, fd, NULL, &ep);
    fin__kernel_end(&kernel);
    if (result < 0)
        return result;
    if (!(ep.traits & FIN__STREAM))
        return -ENOTCONN;
    fin__endpoint_do(&ep, NULL, NULL, FIN__RESET, &ev);
    *at_once = !(ev.facts & FIN__IS_RESET_ON_CLOSE);
    return ev.kind == FIN__FAILED ? ev.error : 0;
}

static PyObject *reset_(PyObject *module, PyObject *args)
{
    bool at_once = false;
    int fd, result;

    (void) module;
    if (!PyArg_ParseTuple(args, "i:reset", &fd))
        return NULL;
    result = close_now_reset(fd, &at_once);
    return result < 0 ? fin__py_os_error(result) : PyBool_FromLong(at_once);
}

/* ---- closes that nobody drove ---- */

static int take_kind(const char *kind, unsigned *traits)
{
    *traits = 0;
    if (strcmp(kind, "stream") == 0)
        *traits = FIN__STREAM;
    else if (strcmp(kind, "listener") == 0)
        *traits = FIN__LISTENING;
    else if (strcmp(kind, "other") != 0) {
        PyErr_Format(PyExc_ValueError, "%s is no kind of socket", kind);
        return -1;
    }
    return 0;
}

/* None, True or False. */
static uint8_t take_answer(PyObject *held)
{
    if (Py_IsNone(held))
        return FIN_UNVERIFIABLE;
    return Py_IsTrue(held) ? FIN_YES : FIN_NO;
}

static PyObject *unseen(PyObject *module, PyObject *args)
{
    struct fin__unseen unseen = { 0 };
    struct fin_receipt receipt = FIN_RECEIPT_INIT;
    struct fin__machine machine;
    struct fin_policy policy;
    struct fin__plan plan;
    PyObject *tuple, *requested, *released = Py_None, *held = Py_None, *unreferenced = Py_None;
    const char *kind, *how = "";
    int before;

    (void) module;
    if (!PyArg_ParseTuple(args, "OspiO|OOOs:unseen", &tuple, &kind, &before, &unseen.error,
                          &requested, &released, &held, &unreferenced, &how))
        return NULL;
    if (fin__py_policy(tuple, &policy) < 0 || take_kind(kind, &unseen.traits) < 0
        || fin__py_moment(requested, &unseen.requested) < 0
        || fin__py_moment(released, &unseen.released) < 0
        || fin__py_moment(unreferenced, &unseen.unreferenced) < 0)
        return NULL;
    unseen.error = unseen.error > 0 ? -unseen.error : 0;
    unseen.before = before;
    unseen.truncated = strcmp(how, "truncated") == 0;
    unseen.late = strcmp(how, "late") == 0;
    unseen.held = take_answer(held);
    fin__plan_make(&policy, unseen.traits & FIN__LISTENING, &plan);
    fin__machine_unseen(&machine, &plan, &unseen);
    fin__machine_report(&machine, &receipt);
    return fin__py_receipt(&receipt);
}

/* ---- counters ---- */

static PyObject *handed(PyObject *module, PyObject *args)
{
    uint64_t bytes;
    int fd, result;

    (void) module;
    if (!PyArg_ParseTuple(args, "i:handed", &fd))
        return NULL;
    result = fin__handed(fd, &bytes);
    if (result == -EBADF)
        return fin__py_os_error(result);
    if (result < 0)
        Py_RETURN_NONE;
    return PyLong_FromUnsignedLongLong(bytes);
}

static PyObject *outstanding(PyObject *module, PyObject *args)
{
    int64_t bytes;
    int fd;

    (void) module;
    if (!PyArg_ParseTuple(args, "i:outstanding", &fd))
        return NULL;
    bytes = fin__outstanding(fd);
    return PyLong_FromLongLong(bytes < 0 ? 0 : bytes);
}

static PyObject *taken(PyObject *module, PyObject *args)
{
    int fd;

    (void) module;
    if (!PyArg_ParseTuple(args, "i:taken", &fd))
        return NULL;
    return PyLong_FromUnsignedLongLong(fin__taken(fd));
}

/* ---- the module's part ---- */

PyDoc_STRVAR(
    close_doc,
    "close($module, fd, policy, requested=None, kept=<none>, in_use=<nobody>,\n"
    "      half_written=False, /)\n--\n\n"
    "Close a descriptor, or what a callable returns, which gives it up; returns what\n"
    "Receipt._from_core() takes. Threads inside a call on it are woken and waited for. If\n"
    "one stays, there is a tombstone on the number, to be released by reap(). With a list\n"
    "handlers of signals run meanwhile; if one raises, the close is aborted. The list gets\n"
    "what is returned, and then the exception. in_use() is as for release(). With\n"
    "half_written a record of TLS is, which is an error, and the peer gets RST.");

PyDoc_STRVAR(
    release_doc,
    "release($module, fd, until, in_use=<nobody>, raised=<none>, /)\n--\n\n"
    "Close a copy of a socket that ends anyway. Threads inside a call on it are woken, and\n"
    "have until that moment of time.monotonic(). in_use() is asked whether somebody uses the\n"
    "number between two calls; the list gets what it raises. False: a tombstone is on it.\n"
    "None: nor was one to be had, and it is the copy that has its number yet.");

PyDoc_STRVAR(
    unseen_doc,
    "unseen($module, policy, kind, before, errno, requested, released=None, held=None,\n"
    "       unreferenced=None, how=\"\", /)\n--\n\n"
    "What Receipt._from_core() takes, of a close that nobody drove: `before`, it was over when\n"
    "it was asked for; `kind` is stream, listener or other; `errno` is what its user heard;\n"
    "`how`: truncated, by the peer's FIN without its farewell; late, by its layer's deadline.");

static PyMethodDef methods[] = {
    { "close", close_now_close, METH_VARARGS, close_doc },
    { "release", close_now_release, METH_VARARGS, release_doc },
    { "inside", inside, METH_VARARGS,
      "inside($module, fd, /)\n--\n\n"
      "How many threads are in a call on it that receives, and that sends or may do so, and\n"
      "how many bytes those may have to send." },
    { "reap", reap, METH_NOARGS, "reap($self, /)\n--\n\nOpen tombs; returns how many are left." },
    { "examine", examine, METH_VARARGS,
      "examine(fd, policy, /): OSError if it can't be closed; does the connection go on?" },
    { "reset", reset_, METH_VARARGS, "reset(fd, /): RST now; False: at the last close" },
    { "unraisable", unraisable, METH_VARARGS,
      "unraisable(error, where, /): for sys.unraisablehook" },
    { "unseen", unseen, METH_VARARGS, unseen_doc },
    { "handed", handed, METH_VARARGS, "handed(fd, /): bytes given to the kernel so far" },
    { "outstanding", outstanding, METH_VARARGS,
      "outstanding(fd, /): bytes that the kernel has and the peer has not acknowledged" },
    { "taken", taken, METH_VARARGS, "taken(fd, /): changes when the kernel is given bytes" },
    { NULL, NULL, 0, NULL },
};

static PyObject *names(const char *(*name)(int), int count)
{
    PyObject *tuple = PyTuple_New(count);

    for (int i = 0; tuple && i < count; i++) {
        PyObject *text = PyUnicode_InternFromString(name(i));

        if (!text)
            Py_CLEAR(tuple);
        else
            PyTuple_SET_ITEM(tuple, i, text);
    }
    return tuple;
}

static const char *ranked_name(int rank)
{
    return fin_outcome_name(fin__outcome_ranked(rank));
}

static int add_names(PyObject *module)
{
    const struct {
        const char *constant;
        const char *(*name)(int);
        int count;
    } all[] = {
        { "STAGES", fin_stage_name, FIN_STAGES },
        { "OUTCOMES", fin_outcome_name, FIN_OUTCOMES },
        { "OUTCOMES_FROM_BEST", ranked_name, FIN_OUTCOMES },
        { "PHASES", fin_phase_name, FIN_PHASE_LINGER + 1 },
        { "ENDS", fin_end_name, FIN_END_KERNEL + 1 },
        { "COURTESIES", fin_courtesy_name, FIN_COURTESY_FULL + 1 },
        { "SCOPES", fin_scope_name, FIN_SCOPE_DESCRIPTOR + 1 },
        { "SEARCHES", fin_search_name, FIN_SEARCH_CUT + 1 },
    };

    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        PyObject *tuple = names(all[i].name, all[i].count);
        int result = tuple ? PyModule_AddObjectRef(module, all[i].constant, tuple) : -1;

        Py_XDECREF(tuple);
        if (result < 0)
            return -1;
    }
    return 0;
}

int fin__py_add_close_now(PyObject *module)
{
    if (add_names(module) < 0 || PyModule_AddStringConstant(module, "VERSION", fin_version()) < 0)
        return -1;
    return PyModule_AddFunctions(module, methods);
}
