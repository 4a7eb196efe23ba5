/* SPDX-License-Identifier: MIT */

/*
 * One close that a driver in Python takes from step to step. What needs no Python is done here. The
 * steps that do need it, and the answers to pass to pyclose_tell():
 *
 *     wait      for `left` seconds or until poll() of the set lists it: ready, deadline
 *     flush     send what is buffered above the kernel: done; again, broken, failed (bytes = left)
 *     notify    send the farewell: done, again, broken, failed; skip; mute, nor is the peer's heard
 *     read      read through the layer: bytes (discarded), again, failed; answer, end, broken: from
 *               here on the stream is read as it is, which shows how it ended
 *     detach    other users of the socket must release it: done
 *     unwatch   the last chance for that, and to leave a poller that is not ours: done
 *     finish    the close is complete: receipt()
 *
 * and abort, at any time.
 */

#include "close.h"
#include "locks.h"

#include "base/clock.h"
#include "base/descriptor.h"
#include "close/policy.h"
#include "close/proof.h"
#include "close/run.h"
#include "handle/dead.h"
#include "kernel/identity.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>

struct fin__py_close {
    PyObject ob_base;
    struct fin__py_close_set *set;
    PyObject *owner; /* what poll() lists; NULL once the close is complete */
    struct fin__plan plan;
    struct fin__endpoint ep;
    struct fin__machine machine;
    struct fin__proof proof;
    enum fin__action action;
    uint64_t watched; /* its identifier in the set, 0: it isn't there */
    bool running;
    bool sole;       /* no other close asks the set's witness */
    bool proving;    /* has an entry in the witness */
    bool counted;    /* among those of the set that have */
    bool detached;   /* nothing but us uses the socket */
    bool ready;      /* an edge came */
    bool answered;   /* the layer has seen the answer already */
    bool over;       /* nothing more is read through the layer */
    bool lent;       /* the number is its owner's, who closes it */
    bool shut;       /* by wake() */
    bool kept;       /* its owner could not let its number go */
    uint64_t unsent; /* what its owner has buffered; UINT64_MAX: not known */
    bool tombstone;
};

/* ---- steps that need no Python ---- */

static void pyclose_unwatch(struct fin__py_close *c)
{
    if (c->watched)
        fin__py_close_set_unwatch(c->set, c->watched, c->ep.fd);
    c->watched = 0;
}

/* pyclose_tell() has, with the interpreter's lock. */
static void is_unwatched(void *self)
{
    (void) self;
}

static void prepare_proof(void *self, struct fin__event *ev)
{
    struct fin__py_close *c = self;

    fin__proof_prepare(&c->proof, &c->set->kernel, c->ep.fd, c->sole, ev);
    c->proving = c->proving || ev->kind == FIN__DONE;
}

static void count_proof(struct fin__py_close *c)
{
    if (c->proving && !c->counted)
        c->set->proving++;
    c->counted = c->proving;
}

/* While another thread uses the witness, entries given up may stay in it. */
static void end_proof(struct fin__py_close *c)
{
    if (!c->counted)
        return;
    c->proving = c->counted = false;
    c->set->proving--;
    if (c->machine.held == FIN_YES && !c->set->busy)
        fin__witness_give_up(&c->set->kernel.witness);
}

static void pyclose_check(void *self, struct fin__event *ev)
{
    struct fin__py_close *c = self;

    fin__proof_check(&c->proof, &c->set->kernel, ev);
}

static void pyclose_inspect(void *self, struct fin__event *ev)
{
    struct fin__py_close *c = self;

    fin__proof_inspect(&c->set->kernel, &c->proof.id, ev);
}

static int pyclose_release(void *self, int fd, unsigned *facts)
{
    const struct fin__py_close *c = self;
    int result = fin__release(fd);

    *facts |= (c->shut ? FIN__IS_SHUT : 0) | (c->kept ? FIN__IS_KEPT : 0);
    return c->kept ? -EMFILE : result;
}

static const struct fin__driver driver = {
    .unwatch = is_unwatched,
    .prepare_proof = prepare_proof,
    .check = pyclose_check,
    .inspect = pyclose_inspect,
    .release = pyclose_release,
};

