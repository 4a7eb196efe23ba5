/* SPDX-License-Identifier: MIT */

/* The blocking close, and what a driver in Python asks of a socket beside it. */

#include "guarded.h"
#include "values.h"

#include "base/clock.h"
#include "close/endpoint.h"

#include <errno.h>
#include <limits.h>
#include <linux/sockios.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

/* ---- close ---- */

/* Between giving the number up and here no Python may run: an interrupt would lose it. */
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

/* For reap(). NULL is fine. */
static void keep(struct fin__py_module *m, struct fin__tomb *tomb)
{
    if (!tomb)
        return;
    tomb->next = m->tombs;
    m->tombs = tomb;
}

/* No kernel handle is kept: its descriptors would be those of no one, and show up wherever a program
 * counts its own. */
static PyObject *close_(PyObject *module, PyObject *args)
{
    struct fin__py_module *m = PyModule_GetState(module);
    struct fin_receipt receipt = FIN_RECEIPT_INIT;
    struct fin_policy policy;
    struct fin__tomb *tomb = NULL;
    PyObject *from, *tuple, *requested = Py_None;
    uint64_t start;
    int fd, result;

    if (!PyArg_ParseTuple(args, "OO|O:close", &from, &tuple, &requested))
        return NULL;
    if (fin__py_policy(tuple, &policy) < 0 || fin__py_moment(requested, &start) < 0
        || take_number(from, &fd) < 0)
        return NULL;
    Py_BEGIN_ALLOW_THREADS
    result = fin__close_guarded(fd, &policy, start, &receipt, &tomb);
    Py_END_ALLOW_THREADS
    keep(m, tomb);
    return result < 0 ? fin__py_os_error(result) : fin__py_receipt(&receipt);
}

static PyObject *release(PyObject *module, PyObject *args)
{
    struct fin__py_module *m = PyModule_GetState(module);
    struct fin__tomb *tomb = NULL;
    uint64_t deadline;
    PyObject *until;
    int fd, result;

    if (!PyArg_ParseTuple(args, "iO:release", &fd, &until) || fin__py_moment(until, &deadline) < 0)
        return NULL;
    Py_BEGIN_ALLOW_THREADS
    result = fin__release_guarded(fd, deadline, &tomb);
    Py_END_ALLOW_THREADS
    keep(m, tomb);
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

static PyObject *reap(PyObject *module, PyObject *unused)
{
    struct fin__py_module *m = PyModule_GetState(module);
    long left = 0;

    (void) unused;
    for (struct fin__tomb **at = &m->tombs; *at;) {
        struct fin__tomb *next = (*at)->next;

        if (fin__tomb_open(*at)) {
            at = &(*at)->next;
            left++;
        } else {
            *at = next;
        }
    }
    return PyLong_FromLong(left);
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
    result = fin__endpoint_examine(&kernel, fd, NULL, &policy, &ep);
    fin__kernel_end(&kernel);
    if (result < 0)
        return fin__py_os_error(result);
    Py_RETURN_NONE;
}

/* ---- RST ---- */

static int reset(int fd, bool *at_once)
{
    struct fin_policy policy = FIN_POLICY_INIT;
    struct fin_kernel kernel;
    struct fin__endpoint ep;
    struct fin__event ev;
    int result;

    policy.courtesy = FIN_COURTESY_ABORT;
    policy.proof = FIN_STAGE_RELEASED;
    fin__kernel_begin(&kernel);
    result = fin__endpoint_examine(&kernel, fd, NULL, &policy, &ep);
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
    result = reset(fd, &at_once);
    return result < 0 ? fin__py_os_error(result) : PyBool_FromLong(at_once);
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
    int fd, bytes = 0;

    (void) module;
    if (!PyArg_ParseTuple(args, "i:outstanding", &fd))
        return NULL;
    if (ioctl(fd, SIOCOUTQ, &bytes) < 0)
        return PyErr_SetFromErrno(PyExc_OSError);
    return PyLong_FromLong(bytes);
}

/* ---- the module's part ---- */

PyDoc_STRVAR(
    close_doc,
    "close($module, fd, policy, requested=None, /)\n--\n\n"
    "Close a descriptor, or what a callable returns, which gives it up; returns what\n"
    "Receipt._from_core() takes. Threads inside a call on it are woken and waited for. If\n"
    "one stays, there is a tombstone on the number, to be released by reap().");

PyDoc_STRVAR(
    release_doc,
    "release($module, fd, until, /)\n--\n\n"
    "Close a copy of a socket that ends anyway. Threads inside a call on it are woken, and\n"
    "have until that moment of time.monotonic(). False: a tombstone is on the number.");

static PyMethodDef methods[] = {
    { "close", close_, METH_VARARGS, close_doc },
    { "release", release, METH_VARARGS, release_doc },
    { "inside", inside, METH_VARARGS,
      "inside($module, fd, /)\n--\n\n"
      "How many threads are in a call on it that receives, and that sends or may do so, and\n"
      "how many bytes those may have to send." },
    { "reap", reap, METH_NOARGS, "reap($self, /)\n--\n\nOpen tombs; returns how many are left." },
    { "examine", examine, METH_VARARGS, "examine(fd, policy, /): OSError if it can't be closed" },
    { "reset", reset_, METH_VARARGS, "reset(fd, /): RST now; False: at the last close" },
    { "handed", handed, METH_VARARGS, "handed(fd, /): bytes given to the kernel so far" },
    { "outstanding", outstanding, METH_VARARGS, "outstanding(fd, /): bytes not yet acknowledged" },
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

static int add_names(PyObject *module)
{
    const struct {
        const char *constant;
        const char *(*name)(int);
        int count;
    } all[] = {
        { "STAGES", fin_stage_name, FIN_STAGES },
        { "OUTCOMES", fin_outcome_name, FIN_OUTCOME_ABORTED + 1 },
        { "PHASES", fin_phase_name, FIN_PHASE_LINGER + 1 },
        { "ENDS", fin_end_name, FIN_END_KERNEL + 1 },
        { "COURTESIES", fin_courtesy_name, FIN_COURTESY_FULL + 1 },
        { "SCOPES", fin_scope_name, FIN_SCOPE_DESCRIPTOR + 1 },
        { "SEARCHES", fin_search_name, FIN_SEARCH_BLIND + 1 },
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
    if (add_names(module) < 0)
        return -1;
    return PyModule_AddFunctions(module, methods);
}
