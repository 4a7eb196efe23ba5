/* SPDX-License-Identifier: MIT */

#include "loop/state.h"

#include <stddef.h>

PyObject *fin__py_fetch(const char *module, const char *name)
{
    PyObject *from = PyImport_ImportModule(module), *found;

    if (!from)
        return NULL;
    found = PyObject_GetAttrString(from, name);
    Py_DECREF(from);
    return found;
}

int fin__py_enlist(const char *name, PyTypeObject *type)
{
    PyObject *kind = fin__py_fetch("collections.abc", name), *done = NULL;

    if (kind)
        done = PyObject_CallMethod(kind, "register", "O", type);
    Py_XDECREF(kind);
    Py_XDECREF(done);
    return done ? 0 : -1;
}

static int fetch_all(struct fin__py_asyncio *a)
{
    const struct {
        PyObject **to;
        const char *module, *name, *attribute;
    } wanted[] = {
        { &a->future, "asyncio.futures", "Future", NULL },
        { &a->tasks, "asyncio.tasks", "__dict__", NULL },
        { &a->extract_stack, "asyncio.format_helpers", "extract_stack", NULL },
        { &a->invalid_state, "asyncio.exceptions", "InvalidStateError", NULL },
        { &a->protocol, "asyncio.protocols", "Protocol", NULL },
        { &a->buffered_protocol, "asyncio.protocols", "BufferedProtocol", NULL },
        { &a->transport_socket, "asyncio.trsock", "TransportSocket", NULL },
        { &a->socket, "socket", "socket", NULL },
        { &a->try_native, "asyncio.constants", "_SendfileMode", "TRY_NATIVE" },
        { &a->fall_back, "asyncio.constants", "_SendfileMode", "FALLBACK" },
        { &a->create_task, "asyncio.base_events", "BaseEventLoop", "create_task" },
        { &a->add_reader, "asyncio.selector_events", "BaseSelectorEventLoop", "_add_reader" },
        { &a->add_writer, "asyncio.selector_events", "BaseSelectorEventLoop", "_add_writer" },
        { &a->remove_reader, "asyncio.selector_events", "BaseSelectorEventLoop", "_remove_reader" },
        { &a->remove_writer, "asyncio.selector_events", "BaseSelectorEventLoop", "_remove_writer" },
    };

    for (size_t i = 0; i < sizeof wanted / sizeof *wanted; i++) {
        PyObject *found = fin__py_fetch(wanted[i].module, wanted[i].name);

        if (found && wanted[i].attribute)
            Py_SETREF(found, PyObject_GetAttrString(found, wanted[i].attribute));
        *wanted[i].to = found;
        if (!found)
            return -1;
    }
    return 0;
}

int fin__py_intern(const struct fin__py_name *names, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (!(*names[i].to = PyUnicode_InternFromString(names[i].text)))
            return -1;
    return 0;
}

static int name_all(struct fin__py_asyncio *owner)
{
    const struct fin__py_name names[] = { FIN__PY_NAMES(FIN__PY_NAME_WANTED) };

    if (fin__py_intern(names, sizeof names / sizeof *names) < 0)
        return -1;
    owner->with_loop = PyTuple_Pack(1, owner->name_loop);
    owner->with_context = PyTuple_Pack(1, owner->name_context);
    return owner->with_loop && owner->with_context ? 0 : -1;
}

int fin__py_asyncio_start(PyObject *module, struct fin__py_asyncio *a)
{
    fin__py_asyncio_free(a); /* of an attempt that failed */
    if (fetch_all(a) < 0 || name_all(a) < 0)
        return -1;
    if (fin__py_add_transport(module, a) < 0 || fin__py_add_stream(module, a) < 0
        || fin__py_add_datagram(module, a) < 0 || fin__py_add_listener(module, a) < 0
        || fin__py_add_connect(module, a) < 0 || fin__py_add_ending(module, a) < 0
        || fin__py_add_waiting(module, a) < 0)
        return -1;
    if (fin__py_add_handles(module, a) < 0 || fin__py_add_ready(module, a) < 0)
        return -1;
    return fin__py_add_loop(module, a);
}

/* All members are objects. */
int fin__py_asyncio_traverse(struct fin__py_asyncio *a, visitproc visit, void *arg)
{
    PyObject **members = (PyObject **) a;

    for (size_t i = 0; i < sizeof *a / sizeof *members; i++)
        Py_VISIT(members[i]);
    return 0;
}

static void clear_first(struct fin__py_asyncio *a, size_t size)
{
    PyObject **members = (PyObject **) a;

    for (size_t i = 0; i < size / sizeof *members; i++)
        Py_CLEAR(members[i]);
}

void fin__py_asyncio_clear(struct fin__py_asyncio *a)
{
    clear_first(a, offsetof(struct fin__py_asyncio, future));
}

void fin__py_asyncio_free(struct fin__py_asyncio *a)
{
    clear_first(a, sizeof *a);
}