static void prove_nothing(void *self, struct fin__event *ev)
{
    (void) self;
    ev->kind = FIN__FAILED;
}

/* Its owner has done that by now, and the number may be another file. */
static int leave_open(void *self, int fd, unsigned *facts)
{
    const struct fin__py_close *c = self;

    (void) fd;
    *facts |= c->shut ? FIN__IS_SHUT : 0;
    return 0;
}

static const struct fin__driver lent_driver = {
    .unwatch = is_unwatched,
    .prepare_proof = prove_nothing,
    .check = pyclose_check,
    .inspect = pyclose_inspect,
    .release = leave_open,
};

static void carry_out(struct fin__py_close *c, enum fin__action action, struct fin__event *ev)
{
    if (action == FIN__WAIT) {
        *ev = (struct fin__event) { .kind = FIN__READY };
        c->ready = false;
    } else if (action == FIN__DRAIN && c->answered) {
        *ev = (struct fin__event) { .kind = FIN__ANSWER };
        c->answered = false;
        c->over = true;
    } else {
        fin__run(c->lent ? &lent_driver : &driver, c, &c->set->kernel, &c->ep, &c->machine, action,
                 ev);
        if (action == FIN__RESET || (action == FIN__TALLY && c->plan.descriptor_only))
            ev->unsent = c->unsent;
    }
}

/* ---- steps that do ---- */

static bool layered(const struct fin__py_close *c)
{
    return c->ep.traits & FIN__LAYERED;
}

/* What the driver has to do next, NULL: nothing. */
static const char *next_step(const struct fin__py_close *c)
{
    switch (c->action) {
    case FIN__WAIT:
        return c->ready && c->machine.interest ? NULL : "wait";
    case FIN__FLUSH:
        return "flush";
    case FIN__NOTIFY:
        return "notify";
    case FIN__SHUT:
    case FIN__QUENCH:
        return layered(c) && !c->detached ? "detach" : NULL;
    case FIN__DRAIN:
        return layered(c) && !c->over && !c->answered ? "read" : NULL;
    case FIN__UNWATCH:
        return "unwatch";
    case FIN__FINISH:
        return "finish";
    default:
        return NULL;
    }
}

static void pyclose_step(struct fin__py_close *c, struct fin__event *ev)
{
    ev->now = fin__now();
    c->action = fin__machine_step(&c->machine, ev);
}

/* This loop ends: the machine bounds what a peer can make it repeat, by bytes and by time. */
static void go_on(struct fin__py_close *c)
{
    struct fin__event ev;

    while (!next_step(c)) {
        carry_out(c, c->action, &ev);
        pyclose_step(c, &ev);
    }
}

/* The result of reading through the layer. Its end is not that of the stream: read on there. */
static void take_read(struct fin__py_close *c, struct fin__event *ev)
{
    uint64_t left = fin__drain_left(&c->machine);

    if (ev->kind == FIN__BYTES && ev->bytes > left)
        ev->bytes = left;
    if (ev->kind == FIN__ANSWER || ev->kind == FIN__END || ev->kind == FIN__BROKEN)
        c->over = true;
    if (ev->kind == FIN__END)
        carry_out(c, FIN__DRAIN, ev);
}

static void take_detached(struct fin__py_close *c, struct fin__event *ev)
{
    c->detached = true;
    c->over |= (c->ep.traits & FIN__ANSWER_UNKNOWN) != 0;
    carry_out(c, c->action, ev);
}

/* The driver has done what it was asked to do, or something happened while it waited. */
static void pyclose_take(struct fin__py_close *c, struct fin__event *ev)
{
    if (ev->kind == FIN__DEADLINE && fin__now() < c->machine.deadline)
        return;
    if (ev->kind == FIN__READY)
        c->ready = false;
    if (ev->kind == FIN__SKIP)
        c->over = true;
    if (ev->kind == FIN__DEADLINE) /* its owner has sent by itself meanwhile */
        c->unsent = ev->bytes;
    if (ev->kind != FIN__ABORT) {
        if (c->action == FIN__FLUSH)
            c->unsent = ev->bytes;
        if (c->action == FIN__DRAIN)
            take_read(c, ev);
        if (c->action == FIN__SHUT || c->action == FIN__QUENCH || c->action == FIN__UNWATCH)
            take_detached(c, ev);
    }
    pyclose_step(c, ev);
}

