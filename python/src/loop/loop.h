/* SPDX-License-Identifier: MIT */

/* The core of finack.EventLoop. asyncio's own loop is below it in the order of classes and does
 * whatever is not here. */

#ifndef FIN_PY_LOOP_H
#define FIN_PY_LOOP_H

#include "module.h"
#include "proxy.h"
#include "values.h"

#include "base/fork.h"
#include "kernel/kernel.h"

#include <finack.h>
#include <stdbool.h>

struct fin__py_loop;
struct fin__py_ending;

/* ---- handles ---- */

#define FIN__PY_INLINE 4 /* arguments that need no tuple */
#define FIN__PY_ASYNCIO_SLOTS 10

/* An asyncio.Handle, or an asyncio.TimerHandle, so that isinstance() holds. */
struct fin__py_handle {
    PyObject ob_base;
    void *asyncio[FIN__PY_ASYNCIO_SLOTS]; /* the slots of asyncio's own class, which stay empty */
    PyObject *callback;                   /* None once it is cancelled */
    PyObject *args;                       /* a tuple, None, or NULL: they are in `inlined` */
    PyObject *context;
    struct fin__py_loop *loop;
    PyObject *trace, *text; /* of debug mode: where it was made, how it looked; NULL: None */
    PyObject *when;         /* of a timer, as the program gave it */
    double due;
    Py_ssize_t place; /* in the heap of timers, -1: not there */
    bool cancelled, is_timer;
    bool marked; /* of use while loop._scheduled is looked through */
    uint8_t count;
    uint32_t runs;                         /* how many calls of it go on */
    PyObject *inlined[1 + FIN__PY_INLINE]; /* the first has room for a bound method's object */
};

/* What a program wants called. */
struct fin__py_wish {
    PyObject *callback;
    PyObject *const *args;
    Py_ssize_t count;
    PyObject *context; /* NULL or None: a copy of the current one */
    PyObject *when;    /* NULL: no timer */
    double due;
};

/* A new reference, or NULL with an exception. */
struct fin__py_handle *fin__py_handle_new(struct fin__py_loop *loop,
                                          const struct fin__py_wish *wish);

/* As cancel() does. 0, or -1 with an exception. */
int fin__py_handle_cancel(struct fin__py_handle *handle);

/* A timer that is not wanted any more, or NULL: it is cancelled and dropped. */
void fin__py_handle_drop(struct fin__py_handle **at);

/* Calls it, and has the loop report what it raises. 0; -1: SystemExit, KeyboardInterrupt, or the
 * report failed. */
int fin__py_handle_run(struct fin__py_handle *handle);

/* Of this make? */
bool fin__py_is_handle(const struct fin__py_loop *loop, PyObject *object);

/* Of any kind of handle, by its attribute: 0 or 1, or -1 with an exception. */
int fin__py_is_cancelled(const struct fin__py_loop *loop, PyObject *object);

void fin__py_handle_free_list(struct fin__py_loop *loop);

void fin__py_context_leave(PyObject *context); /* keeps the exception that is set */

/* Is the exception that is set SystemExit or KeyboardInterrupt? These are not reported: they go
 * through to who called run_forever(). */
bool fin__py_ends_the_run(void);

/* ---- the loop ---- */

/* A step of the loop itself. 0, or -1 with an exception that ends the loop's run. */
typedef int (*fin__py_step_fn)(struct fin__py_loop *loop, PyObject *self, PyObject *arg);

struct fin__py_entry {
    fin__py_step_fn step; /* NULL: `self` is a handle, of whatever make */
    PyObject *self, *arg; /* arg may be NULL */
};

struct fin__py_ring {
    struct fin__py_entry *entries;
    size_t mask; /* one less than there is room for; 0: there is none yet */
    size_t head, tail;
};

struct fin__py_timers {
    struct fin__py_handle **heap;
    Py_ssize_t count, room;
};

#define FIN__PY_RECORDS 128 /* the last closes */

struct fin__py_loop {
    PyObject ob_base;
    struct fin__py_module *module;
    struct fin__py_ring ring;
    struct fin__py_timers timers;
    PyObject *shown_timers,
        *timers_before;              /* loop._scheduled as it was given away; NULL: it wasn't */
    struct fin__py_handle *free[64]; /* handles to be used again */
    int free_count;
    unsigned turns;
    char *buffer;      /* that all transports read into */
    PyObject *context; /* of what the loop itself does at a time */

    /* Closes by the engine. */
    struct fin_kernel kernel;
    struct fin__fork_guard guard;
    struct fin_policy close_policy;
    struct fin__py_last_policy last_policy;
    struct fin__py_ending *checks;          /* released in this turn */
    struct fin__py_ending *oldest, *newest; /* connection_lost() was called, and they go on */
    int lingering, close_cap;
    int proving; /* have an entry in the witness */
    PyObject *records[FIN__PY_RECORDS];
    uint64_t record_count;
    PyObject *on_closed, *listeners; /* NULL: none */
    PyObject *note_left, *placed;    /* keeps closes for ghosts(); who wants to know where sockets
                                      * were made, a list. NULL: none */
    unsigned connects;
    bool makes_tcp; /* sockets that it connects are TCP, for certain */
    bool closes;    /* transports that are closed end by close_policy */

