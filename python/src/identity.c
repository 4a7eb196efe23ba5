/* SPDX-License-Identifier: MIT */

/* Who a descriptor is, and who else holds it. */

#include "values.h"

#include "kernel/identity.h"

#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>

static PyObject *identify(PyObject *module, PyObject *args)
{
    struct stat st;
    int fd;

    (void) module;
    if (!PyArg_ParseTuple(args, "i:identify", &fd))
        return NULL;
    if (fstat(fd, &st) < 0)
        return PyErr_SetFromErrno(PyExc_OSError);
    if (!S_ISSOCK(st.st_mode) && !S_ISFIFO(st.st_mode))
        return fin__py_os_error(-EOPNOTSUPP);
    return Py_BuildValue("(KKK)", (unsigned long long) (S_ISSOCK(st.st_mode) ? fin__cookie(fd) : 0),
                         (unsigned long long) st.st_dev, (unsigned long long) st.st_ino);
}

/* What identify() returned, enough of it to compare and to search by. */
static int pyidentity_parse(PyObject *tuple, struct fin_identity *id)
{
    unsigned long long cookie, device, inode;

    if (!PyTuple_Check(tuple)) {
        PyErr_SetString(PyExc_TypeError, "identity must be what identify() returns");
        return -1;
    }
    if (!PyArg_ParseTuple(tuple, "KKK:identity", &cookie, &device, &inode))
        return -1;
    *id = (struct fin_identity) FIN_IDENTITY_INIT;
    id->cookie = cookie;
    id->device = device;
    id->inode = inode;
    id->family = cookie ? AF_UNIX : 0; /* a socket of any kind, or a pipe */
    return 0;
}

static PyObject *is_same(PyObject *module, PyObject *args)
{
    struct fin_identity id;
    PyObject *tuple;
    int fd;

    (void) module;
    if (!PyArg_ParseTuple(args, "iO:is_same", &fd, &tuple) || pyidentity_parse(tuple, &id) < 0)
        return NULL;
    return PyBool_FromLong(fin_is(fd, &id) > 0);
}

static PyObject *as_list(const struct fin_holder *found, Py_ssize_t count)
{
    PyObject *list = PyList_New(count);

    for (Py_ssize_t i = 0; list && i < count; i++) {
        PyObject *holder = fin__py_holder(&found[i]);

        if (!holder)
            Py_CLEAR(list);
        else
            PyList_SET_ITEM(list, i, holder);
    }
    return list;
}

#define HOLDERS_MAX 4096
#define UNKNOWN UINT64_MAX /* a cookie that matches any, to the kernel too */

static PyObject *pyidentity_holders(PyObject *module, PyObject *tuple)
{
    struct fin_holder *found;
    struct fin_identity id;
    PyObject *list;
    int count;

    (void) module;
    if (pyidentity_parse(tuple, &id) < 0)
        return NULL;
    found = PyMem_New(struct fin_holder, HOLDERS_MAX);
    if (!found)
        return PyErr_NoMemory();
    Py_BEGIN_ALLOW_THREADS
    count = fin_holders(&id, found, HOLDERS_MAX, NULL);
    Py_END_ALLOW_THREADS
    if (count < 0)
        list = fin__py_os_error(count);
    else
        list = as_list(found, count < HOLDERS_MAX ? count : HOLDERS_MAX);
    PyMem_Free(found);
    return list;
}

/* ---- after the release ---- */

static int take_address(const Py_buffer *address, uint8_t bytes[16])
{
    if (address->len > 16) {
        PyErr_SetString(PyExc_ValueError, "an address has at most 16 bytes");
        return -1;
    }
    memcpy(bytes, address->buf, (size_t) address->len);
    return 0;
}

/* The kernel compares the cookie, or the caller the inode: what it finds is this very socket. That
 * it finds none proves nothing, since nobody asked while it was open. */