static const struct {
    const char *name;
    enum fin__event_kind kind;
    unsigned actions, facts; /* which it may answer */
} told[] = {
#define BIT(action) (1u << FIN__##action)
    { "done", FIN__DONE, BIT(FLUSH) | BIT(NOTIFY) | BIT(SHUT) | BIT(QUENCH) | BIT(UNWATCH), 0 },
    { "again", FIN__AGAIN, BIT(FLUSH) | BIT(NOTIFY) | BIT(DRAIN), 0 },
    { "skip", FIN__SKIP, BIT(NOTIFY), 0 },
    { "mute", FIN__SKIP, BIT(NOTIFY), FIN__IS_MUTE },
    { "bytes", FIN__BYTES, BIT(DRAIN), 0 },
    { "broken", FIN__BROKEN, BIT(FLUSH) | BIT(NOTIFY) | BIT(DRAIN), 0 },
    { "failed", FIN__FAILED, BIT(FLUSH) | BIT(NOTIFY) | BIT(DRAIN), 0 },
    { "answer", FIN__ANSWER, BIT(DRAIN), 0 },
    { "end", FIN__END, BIT(DRAIN), 0 },
    { "ready", FIN__READY, BIT(WAIT), 0 },
    { "deadline", FIN__DEADLINE, BIT(WAIT), 0 },
    { "abort", FIN__ABORT, ~BIT(FINISH), 0 },
#undef BIT
};

static int find_event(const struct fin__py_close *c, const char *name, struct fin__event *ev)
{
    for (size_t i = 0; i < sizeof told / sizeof *told; i++) {
        if (strcmp(name, told[i].name) != 0 || !(told[i].actions & 1u << c->action))
            continue;
        ev->kind = told[i].kind;
        ev->facts = told[i].facts;
        return 0;
    }
    PyErr_Format(PyExc_ValueError, "%s is no answer to %s", name,
                 next_step(c) ? next_step(c) : "run()");
    return -1;
}

/* ---- the methods ---- */

/* Its state is another thread's, which runs without the interpreter's lock. */
static int at_rest(const struct fin__py_close *c)
{
    if (!c->running)
        return 0;
    PyErr_SetString(PyExc_RuntimeError, "another thread is driving this close");
    return -1;
}

static int usable(const struct fin__py_close *c)
{
    return at_rest(c) < 0 ? -1 : fin__py_close_set_usable(c->set);
}

/* From here to end_run() no other thread gets at the close or its set. */
static void begin_run(struct fin__py_close *c)
{
    c->sole = c->set->proving == 0;
    c->running = c->set->busy = true;
}

/* Returns the name of what is to be done. Dropping the owner may run anything. */
static PyObject *end_run(struct fin__py_close *c)
{
    PyObject *name = PyUnicode_FromString(next_step(c));

    c->running = c->set->busy = false;
    count_proof(c);
    if (c->action == FIN__FINISH) {
        pyclose_unwatch(c);
        end_proof(c);
        Py_CLEAR(c->owner);
    }
    return name;
}

static PyObject *pyclose_run(PyObject *object, PyObject *unused)
{
    struct fin__py_close *c = (struct fin__py_close *) object;

    (void) unused;
    if (usable(c) < 0)
        return NULL;
    begin_run(c);
    if (c->action != FIN__FINISH) {
        Py_BEGIN_ALLOW_THREADS
        go_on(c);
        Py_END_ALLOW_THREADS
    }
    return end_run(c);
}

