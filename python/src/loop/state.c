/* SPDX-License-Identifier: MIT */

#include "loop/state.h"

PyObject *fin__py_fetch(const char *module, const char *name)
{
    PyObject *from = PyImport_ImportModule(module), *found;

    if (!from)
        return NULL;
    found = PyObject_GetAttrString(from, name);
    Py_DECREF(from);
    return found;
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

static int name_all(struct fin__py_asyncio *a)
{
    const struct {
        PyObject **name;
        const char *text;
    } names[] = {
        { &a->name_loop, "loop" },
        { &a->name_task, "Task" },
        { &a->name_context, "context" },
        { &a->name_callback, "callback" },
        { &a->name_delay, "delay" },
        { &a->name_when, "when" },
        { &a->name_time, "time" },
        { &a->name_run_once, "_run_once" },
        { &a->name_failed, "_callback_failed" },
        { &a->name_run, "_run" },
        { &a->name_run_watched, "_run_watched" },
        { &a->name_call_at, "call_at" },
        { &a->name_cancelled, "_cancelled" },
        { &a->name_cancel, "cancel" },
        { &a->name_check_thread, "_check_thread" },
        { &a->name_check_callback, "_check_callback" },
        { &a->name_process_events, "_process_events" },
        { &a->name_connection_made, "connection_made" },
        { &a->name_data_received, "data_received" },
        { &a->name_get_buffer, "get_buffer" },
        { &a->name_buffer_updated, "buffer_updated" },
        { &a->name_datagram_received, "datagram_received" },
        { &a->name_error_received, "error_received" },
        { &a->name_eof_received, "eof_received" },
        { &a->name_connection_lost, "connection_lost" },
        { &a->name_pause_writing, "pause_writing" },
        { &a->name_resume_writing, "resume_writing" },
        { &a->name_done, "done" },
        { &a->name_set_result, "set_result" },
        { &a->name_set_exception, "set_exception" },
        { &a->name_blocking, "_asyncio_future_blocking" },
        { &a->name_plain, "_plain" },
        { &a->name_sock_connect, "sock_connect" },
        { &a->name_resolved, "_ensure_resolved" },
        { &a->name_make_transport, "_make_socket_transport" },
        { &a->name_attach, "_attach" },
        { &a->name_detach, "_detach" },
        { &a->name_transport_failed, "_transport_failed" },
        { &a->name_accept_failed, "_accept_failed" },
        { &a->name_closed_one, "_closed_one" },
        { &a->name_source, "_source" },
    };

    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        *names[i].name = PyUnicode_InternFromString(names[i].text);
        if (!*names[i].name)
            return -1;
    }
    a->with_loop = PyTuple_Pack(1, a->name_loop);
    a->with_context = PyTuple_Pack(1, a->name_context);
    return a->with_loop && a->with_context ? 0 : -1;
}

/* socket.socket(fileno=...), by position. */
static int fetch_socket(struct fin__py_asyncio *a)
{
    PyObject *type = fin__py_fetch("socket", "socket");
    PyObject *partial = fin__py_fetch("functools", "partial");
    PyObject *args = type ? Py_BuildValue("(Oiii)", type, -1, -1, -1) : NULL;

    if (partial && args)
        a->socket_of = PyObject_CallObject(partial, args);
    Py_XDECREF(type);
    Py_XDECREF(partial);
    Py_XDECREF(args);
    return a->socket_of ? 0 : -1;
}

static int look_at_server(struct fin__py_asyncio *a)
{
    PyObject *server = fin__py_fetch("asyncio.base_events", "Server"), *attach = NULL, *code = NULL,
             *count = NULL;

    if (server)
        attach = PyObject_GetAttrString(server, "_attach");
    if (attach)
        code = PyObject_GetAttrString(attach, "__code__");
    if (code)
        count = PyObject_GetAttrString(code, "co_argcount");
    if (count && PyLong_AsLong(count) == 2)
        a->attach_takes_transport = Py_NewRef(Py_True);
    Py_XDECREF(server);
    Py_XDECREF(attach);
    Py_XDECREF(code);
    Py_XDECREF(count);
    return count ? 0 : -1;
}

int fin__py_asyncio_start(PyObject *module, struct fin__py_asyncio *a)
{
    fin__py_asyncio_free(a); /* of an attempt that failed */
    if (fetch_all(a) < 0 || name_all(a) < 0 || fetch_socket(a) < 0 || look_at_server(a) < 0)
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

void fin__py_asyncio_clear(struct fin__py_asyncio *a)
{
    Py_CLEAR(a->handle_type);
    Py_CLEAR(a->timer_type);
    Py_CLEAR(a->ready_type);
    Py_CLEAR(a->step_type);
    Py_CLEAR(a->loop_type);
    Py_CLEAR(a->socket_transport_type);
    Py_CLEAR(a->transport_type);
    Py_CLEAR(a->datagram_type);
    Py_CLEAR(a->listener_type);
    Py_CLEAR(a->connect_type);
    Py_CLEAR(a->ending_type);
    Py_CLEAR(a->waiting_type);
}

void fin__py_asyncio_free(struct fin__py_asyncio *a)
{
    PyObject **members = (PyObject **) a;

    for (size_t i = 0; i < sizeof *a / sizeof *members; i++)
        Py_CLEAR(members[i]);
}