static PyObject *pyidentity_ask(struct fin_identity *id)
{
    struct fin_state state = FIN_STATE_INIT;
    int result;

    id->confirmed = 1;
    Py_BEGIN_ALLOW_THREADS
    result = fin_inspect(NULL, id, &state);
    Py_END_ALLOW_THREADS
    if (result < 0)
        return fin__py_os_error(result);
    if (state.exists != FIN_YES || (id->cookie == UNKNOWN && state.inode != id->inode))
        Py_RETURN_NONE;
    return Py_BuildValue("(iKK)", state.tcp_state, (unsigned long long) state.inode,
                         (unsigned long long) state.send_queue);
}

static PyObject *pyidentity_find(PyObject *module, PyObject *args)
{
    struct fin_identity id;
    Py_buffer local, remote;
    PyObject *tuple, *found = NULL;
    unsigned short local_port, remote_port;
    int family, type, protocol;

    (void) module;
    if (!PyArg_ParseTuple(args, "O(iii)y*Hy*H:find", &tuple, &family, &type, &protocol, &local,
                          &local_port, &remote, &remote_port))
        return NULL;
    if (pyidentity_parse(tuple, &id) == 0 && take_address(&local, id.local) == 0
        && take_address(&remote, id.remote) == 0) {
        id.family = family;
        id.type = type;
        id.protocol = protocol;
        id.local_port = local_port;
        id.remote_port = remote_port;
        found = pyidentity_ask(&id);
    }
    PyBuffer_Release(&local);
    PyBuffer_Release(&remote);
    return found;
}

/* ---- stale registrations ---- */

#define STALE_MAX 1024

static PyObject *stale_list(const struct fin_stale *found, Py_ssize_t count)
{
    PyObject *list = PyList_New(count);

    for (Py_ssize_t i = 0; list && i < count; i++) {
        const struct fin_stale *s = &found[i];
        PyObject *entry = Py_BuildValue("(iiIKii)", s->epoll_fd, s->fd, s->events,
                                        (unsigned long long) s->inode, s->holder_pid, s->holder_fd);

        if (!entry)
            Py_CLEAR(list);
        else
            PyList_SET_ITEM(list, i, entry);
    }
    return list;
}

/* What is registered and stale; with `heals` only those that are gone after it. */
static PyObject *audit(bool heals)
{
    struct fin_stale *found = PyMem_New(struct fin_stale, STALE_MAX);
    PyObject *list;
    int count, healed = 0;

    if (!found)
        return PyErr_NoMemory();
    Py_BEGIN_ALLOW_THREADS
    count = fin_epoll_audit(0, found, STALE_MAX);
    for (int i = 0; heals && i < count && i < STALE_MAX; i++)
        if (fin_epoll_heal(&found[i]) == 0)
            found[healed++] = found[i];
    if (heals && count > 0)
        count = healed;
    Py_END_ALLOW_THREADS
    if (count < 0)
        list = fin__py_os_error(count);
    else
        list = stale_list(found, count < STALE_MAX ? count : STALE_MAX);
    PyMem_Free(found);
    return list;
}

static PyObject *stale_registrations(PyObject *module, PyObject *unused)
{
    (void) module;
    (void) unused;
    return audit(false);
}

static PyObject *heal(PyObject *module, PyObject *unused)
{
    (void) module;
    (void) unused;
    return audit(true);
}

static PyMethodDef methods[] = {
    { "identify", identify, METH_VARARGS, "identify(fd, /): (cookie, device, inode)" },
    { "is_same", is_same, METH_VARARGS, "is_same(fd, identity, /)" },
    { "holders", pyidentity_holders, METH_O, "holders(identity, /): [(pid, fd, command)]" },
    { "find", pyidentity_find, METH_VARARGS,
      "find(identity, (family, type, protocol), local, port, remote, port, /):"
      " (state, inode, bytes to send), None: not found" },
    { "stale_registrations", stale_registrations, METH_NOARGS,
      "stale_registrations(): [(epoll fd, fd, events, inode, holder pid, holder fd)]" },
    { "heal", heal, METH_NOARGS,
      "heal(): takes out what stale_registrations() lists; returns what is gone by that" },
    { NULL, NULL, 0, NULL },
};

int fin__py_add_identity(PyObject *module)
{
    return PyModule_AddFunctions(module, methods);
}