static PyObject *pyclose_tell(PyObject *object, PyObject *args, PyObject *keywords)
{
    static char *names[] = { "event", "bytes", "error", "progress", "write", NULL };
    struct fin__py_close *c = (struct fin__py_close *) object;
    struct fin__event ev = { 0 };
    unsigned long long bytes = 0;
    int progress = 0, write = 0;
    const char *name;

    if (!PyArg_ParseTupleAndKeywords(args, keywords, "s|Kipp:tell", names, &name, &bytes, &ev.error,
                                     &progress, &write))
        return NULL;
    if (usable(c) < 0 || find_event(c, name, &ev) < 0)
        return NULL;
    ev.bytes = bytes;
    ev.error = -ev.error;
    ev.facts |= progress ? FIN__IS_WRITABLE : 0;
    ev.interest = write ? FIN__WRITE : FIN__READ;
    if (c->action == FIN__UNWATCH && ev.kind == FIN__DONE)
        pyclose_unwatch(c);
    begin_run(c);
    Py_BEGIN_ALLOW_THREADS
    pyclose_take(c, &ev);
    go_on(c);
    Py_END_ALLOW_THREADS
    return end_run(c);
}

PyObject *fin__py_close_ready(struct fin__py_close *c, uint32_t events)
{
    c->ready = true;
    if (events & EPOLLERR)
        fin__endpoint_discard_errors(&c->ep);
    return Py_XNewRef(c->owner);
}

int fin__py_close_fd(const struct fin__py_close *c)
{
    return c->ep.fd;
}

static PyObject *receipt(PyObject *object, PyObject *unused)
{
    struct fin__py_close *c = (struct fin__py_close *) object;
    struct fin_receipt receipt = FIN_RECEIPT_INIT;
    enum fin__kind kind = (enum fin__kind) c->ep.kind;
    uint64_t inode, until;

    (void) unused;
    if (at_rest(c) < 0)
        return NULL;
    fin__machine_report(&c->machine, &receipt);
    /* Its owner has ended it meanwhile, and how can't be known any more. */
    if (c->lent && receipt.error == -EBADF)
        receipt.error = -ENOTCONN;
    receipt.tombstone = c->tombstone;
    inode = c->plan.find_holders && c->machine.held == FIN_YES ? c->proof.inode : 0;
    until = fin__proof_time(&c->machine);
    Py_BEGIN_ALLOW_THREADS
    fin__receipt_holders(&receipt, inode, kind, until);
    Py_END_ALLOW_THREADS
    return fin__py_receipt(&receipt);
}

/* Why the connection is over, if it is; 0 if it is not. Who used the socket has read the error. */
static PyObject *error(PyObject *object, PyObject *unused)
{
    const struct fin__py_close *c = (struct fin__py_close *) object;
    int error = 0;
    socklen_t size = sizeof error;
    struct pollfd entry = { .fd = c->ep.fd };

    (void) unused;
    if (at_rest(c) < 0)
        return NULL;
    (void) getsockopt(c->ep.fd, SOL_SOCKET, SO_ERROR, &error, &size);
    if (error == 0 && poll(&entry, 1, 0) > 0 && entry.revents & POLLHUP)
        error = ECONNRESET;
    return PyLong_FromLong(error);
}

static PyObject *note_answer(PyObject *object, PyObject *unused)
{
    struct fin__py_close *c = (struct fin__py_close *) object;

    (void) unused;
    if (at_rest(c) < 0)
        return NULL;
    c->answered = true;
    Py_RETURN_NONE;
}

static PyObject *note_kept(PyObject *object, PyObject *unused)
{
    struct fin__py_close *c = (struct fin__py_close *) object;

    (void) unused;
    if (at_rest(c) < 0)
        return NULL;
    c->kept = true;
    Py_RETURN_NONE;
}

/* Wakes the threads that wait for the socket; done last, since its input is lost then. */
static PyObject *pyclose_wake(PyObject *object, PyObject *unused)
{
    struct fin__py_close *c = (struct fin__py_close *) object;

    (void) unused;
    if (at_rest(c) < 0)
        return NULL;
    if (c->ep.fd >= 0)
        c->shut |= shutdown(c->ep.fd, SHUT_RDWR) == 0;
    Py_RETURN_NONE;
}