    PyObject *selector, *task_factory; /* NULL, or None: there is none */
    double resolution;                 /* of its clock */
    int wake;                          /* an eventfd, -1: none */
    bool woken;                        /* written, and not read yet */
    bool stopping, debug, closed;
    bool turning;     /* in a turn of its own */
    bool own_call_at; /* the program's, by which call_later() has to go */
};

/* Takes over both references, also on failure. 0, or -1 with MemoryError. */
int fin__py_ring_push(struct fin__py_loop *loop, fin__py_step_fn step, PyObject *self,
                      PyObject *arg);

/* The same for the owner of an edge-triggered entry, whose events the step looks at: if it can't
 * be queued, the kernel reports them again. */
int fin__py_ring_push_look(struct fin__py_loop *loop, fin__py_step_fn step, PyObject *owner,
                           int fd);

static inline size_t fin__py_ring_count(const struct fin__py_ring *ring)
{
    return ring->tail - ring->head;
}

/* The first one, which is the caller's then. There must be one. */
struct fin__py_entry fin__py_ring_take(struct fin__py_ring *ring);
void fin__py_ring_clear(struct fin__py_ring *ring);

/* What loop._ready is to Python: a queue of handles. */
PyObject *fin__py_ready_new(struct fin__py_loop *loop);

/* 0, or -1 with MemoryError. Keeps a reference. */
int fin__py_timers_add(struct fin__py_loop *loop, struct fin__py_handle *handle);

/* Takes it out of the heap, where it must be. The reference is the caller's then. */
void fin__py_timers_remove(struct fin__py_loop *loop, struct fin__py_handle *handle);
void fin__py_timers_clear(struct fin__py_loop *loop);

/* Queues those that are due. 0 or -1. */
int fin__py_timers_expire(struct fin__py_loop *loop);

/* What loop._scheduled is to Python. */
PyObject *fin__py_scheduled(PyObject *object, void *unused);

/* Takes out the timers that somebody has taken out of loop._scheduled. */
void fin__py_scheduled_settle(struct fin__py_loop *loop);

/* The result of self.time(), which a subclass may override. 0 or -1. */
int fin__py_loop_time(struct fin__py_loop *loop, double *now);

/* Of loop->listeners and loop->placed: is there anybody? */
static inline bool fin__py_is_filled(const PyObject *list)
{
    return list && PyList_Check(list) && PyList_GET_SIZE(list) > 0;
}

/* `room` bytes to read into; NULL with MemoryError. */
char *fin__py_loop_buffer(struct fin__py_loop *loop, size_t room);

/* RuntimeError and -1 if it is closed. */
int fin__py_loop_usable(const struct fin__py_loop *loop);

/* The selector if it is a ProxySelector on its own epoll set, else NULL. Borrowed: Python code
 * may give the loop another one, so hold a reference while any runs. */
struct fin__py_selector *fin__py_loop_selector(const struct fin__py_loop *loop);

/* What has the number there by fin__py_edge_add(), borrowed; or NULL. */
PyObject *fin__py_loop_edge_at(const struct fin__py_loop *loop, int fd);

/* ---- methods, by file ---- */

#define FIN__PY_METHOD(name) PyObject *name(PyObject *, PyObject *const *, Py_ssize_t, PyObject *)

/* calls.c */
FIN__PY_METHOD(fin__py_call_soon);
FIN__PY_METHOD(fin__py_call_soon_threadsafe);
FIN__PY_METHOD(fin__py_call_later);
FIN__PY_METHOD(fin__py_call_at);
PyObject *fin__py_add_callback(PyObject *object, PyObject *handle);

/* make.c */
PyObject *fin__py_create_future(PyObject *object, PyObject *unused);
FIN__PY_METHOD(fin__py_create_task);

/* wake.c */
PyObject *fin__py_open_wake(PyObject *object, PyObject *unused);
PyObject *fin__py_close_wake(PyObject *object, PyObject *unused);
PyObject *fin__py_drain_wake(PyObject *object, PyObject *unused);
PyObject *fin__py_write_to_self(PyObject *object, PyObject *unused);
void fin__py_wake(struct fin__py_loop *loop);

/* watch.c */
FIN__PY_METHOD(fin__py_add_reader);
FIN__PY_METHOD(fin__py_add_writer);
PyObject *fin__py_remove_reader(PyObject *object, PyObject *fileobj);
PyObject *fin__py_remove_writer(PyObject *object, PyObject *fileobj);

/* turn.c */
PyObject *fin__py_run_once(PyObject *object, PyObject *unused);
PyObject *fin__py_run(PyObject *object, PyObject *unused);

#endif
