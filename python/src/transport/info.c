/* SPDX-License-Identifier: MIT */

/* get_extra_info(): what costs a system call is found when it is asked for. */

#include "transport/tls.h"

#include "arguments.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stddef.h>
#include <string.h>
#include <sys/un.h>

/* ---- addresses ---- */

static PyObject *internet(const struct sockaddr_in *in)
{
    char text[INET_ADDRSTRLEN];

    (void) inet_ntop(AF_INET, &in->sin_addr, text, sizeof text);
    return Py_BuildValue("si", text, (int) ntohs(in->sin_port));
}

static PyObject *internet6(const struct sockaddr_in6 *in6)
{
    char text[INET6_ADDRSTRLEN];

    (void) inet_ntop(AF_INET6, &in6->sin6_addr, text, sizeof text);
    return Py_BuildValue("siII", text, (int) ntohs(in6->sin6_port),
                         (unsigned) ntohl(in6->sin6_flowinfo), (unsigned) in6->sin6_scope_id);
}

/* An abstract name is bytes, as the socket module has it. */
static PyObject *unix_path(const struct sockaddr_un *un, socklen_t size)
{
    size_t length = size > offsetof(struct sockaddr_un, sun_path)
        ? size - offsetof(struct sockaddr_un, sun_path)
        : 0;

    if (length > 0 && un->sun_path[0] == '\0')
        return PyBytes_FromStringAndSize(un->sun_path, (Py_ssize_t) length);
    return PyUnicode_DecodeFSDefaultAndSize(un->sun_path,
                                            (Py_ssize_t) strnlen(un->sun_path, length));
}

PyObject *fin__py_address(const struct sockaddr *address, socklen_t size)
{
    switch (address->sa_family) {
    case AF_INET:
        return internet((const struct sockaddr_in *) (const void *) address);
    case AF_INET6:
        return internet6((const struct sockaddr_in6 *) (const void *) address);
    case AF_UNIX:
        return unix_path((const struct sockaddr_un *) (const void *) address, size);
    default:
        return Py_NewRef(Py_None);
    }
}

bool fin__py_address_parse(const char *host, long port, struct fin__py_address *to)
{
    if (port < 0 || port > UINT16_MAX)
        return false;
    memset(to, 0, sizeof *to);
    to->known = true;
    if (inet_pton(AF_INET, host, &to->at.in.sin_addr) == 1) {
        to->at.in.sin_family = AF_INET;
        to->at.in.sin_port = htons((uint16_t) port);
        return true;
    }
    if (inet_pton(AF_INET6, host, &to->at.in6.sin6_addr) != 1)
        return false;
    to->at.in6.sin6_family = AF_INET6;
    to->at.in6.sin6_port = htons((uint16_t) port);
    return true;
}

socklen_t fin__py_address_size(const struct fin__py_address *address)
{
    return address->at.any.sa_family == AF_INET ? sizeof address->at.in : sizeof address->at.in6;
}

void fin__py_address_keep(struct fin__py_address *kept, const struct sockaddr *address)
{
    if (address->sa_family != AF_INET && address->sa_family != AF_INET6)
        return;
    kept->at.any.sa_family = address->sa_family;
    memcpy(&kept->at, address, fin__py_address_size(kept));
    kept->known = true;
}

/* ---- names ---- */

typedef int (*ask_fn)(int fd, struct sockaddr *restrict address, socklen_t *restrict size);

/* What the program gave, what is kept, or what the kernel says; NULL without an exception: there is
 * no such name. */
static PyObject *name(const struct fin__py_transport *t, ask_fn ask,
                      const struct fin__py_address *kept)
{
    struct sockaddr_storage address = { 0 };
    socklen_t size = sizeof address;

    if (kept->known)
        return fin__py_address(&kept->at.any, sizeof kept->at);
    if (t->fd < 0 || ask(t->fd, (struct sockaddr *) &address, &size) < 0)
        return Py_NewRef(Py_None);
    return fin__py_address((struct sockaddr *) &address, size);
}

static void info_keep(struct fin__py_transport *t, ask_fn ask, struct fin__py_address *kept,
                      const char *key)
{
    struct sockaddr_storage address = { 0 };
    socklen_t size = sizeof address;
    PyObject *object;

    if (kept->known || ask(t->fd, (struct sockaddr *) &address, &size) < 0)
        return;
    fin__py_address_keep(kept, (struct sockaddr *) &address);
    if (kept->known)
        return;
    object = fin__py_address((struct sockaddr *) &address, size);
    if (object && !t->extra)
        t->extra = PyDict_New();
    if (!object || !t->extra || PyDict_SetItemString(t->extra, key, object) < 0)
        PyErr_Clear();
    Py_XDECREF(object);
}