/* A number that its owner does not release: from now on it is a dead descriptor. */
static PyObject *entomb(PyObject *object, PyObject *args)
{
    struct fin__py_close *c = (struct fin__py_close *) object;
    int fd, result;

    if (!PyArg_ParseTuple(args, "i:entomb", &fd) || at_rest(c) < 0)
        return NULL;
    result = fin__dead_take();
    if (result < 0)
        return fin__py_os_error(result);
    result = fin__entomb(result, fd);
    fin__dead_drop();
    if (result < 0)
        return fin__py_os_error(result);
    c->tombstone = true;
    Py_RETURN_NONE;
}

/* By the one door: a number that the driver took from its owner. */
static PyObject *release_number(PyObject *object, PyObject *args)
{
    int fd, result;

    (void) object;
    if (!PyArg_ParseTuple(args, "i:release", &fd))
        return NULL;
    result = fin__release(fd);
    if (result < 0 && result != -EINTR)
        return fin__py_os_error(result);
    Py_RETURN_NONE;
}

/* The owner of a lent number has closed it: it must not be touched any more. */
static PyObject *lose(PyObject *object, PyObject *unused)
{
    struct fin__py_close *c = (struct fin__py_close *) object;

    (void) unused;
    if (at_rest(c) < 0)
        return NULL;
    if (c->lent)
        c->ep.fd = -1;
    Py_RETURN_NONE;
}

static PyObject *get_left(PyObject *object, void *unused)
{
    const struct fin__py_close *c = (struct fin__py_close *) object;
    uint64_t now = fin__now(), end;

    (void) unused;
    if (at_rest(c) < 0)
        return NULL;
    end = c->machine.deadline;
    return PyFloat_FromDouble(end > now ? (double) (end - now) / 1e9 : 0);
}

static PyObject *get_fileno(PyObject *object, PyObject *unused)
{
    const struct fin__py_close *c = (struct fin__py_close *) object;

    (void) unused;
    return at_rest(c) < 0 ? NULL : PyLong_FromLong(c->ep.fd);
}

static PyObject *get_stream(PyObject *object, void *unused)
{
    (void) unused; /* it does not change */
    return PyBool_FromLong(((struct fin__py_close *) object)->ep.traits & FIN__STREAM);
}

static PyObject *get_spares(PyObject *object, void *unused)
{
    (void) unused; /* it does not change */
    return PyBool_FromLong(((struct fin__py_close *) object)->plan.descriptor_only);
}

/* ---- life ---- */

static int pyclose_watch(struct fin__py_close *c)
{
    int64_t id = fin__py_close_set_watch(c->set, c, c->ep.fd);

    if (id < 0)
        return (int) id;
    c->watched = (uint64_t) id;
    return 0;
}

static int pyclose_begin(struct fin__py_close *c, int fd, const struct fin_policy *policy,
                         bool over, bool blind, bool news, uint64_t requested)
{
    struct fin_kernel *kernel = &c->set->kernel;
    struct fin__endpoint ep = { .fd = -1 };
    int result = fin__policy_check(policy);

    if (result == 0)
        result = fin__endpoint_examine(kernel, fd, NULL, &ep);
    if (result == 0 && !c->lent && policy->proof > FIN_STAGE_RELEASED)
        result = fin__py_close_set_need_proof(c->set);
    if (result < 0)
        return result;
    if (over && !(ep.traits & (FIN__LISTENING | FIN__CONNECTING)))
        ep.traits |= FIN__LAYERED;
    if (blind)
        ep.traits |= FIN__ANSWER_UNKNOWN;
    c->ep = ep;
    result = news ? pyclose_watch(c) : 0;
    if (result < 0) {
        c->ep.fd = -1; /* the caller's still */
        return result;
    }
    c->proof.id.cookie = fin__cookie(fd);
    fin__plan_make(policy, ep.traits & FIN__LISTENING, &c->plan);
    if (c->plan.proof >= FIN_STAGE_FINISHED && ep.traits & FIN__SOCKET)
        fin__proof_confirm(kernel, fd, &c->proof.id);
    fin__endpoint_take_over(&c->ep, &c->plan);
    c->action = fin__machine_start(&c->machine, &c->plan, c->ep.traits, c->ep.facts, requested);
    return 0;
}

