/* SPDX-License-Identifier: MIT */

#ifndef FIN_PY_PROXY_H
#define FIN_PY_PROXY_H

#include "module.h"

#include "loop/selector.h"

#include <stdbool.h>

/* ProxySelector. Each slot's `data` in the table is a SelectorKey that the table owns. */
struct fin__py_selector {
    PyObject ob_base;
    struct fin__py_module *module;
    struct fin_selector *selector; /* NULL before __init__ and once it is closed */
    PyObject *wrapped;             /* the selector that polls, or NULL: the epoll set does */
    PyObject *map;                 /* what get_map() returns; NULL: closed */
    PyObject *observers;           /* a tuple, replaced as a whole; NULL: none */
    struct epoll_event *spare;     /* a buffer for events that no thread uses now */
    int spare_size;
    int edges;   /* how many of the registrations are the loop's own */
    int waiting; /* threads inside the wait: the last one out ends a closed selector */
    unsigned waits;
    bool busy; /* the last poll found events that were there at once */
    bool closed;
    PyObject *dict, *weak;
};

/* ---- selector.c ---- */

/* The number of what is or was registered: also that of a file object closed since, found by the
 * object. 0, or -1 with an exception. */
int fin__py_lookup(struct fin__py_selector *self, PyObject *fileobj, int *fd);

/* The key registered under the number (borrowed), or NULL, without an exception. One whose
 * number is another file now is dropped, and observers are called. */
PyObject *fin__py_current(struct fin__py_selector *self, int fd);

bool fin__py_is_open(const struct fin__py_selector *self);

/* In a forked child the epoll set, or what polls, is the parent's. */
bool fin__py_is_child(const struct fin__py_selector *self);

/* Calls the observers, which may do anything: keep no slot across it. */
void fin__py_tell(struct fin__py_selector *self, PyObject *event, PyObject *key);

/* What is registered, or NULL. */
struct fin__slot *fin__py_find(const struct fin__py_selector *self, int fd);

/* Takes a registration out and returns its key, which is the caller's then. */
PyObject *fin__py_take_out(struct fin__py_selector *self, int fd);

/* Removes a registration whose number is another file now, or that failed. */
void fin__py_drop(struct fin__py_selector *self, int fd);

/* A method of the selector that was given, with an argument or NULL. */
PyObject *fin__py_call_wrapped(struct fin__py_selector *self, PyObject *method, PyObject *argument);

/* The file object of a key (new reference): a selector that was given may have keys of its make. */
PyObject *fin__py_file_of(struct fin__py_selector *self, PyObject *key);

/* Who the number is. 0, or -1 with OSError. */
int fin__py_identify(struct fin__py_selector *self, int fd, struct fin__mark *mark);

/* Raises KeyError. Returns NULL. */
PyObject *fin__py_not_registered(PyObject *fileobj);

/* Raises ValueError if it is closed, ChildProcessError in a forked child. 0 or -1. */
int fin__py_usable(struct fin__py_selector *self);

/* ---- selector_life.c ---- */

PyObject *fin__py_new(PyTypeObject *type, PyObject *args, PyObject *keywords);
int fin__py_init(PyObject *object, PyObject *args, PyObject *keywords);
PyObject *fin__py_close(PyObject *object, PyObject *unused);
int fin__py_traverse(PyObject *object, visitproc visit, void *arg);
int fin__py_clear(PyObject *object);
void fin__py_dealloc(PyObject *object);

/* Frees what a closed selector is made of, unless a thread waits in it. */
void fin__py_finish(struct fin__py_selector *self);

/* ---- selector_change.c ---- */

PyObject *fin__py_register(PyObject *object, PyObject *const *args, Py_ssize_t count,
                           PyObject *keywords);
PyObject *fin__py_modify(PyObject *object, PyObject *const *args, Py_ssize_t count,
                         PyObject *keywords);
PyObject *fin__py_unregister(PyObject *object, PyObject *const *args, Py_ssize_t count,
                             PyObject *keywords);

/* ---- selector_wait.c ---- */

/* Takes over `key`, whose `events` are ready. 0, or -1 with an exception. */
typedef int (*fin__py_ready_fn)(void *arg, PyObject *key, int events);

/* Waits on the epoll set, without the interpreter's lock unless timeout_ms is 0, and has all that
 * is ready taken. 0, or -1 with an exception. The selector must be usable, and not wrap another. */
int fin__py_wait(struct fin__py_selector *self, int timeout_ms, fin__py_ready_fn take, void *arg);

PyObject *fin__py_select(struct fin__py_selector *self, PyObject *const *args, Py_ssize_t count,
                         PyObject *keywords);

/* ---- selector_edge.c ---- */

/* What the loop registers for itself, of which get_map() and observers know nothing: all events,
 * edge-triggered; the selector keeps a reference. Returns 0 or a negative errno. */
int fin__py_edge_add(struct fin__py_selector *self, int fd, PyObject *owner);

/* Takes it out, if it is that owner's. */
void fin__py_edge_remove(struct fin__py_selector *self, int fd, PyObject *owner);

/* The owner, borrowed, or NULL. */
PyObject *fin__py_edge_at(const struct fin__py_selector *self, int fd);

/* Has the kernel report again what is ready, if an event could not be handled. */
void fin__py_edge_ask_again(struct fin__py_selector *self, int fd, PyObject *owner);

/* An event of the owner's. 0, or -1 with an exception. */
int fin__py_edge_news(struct fin__py_selector *self, PyObject *owner, uint32_t events);

/* ---- selector_map.c ---- */

PyObject *fin__py_map_new(struct fin__py_selector *selector);

#endif