void fin__py_transport_note_peer(struct fin__py_transport *t)
{
    info_keep(t, getpeername, &t->theirs, "peername");
}

PyObject *fin__py_kept_name(const struct fin__py_address *kept, PyObject *extra, const char *key)
{
    PyObject *name = NULL;

    if (kept->known)
        return fin__py_address(&kept->at.any, sizeof kept->at);
    if (extra && PyDict_Check(extra))
        name = PyDict_GetItemString(extra, key);
    return Py_NewRef(name ? name : Py_None);
}

void fin__py_transport_note_names(struct fin__py_transport *t)
{
    info_keep(t, getsockname, &t->ours, "sockname");
    info_keep(t, getpeername, &t->theirs, "peername");
}

/* ---- the socket ---- */

PyObject *fin__py_transport_sock(struct fin__py_transport *t)
{
    const struct fin__py_asyncio *a;

    if (t->sock)
        return Py_NewRef(t->sock);
    if (t->fd < 0 || !t->loop)
        return Py_NewRef(Py_None);
    a = &t->loop->module->asyncio;
    fin__py_transport_hurry(t);
    t->sock = PyObject_CallFunction(a->socket, "iiii", -1, -1, -1, t->fd); /* the last: fileno */
    return Py_XNewRef(t->sock);
}

static PyObject *shown(struct fin__py_transport *t)
{
    const struct fin__py_module *m = PyType_GetModuleState(Py_TYPE(t));
    PyObject *sock;

    if (t->shown)
        return Py_NewRef(t->shown);
    sock = fin__py_transport_sock(t);
    if (!m || !sock || sock == Py_None)
        return sock;
    t->shown = PyObject_CallOneArg(m->asyncio.transport_socket, sock);
    Py_DECREF(sock);
    return Py_XNewRef(t->shown);
}

/* ---- get_extra_info() ---- */

/* asyncio asks the session at the end of the handshake, and to ask it later gives the same. */
static const char *method_for(PyObject *key)
{
    static const char *const names[][2] = {
        { "peercert", "getpeercert" },
        { "cipher", "cipher" },
        { "compression", "compression" },
    };

    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (PyUnicode_CompareWithASCIIString(key, names[i][0]) == 0)
            return names[i][1];
    return NULL;
}

/* New reference; NULL without an exception: it is nothing of the session's. */
static PyObject *of_session(const struct fin__py_tls *tls, PyObject *key)
{
    PyObject *info = tls->info, *found = PyDict_GetItemWithError(info, key);
    const char *method;

    if (found || PyErr_Occurred())
        return Py_XNewRef(found);
    method = PyUnicode_Check(key) ? method_for(key) : NULL;
    if (!method || tls->handshaking || !PyDict_GetItemString(info, "ssl_object"))
        return NULL;
    Py_INCREF(info);
    found = PyObject_CallMethod(tls->object, method, NULL);
    if (found && PyDict_SetItem(info, key, found) < 0)
        Py_CLEAR(found);
    Py_DECREF(info);
    return found;
}

/* The same of what the program gave, which may be exchanged while a key is compared. */
static PyObject *of_extra(const struct fin__py_transport *t, PyObject *key)
{
    PyObject *extra = Py_XNewRef(t->extra), *found = NULL;

    if (extra && PyDict_Check(extra))
        found = Py_XNewRef(PyDict_GetItemWithError(extra, key));
    Py_XDECREF(extra);
    return found;
}

/* New reference; NULL without an exception: nothing is known under that name. */
static PyObject *info_find(struct fin__py_transport *t, PyObject *key)
{
    PyObject *found = of_extra(t, key);

    if (found || PyErr_Occurred())
        return found;
    if (t->tls && ((found = of_session(t->tls, key)) || PyErr_Occurred()))
        return found;
    if (!PyUnicode_Check(key))
        return NULL;
    if (PyUnicode_CompareWithASCIIString(key, "socket") == 0)
        return shown(t);
    if (PyUnicode_CompareWithASCIIString(key, "sockname") == 0)
        return name(t, getsockname, &t->ours);
    if (PyUnicode_CompareWithASCIIString(key, "peername") == 0)
        return name(t, getpeername, &t->theirs);
    return NULL;
}

PyObject *fin__py_transport_info(PyObject *object, PyObject *const *args, Py_ssize_t count,
                                 PyObject *keywords)
{
    static const char *const names[] = { "name", "default", NULL };
    static const struct fin__py_call call = { "get_extra_info", names, 1 };
    PyObject *values[2], *found;

    if (fin__py_spread(&call, args, count, keywords, values) < 0)
        return NULL;
    found = info_find((struct fin__py_transport *) object, values[0]);
    if (found || PyErr_Occurred())
        return found;
    return Py_NewRef(values[1] ? values[1] : Py_None);
}
