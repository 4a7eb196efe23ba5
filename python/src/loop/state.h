/* SPDX-License-Identifier: MIT */

/* The objects of asyncio that the loop uses: a part of the module's state. */

#ifndef FIN_PY_LOOP_STATE_H
#define FIN_PY_LOOP_STATE_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

/* Interned strings: of each in a list its member in the structure that has them, and what
 * fin__py_intern() takes, where that structure is `owner`. */
#define FIN__PY_NAME_MEMBER(name, text) PyObject *name_##name;
#define FIN__PY_NAME_WANTED(name, text) { &owner->name_##name, text },

struct fin__py_name {
    PyObject **to;
    const char *text;
};

/* 0, or -1 with an exception. */
int fin__py_intern(const struct fin__py_name *names, size_t count);

#define FIN__PY_NAMES(NAME)                                                                        \
    NAME(loop, "loop")                                                                             \
    NAME(task, "Task")                                                                             \
    NAME(context, "context")                                                                       \
    NAME(callback, "callback")                                                                     \
    NAME(delay, "delay")                                                                           \
    NAME(when, "when")                                                                             \
    NAME(time, "time")                                                                             \
    NAME(run_once, "_run_once")                                                                    \
    NAME(failed, "_callback_failed")                                                               \
    NAME(run, "_run")                                                                              \
    NAME(run_watched, "_run_watched")                                                              \
    NAME(call_at, "call_at")                                                                       \
    NAME(cancelled, "_cancelled")                                                                  \
    NAME(cancel, "cancel")                                                                         \
    NAME(check_thread, "_check_thread")                                                            \
    NAME(check_callback, "_check_callback")                                                        \
    NAME(process_events, "_process_events")                                                        \
    NAME(connection_made, "connection_made")                                                       \
    NAME(data_received, "data_received")                                                           \
    NAME(get_buffer, "get_buffer")                                                                 \
    NAME(buffer_updated, "buffer_updated")                                                         \
    NAME(datagram_received, "datagram_received")                                                   \
    NAME(error_received, "error_received")                                                         \
    NAME(eof_received, "eof_received")                                                             \
    NAME(connection_lost, "connection_lost")                                                       \
    NAME(pause_writing, "pause_writing")                                                           \
    NAME(resume_writing, "resume_writing")                                                         \
    NAME(done, "done")                                                                             \
    NAME(set_result, "set_result")                                                                 \
    NAME(set_exception, "set_exception")                                                           \
    NAME(blocking, "_asyncio_future_blocking")                                                     \
    NAME(plain, "_plain")                                                                          \
    NAME(sock_connect, "sock_connect")                                                             \
    NAME(resolved, "_ensure_resolved")                                                             \
    NAME(make_transport, "_make_socket_transport")                                                 \
    NAME(attach, "_attach")                                                                        \
    NAME(detach, "_detach")                                                                        \
    NAME(transport_failed, "_transport_failed")                                                    \
    NAME(accept_failed, "_accept_failed")                                                          \
    NAME(closed_one, "_closed_one")                                                                \
    NAME(source, "_source")

/* All are objects; our types come first. */
struct fin__py_asyncio {
    PyTypeObject *handle_type, *timer_type, *ready_type, *step_type, *loop_type;
    PyTypeObject *socket_transport_type, *transport_type, *datagram_type;
    PyTypeObject *listener_type, *connect_type, *ending_type, *waiting_type;
    PyObject *future;                  /* asyncio.Future */
    PyObject *tasks;                   /* what is in asyncio.tasks, where Task may be another one */
    PyObject *invalid_state;           /* asyncio.InvalidStateError */
    PyObject *create_task;             /* BaseEventLoop's */
    PyObject *add_reader, *add_writer; /* BaseSelectorEventLoop's, ... */
    PyObject *remove_reader, *remove_writer;
    PyObject *extract_stack;
    PyObject *with_loop, *with_context; /* ("loop",), ("context",) */
    PyObject *protocol, *buffered_protocol, *transport_socket;
    PyObject *try_native, *fall_back, *socket;
    PyObject *ssl_want_read, *ssl_want_write; /* NULL: TLS in C was not asked for yet */
    FIN__PY_NAMES(FIN__PY_NAME_MEMBER)
};

/* A module's attribute; a new reference, or NULL with an exception. */
PyObject *fin__py_fetch(const char *module, const char *name);

/* Has isinstance(object, collections.abc.NAME) hold of its objects. 0, or -1 with an exception. */
int fin__py_enlist(const char *name, PyTypeObject *type);

/* 0, or -1 with an exception. */
int fin__py_add_handles(PyObject *module, struct fin__py_asyncio *a);
int fin__py_add_ready(PyObject *module, struct fin__py_asyncio *a);
int fin__py_add_loop(PyObject *module, struct fin__py_asyncio *a);
int fin__py_add_transport(PyObject *module, struct fin__py_asyncio *a);
int fin__py_add_stream(PyObject *module, struct fin__py_asyncio *a);
int fin__py_add_datagram(PyObject *module, struct fin__py_asyncio *a);
int fin__py_add_listener(PyObject *module, struct fin__py_asyncio *a);
int fin__py_add_connect(PyObject *module, struct fin__py_asyncio *a);
int fin__py_add_ending(PyObject *module, struct fin__py_asyncio *a);
int fin__py_add_waiting(PyObject *module, struct fin__py_asyncio *a);

int fin__py_asyncio_start(PyObject *module, struct fin__py_asyncio *a);
int fin__py_asyncio_traverse(struct fin__py_asyncio *a, visitproc visit, void *arg);
void fin__py_asyncio_clear(struct fin__py_asyncio *a); /* our types alone */
void fin__py_asyncio_free(struct fin__py_asyncio *a);

#endif