/* A number, None (not to be known), or NULL (nothing). */
static int take_unsent(PyObject *value, uint64_t *bytes)
{
    unsigned long long number;

    if (!value || Py_IsNone(value)) {
        *bytes = value ? UINT64_MAX : 0;
        return 0;
    }
    number = PyLong_AsUnsignedLongLong(value);
    *bytes = number;
    return PyErr_Occurred() ? -1 : 0;
}

static PyObject *new (PyTypeObject *type, PyObject *args, PyObject *keywords)
{
    struct fin__py_module *m = PyType_GetModuleState(type);
    PyObject *set, *tuple, *owner, *requested, *unsent = NULL;
    struct fin_policy policy;
    struct fin__py_close *c;
    int fd, over, blind, lent = 0, result;
    uint64_t start, left = 0;

    (void) keywords;
    if (!PyArg_ParseTuple(args, "O!iOOppO|pO:Close", m->close_set_type, &set, &fd, &tuple, &owner,
                          &over, &blind, &requested, &lent, &unsent)
        || take_unsent(unsent, &left) < 0)
        return NULL;
    if (fin__py_policy_again(&((struct fin__py_close_set *) set)->last, tuple, &policy) < 0
        || fin__py_moment(requested, &start) < 0)
        return NULL;
    c = (struct fin__py_close *) type->tp_alloc(type, 0);
    if (!c)
        return NULL;
    c->ep.fd = -1;
    if (fin__py_close_set_usable((struct fin__py_close_set *) set) < 0) {
        Py_DECREF(c);
        return NULL;
    }
    c->set = (struct fin__py_close_set *) Py_NewRef(set);
    c->lent = lent;
    c->unsent = left;
    result = pyclose_begin(c, fd, &policy, over, blind, owner != Py_None && !lent,
                           start ? start : fin__now());
    if (result < 0) {
        Py_DECREF(c);
        return fin__py_os_error(result);
    }
    c->owner = Py_NewRef(owner);
    return (PyObject *) c;
}

static int pyclose_traverse(PyObject *object, visitproc visit, void *arg)
{
    const struct fin__py_close *c = (struct fin__py_close *) object;

    Py_VISIT(Py_TYPE(object));
    Py_VISIT(c->owner);
    return 0;
}

static int pyclose_clear(PyObject *object)
{
    struct fin__py_close *c = (struct fin__py_close *) object;

    Py_CLEAR(c->owner);
    return 0;
}

/* Of a close that was dropped half-way. Until it is out of the set, poll() may find it there. */
static void let_go(struct fin__py_close *c)
{
    Py_BEGIN_CRITICAL_SECTION(c->set);
    pyclose_unwatch(c);
    if (!c->lent)
        fin__drop(&c->ep.fd);
    end_proof(c);
    Py_END_CRITICAL_SECTION();
}

static void pyclose_dealloc(PyObject *object)
{
    struct fin__py_close *c = (struct fin__py_close *) object;

    PyObject_GC_UnTrack(object);
    if (c->set)
        let_go(c);
    (void) pyclose_clear(object);
    Py_XDECREF(c->set);
    fin__py_free(object);
}

/* ---- one thread at a time ---- */

#ifdef Py_GIL_DISABLED
static PyObject *set_of(PyObject *object)
{
    return (PyObject *) ((struct fin__py_close *) object)->set;
}
#endif

FIN__PY_LOCK_WITH(pyclose_run, set_of(self))
FIN__PY_LOCK_WITH(receipt, set_of(self))
FIN__PY_LOCK_WITH(error, set_of(self))
FIN__PY_LOCK_WITH(note_answer, set_of(self))
FIN__PY_LOCK_WITH(note_kept, set_of(self))
FIN__PY_LOCK_WITH(pyclose_wake, set_of(self))
FIN__PY_LOCK_WITH(entomb, set_of(self))
FIN__PY_LOCK_WITH(lose, set_of(self))
FIN__PY_LOCK_WITH(get_fileno, set_of(self))
FIN__PY_LOCK_KEYWORDS_WITH(pyclose_tell, set_of(self))
FIN__PY_LOCK_GETTER_WITH(get_left, set_of(self))
FIN__PY_LOCK_NEW(new)

