/* SPDX-License-Identifier: MIT */

/* The objects of asyncio that the loop uses: a part of the module's state. */

#ifndef FIN_PY_LOOP_STATE_H
#define FIN_PY_LOOP_STATE_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

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
    PyObject *try_native, *fall_back, *socket_of;
    PyObject *ssl_want_read, *ssl_want_write; /* NULL: TLS in C was not asked for yet */
    PyObject *attach_takes_transport; /* Server._attach() does, since 3.13; NULL: it doesn't */
    /* Interned. */
    PyObject *name_loop, *name_task, *name_context, *name_callback, *name_delay, *name_when;
    PyObject *name_time, *name_run_once, *name_failed, *name_run, *name_run_watched;
    PyObject *name_call_at;
    PyObject *name_cancelled, *name_cancel, *name_check_thread, *name_check_callback;
    PyObject *name_process_events;
    PyObject *name_connection_made, *name_data_received, *name_get_buffer, *name_buffer_updated;
    PyObject *name_datagram_received, *name_error_received;
    PyObject *name_eof_received, *name_connection_lost, *name_pause_writing, *name_resume_writing;
    PyObject *name_done, *name_set_result, *name_set_exception, *name_blocking;
    PyObject *name_attach, *name_detach;
    PyObject *name_plain, *name_sock_connect, *name_resolved, *name_make_transport;
    PyObject *name_transport_failed, *name_accept_failed;
    PyObject *name_closed_one, *name_source;
};

/* A module's attribute; a new reference, or NULL with an exception. */
PyObject *fin__py_fetch(const char *module, const char *name);

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