PyDoc_STRVAR(
    type_doc,
    "Close(set, fd, policy, owner, layered, blind, requested, lent=False, unsent=0, /)\n--\n\n"
    "One close that a driver in Python takes from step to step. On success the descriptor\n"
    "is the close's. owner: what poll() lists when there is news, None: nobody wants to know.\n"
    "layered: something above the kernel uses the socket too; blind: its farewell's answer\n"
    "can't be observed once it has let go. lent: the descriptor stays its owner's, who closes\n"
    "it at \"unwatch\"; there is no news of it and no proof, and nothing else is opened. unsent:\n"
    "what its owner has buffered; None: not to be known.");
PyDoc_STRVAR(run_doc, "run($self, /)\n--\n\nDo what needs no Python; the name of what does.");
PyDoc_STRVAR(tell_doc,
             "tell($self, /, event, bytes=0, error=0, progress=False, write=False)\n--\n\n"
             "What came of it, and go on as run().");
PyDoc_STRVAR(receipt_doc, "receipt($self, /)\n--\n\nWhat Receipt._from_core() takes.");

static PyMethodDef methods[] = {
    { "run", FIN__PY_LOCKED(pyclose_run), METH_NOARGS, run_doc },
    { "tell", FIN__PY_VECTOR(FIN__PY_LOCKED(pyclose_tell)), METH_VARARGS | METH_KEYWORDS,
      tell_doc },
    { "receipt", FIN__PY_LOCKED(receipt), METH_NOARGS, receipt_doc },
    { "note_answer", FIN__PY_LOCKED(note_answer), METH_NOARGS,
      "The farewell has been answered already." },
    { "note_kept", FIN__PY_LOCKED(note_kept), METH_NOARGS, "Its owner's number is open yet." },
    { "error", FIN__PY_LOCKED(error), METH_NOARGS,
      "The errno of a connection that has broken, else 0." },
    { "wake", FIN__PY_LOCKED(pyclose_wake), METH_NOARGS,
      "Wake whoever waits for the socket, by shutdown()." },
    { "entomb", FIN__PY_LOCKED(entomb), METH_VARARGS,
      "Put a dead descriptor on a number that is not let go." },
    { "release", release_number, METH_VARARGS, "Release a number that was taken from its owner." },
    { "lose", FIN__PY_LOCKED(lose), METH_NOARGS,
      "The owner has closed the number that it had lent." },
    { "fileno", FIN__PY_LOCKED(get_fileno), METH_NOARGS,
      "The descriptor, -1 once it is released." },
    { NULL, NULL, 0, NULL },
};

static PyGetSetDef getters[] = {
    { "left", FIN__PY_LOCKED(get_left), NULL, "Seconds to the deadline of the wait in hand.",
      NULL },
    { "stream", get_stream, NULL, "Is it a connection that ends in FIN?", NULL },
    { "spares", get_spares, NULL, "Does the connection go on, for other holders?", NULL },
    { NULL, NULL, NULL, NULL, NULL },
};

static PyType_Slot slots[] = {
    { Py_tp_doc, (void *) type_doc },     { Py_tp_new, FIN__PY_LOCKED(new) },
    { Py_tp_methods, methods },           { Py_tp_getset, getters },
    { Py_tp_traverse, pyclose_traverse }, { Py_tp_clear, pyclose_clear },
    { Py_tp_dealloc, pyclose_dealloc },   { 0, NULL },
};

static PyType_Spec spec = {
    .name = "finack._core.Close",
    .basicsize = sizeof(struct fin__py_close),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE | Py_TPFLAGS_HAVE_GC,
    .slots = slots,
};

int fin__py_add_close(PyObject *module)
{
    PyObject *type = PyType_FromModuleAndSpec(module, &spec, NULL);
    int result = type ? PyModule_AddType(module, (PyTypeObject *) type) : -1;

    Py_XDECREF(type);
    return result;
}
