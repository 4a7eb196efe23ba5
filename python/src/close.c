/* SPDX-License-Identifier: MIT */

/*
 * One close that a driver in Python takes from step to step. All that needs no Python is done here;
 * the names of what does, and how it is answered by tell():
 *
 *     wait      for `left` seconds or until poll() of the set lists it: ready, deadline
 *     flush     send what is buffered above the kernel: done; again, broken, failed (bytes = left)
 *     notify    send the farewell: done, again, skip, broken, failed
 *     read      has the answer to the farewell come: again, answer, end, failed
 *     detach    whoever else uses the socket is to let it go: done
 *     unwatch   the last chance for that, and for the poller that is not ours: done
 *     finish    the close is complete: receipt()
 *
 * and abort, at any time.
 */

#include "close.h"

#include "base/clock.h"
#include "base/descriptor.h"
#include "close/policy.h"
#include "close/proof.h"
#include "handle/dead.h"
#include "kernel/holders.h"
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
    struct fin_identity id; /* for sock_diag after release */
    enum fin__action action;
    uint64_t token; /* of the witness */
    uint64_t inode; /* what the witness last said is held, 0: nothing */
    bool begun, running;
    bool watched;  /* in the set */
    bool proving;  /* counted in the set */
    bool detached; /* nothing but us uses the socket */
    bool ready;    /* an edge came */
    bool answered; /* the layer has seen the answer already */
    bool tombstone;
};

/* ---- steps that need no Python ---- */

static void unwatch(struct fin__py_close *c)
{
    if (c->watched && c->set->set >= 0)
        (void) epoll_ctl(c->set->set, EPOLL_CTL_DEL, c->ep.fd, NULL);
    c->watched = false;
}

static void prepare_proof(struct fin__py_close *c, struct fin__event *ev)
{
    c->token =
        fin__proof_prepare(&c->set->kernel, c->ep.fd, c->id.confirmed, c->set->proving == 0, ev);
    if (ev->kind == FIN__DONE) {
        c->proving = true;
        c->set->proving++;
    }
}

static void end_proof(struct fin__py_close *c)
{
    if (!c->proving)
        return;
    c->proving = false;
    c->set->proving--;
    if (c->machine.held == FIN_YES)
        fin__witness_give_up(&c->set->kernel.witness);
}

static void release(struct fin__py_close *c, struct fin__event *ev)
{
    fin__proof_release(c->ep.fd, ev);
    c->ep.fd = -1;
}

static void carry_out(struct fin__py_close *c, enum fin__action action, struct fin__event *ev)
{
    *ev = (struct fin__event) { .kind = FIN__DONE };
    switch (action) {
    case FIN__WAIT:
        ev->kind = FIN__READY;
        c->ready = false;
        break;
    case FIN__UNWATCH:
        unwatch(c);
        break;
    case FIN__WITNESS:
        prepare_proof(c, ev);
        break;
    case FIN__RELEASE:
        release(c, ev);
        break;
    case FIN__CHECK:
        fin__proof_check(&c->set->kernel, c->token, &c->inode, ev);
        break;
    case FIN__INSPECT:
        fin__proof_inspect(&c->set->kernel, &c->id, ev);
        break;
    case FIN__DRAIN:
        if (c->answered) {
            c->answered = false;
            ev->kind = FIN__ANSWER;
            break;
        }
        __attribute__((fallthrough));
    default:
        fin__endpoint_do(&c->ep, &c->set->kernel, &c->machine, action, ev);
        break;
    }
}

/* ---- steps that do ---- */

static bool layered(const struct fin__py_close *c)
{
    return c->ep.traits & FIN__LAYERED;
}

/* What the driver has to do next, NULL: nothing. */
static const char *asked(const struct fin__py_close *c)
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
        return layered(c) && !c->detached && !c->answered ? "read" : NULL;
    case FIN__UNWATCH:
        return "unwatch";
    case FIN__FINISH:
        return "finish";
    default:
        return NULL;
    }
}

static void step(struct fin__py_close *c, struct fin__event *ev)
{
    ev->now = fin__now();
    c->action = fin__machine_step(&c->machine, ev);
}

static void go_on(struct fin__py_close *c)
{
    struct fin__event ev;

    while (!asked(c)) {
        carry_out(c, c->action, &ev);
        step(c, &ev);
    }
    if (c->action == FIN__FINISH)
        end_proof(c);
}

/* The driver has done what it was asked to do, or something happened while it waited. */
static void take(struct fin__py_close *c, struct fin__event *ev)
{
    if (ev->kind == FIN__DEADLINE && fin__now() < c->machine.deadline)
        return;
    if (ev->kind == FIN__READY)
        c->ready = false;
    if (ev->kind != FIN__ABORT) {
        if (c->action == FIN__SHUT || c->action == FIN__QUENCH || c->action == FIN__UNWATCH) {
            c->detached = true;
            carry_out(c, c->action, ev);
        }
    }
    step(c, ev);
}

static const struct {
    const char *name;
    enum fin__event_kind kind;
    unsigned actions; /* which it may answer */
} told[] = {
#define BIT(action) (1u << FIN__##action)
    { "done", FIN__DONE, BIT(FLUSH) | BIT(NOTIFY) | BIT(SHUT) | BIT(QUENCH) | BIT(UNWATCH) },
    { "again", FIN__AGAIN, BIT(FLUSH) | BIT(NOTIFY) | BIT(DRAIN) },
    { "skip", FIN__SKIP, BIT(NOTIFY) },
    { "broken", FIN__BROKEN, BIT(FLUSH) | BIT(NOTIFY) },
    { "failed", FIN__FAILED, BIT(FLUSH) | BIT(NOTIFY) | BIT(DRAIN) },
    { "answer", FIN__ANSWER, BIT(DRAIN) },
    { "end", FIN__END, BIT(DRAIN) },
    { "ready", FIN__READY, BIT(WAIT) },
    { "deadline", FIN__DEADLINE, BIT(WAIT) },
    { "abort", FIN__ABORT, ~BIT(FINISH) },
#undef BIT
};

static int find_event(const struct fin__py_close *c, const char *name, struct fin__event *ev)
{
    for (size_t i = 0; i < sizeof told / sizeof *told; i++) {
        if (strcmp(name, told[i].name) != 0 || !(told[i].actions & 1u << c->action))
            continue;
        ev->kind = told[i].kind;
        return 0;
    }
    PyErr_Format(PyExc_ValueError, "%s is no answer to %s", name, asked(c));
    return -1;
}

/* ---- the methods ---- */

static int begin_call(struct fin__py_close *c)
{
    if (c->running) {
        PyErr_SetString(PyExc_RuntimeError, "another thread is at this close");
        return -1;
    }
    return fin__py_close_set_usable(c->set);
}

static PyObject *next_name(struct fin__py_close *c)
{
    if (c->action == FIN__FINISH)
        Py_CLEAR(c->owner);
    return PyUnicode_FromString(asked(c));
}

static PyObject *run(PyObject *object, PyObject *unused)
{
    struct fin__py_close *c = (struct fin__py_close *) object;

    (void) unused;
    if (begin_call(c) < 0)
        return NULL;
    if (c->action != FIN__FINISH) {
        c->running = true;
        Py_BEGIN_ALLOW_THREADS
        go_on(c);
        Py_END_ALLOW_THREADS
        c->running = false;
    }
    return next_name(c);
}

static PyObject *tell(PyObject *object, PyObject *args, PyObject *keywords)
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
    if (begin_call(c) < 0 || find_event(c, name, &ev) < 0)
        return NULL;
    ev.bytes = bytes;
    ev.error = -ev.error;
    ev.facts = progress ? FIN__IS_WRITABLE : 0;
    ev.interest = write ? FIN__WRITE : FIN__READ;
    if (c->action == FIN__DRAIN && ev.kind == FIN__END)
        ev.facts = FIN__IS_FIN;
    c->running = true;
    Py_BEGIN_ALLOW_THREADS
    take(c, &ev);
    go_on(c);
    Py_END_ALLOW_THREADS
    c->running = false;
    return next_name(c);
}

PyObject *fin__py_close_ready(struct fin__py_close *c, uint32_t events)
{
    c->ready = true;
    if (events & EPOLLERR)
        fin__endpoint_discard_errors(&c->ep);
    return c->owner;
}

static PyObject *receipt(PyObject *object, PyObject *unused)
{
    struct fin__py_close *c = (struct fin__py_close *) object;
    struct fin_receipt receipt = FIN_RECEIPT_INIT;
    bool search = c->plan.find_holders && c->machine.held == FIN_YES;

    (void) unused;
    fin__machine_report(&c->machine, &receipt);
    receipt.tombstone = c->tombstone;
    Py_BEGIN_ALLOW_THREADS
    fin__receipt_holders(&receipt, search ? c->inode : 0, (enum fin__kind) c->ep.kind);
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
    (void) getsockopt(c->ep.fd, SOL_SOCKET, SO_ERROR, &error, &size);
    if (error == 0 && poll(&entry, 1, 0) > 0 && entry.revents & POLLHUP)
        error = ECONNRESET;
    return PyLong_FromLong(error);
}

static PyObject *note_answer(PyObject *object, PyObject *unused)
{
    struct fin__py_close *c = (struct fin__py_close *) object;

    (void) unused;
    c->answered = true;
    Py_RETURN_NONE;
}

/* Wakes whoever waits for the socket; the last thing done to it, since it forfeits its input. */
static PyObject *wake(PyObject *object, PyObject *unused)
{
    struct fin__py_close *c = (struct fin__py_close *) object;

    (void) unused;
    if (c->ep.fd >= 0)
        (void) shutdown(c->ep.fd, SHUT_RDWR);
    Py_RETURN_NONE;
}

/* A number whose owner does not let it go: from now on it means a dead descriptor. */
static PyObject *entomb(PyObject *object, PyObject *args)
{
    struct fin__py_close *c = (struct fin__py_close *) object;
    int fd, result;

    if (!PyArg_ParseTuple(args, "i:entomb", &fd))
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

static PyObject *get_left(PyObject *object, void *unused)
{
    const struct fin__py_close *c = (struct fin__py_close *) object;
    uint64_t now = fin__now(), end = c->machine.deadline;

    (void) unused;
    return PyFloat_FromDouble(end > now ? (double) (end - now) / 1e9 : 0);
}

static PyObject *get_fileno(PyObject *object, PyObject *unused)
{
    (void) unused;
    return PyLong_FromLong(((struct fin__py_close *) object)->ep.fd);
}

static PyObject *get_stream(PyObject *object, void *unused)
{
    (void) unused;
    return PyBool_FromLong(((struct fin__py_close *) object)->ep.traits & FIN__STREAM);
}

/* Like identify()'s, without the device, and without the inode where nothing holds it. */
static PyObject *get_identity(PyObject *object, void *unused)
{
    const struct fin__py_close *c = (struct fin__py_close *) object;

    (void) unused;
    return Py_BuildValue("(KiK)", (unsigned long long) c->id.cookie, 0,
                         (unsigned long long) c->inode);
}

static PyObject *get_held(PyObject *object, void *unused)
{
    (void) unused;
    return PyBool_FromLong(((struct fin__py_close *) object)->machine.held == FIN_YES);
}

/* ---- life ---- */

static int watch(struct fin__py_close *c)
{
    struct epoll_event entry = {
        .events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET,
        .data.ptr = c,
    };

    if (epoll_ctl(c->set->set, EPOLL_CTL_ADD, c->ep.fd, &entry) < 0)
        return -errno;
    c->watched = true;
    return 0;
}

static int begin(struct fin__py_close *c, int fd, const struct fin_policy *policy, bool over,
                 bool blind, bool news, uint64_t requested)
{
    struct fin_kernel *kernel = &c->set->kernel;
    struct fin__endpoint ep = { .fd = -1 };
    int result = fin__policy_check(policy);

    if (result == 0)
        result = fin__endpoint_examine(kernel, fd, NULL, policy, &ep);
    if (result == 0)
        result = fin__py_close_set_need(c->set, news, policy->proof > FIN_STAGE_RELEASED);
    if (result < 0)
        return result;
    if (over && !(ep.traits & (FIN__LISTENING | FIN__CONNECTING)))
        ep.traits |= FIN__LAYERED;
    if (blind)
        ep.traits |= FIN__ANSWER_UNKNOWN;
    c->ep = ep;
    result = news ? watch(c) : 0;
    if (result < 0) {
        c->ep.fd = -1; /* the caller's still */
        return result;
    }
    c->id.cookie = fin__cookie(fd);
    fin__plan_make(policy, ep.traits & FIN__LISTENING, &c->plan);
    if (c->plan.proof >= FIN_STAGE_FINISHED && ep.traits & FIN__SOCKET)
        fin__proof_confirm(kernel, fd, &c->id);
    fin__endpoint_take_over(&c->ep, &c->plan);
    c->action = fin__machine_start(&c->machine, &c->plan, c->ep.traits, c->ep.facts, requested);
    c->begun = true;
    return 0;
}

static PyObject *new (PyTypeObject *type, PyObject *args, PyObject *keywords)
{
    struct fin__py_module *m = PyType_GetModuleState(type);
    PyObject *set, *tuple, *owner, *requested;
    struct fin_policy policy;
    struct fin__py_close *c;
    int fd, over, blind, result;
    uint64_t start;

    (void) keywords;
    if (!PyArg_ParseTuple(args, "O!iOOppO:Close", m->close_set_type, &set, &fd, &tuple, &owner,
                          &over, &blind, &requested))
        return NULL;
    if (fin__py_close_set_policy((struct fin__py_close_set *) set, tuple, &policy) < 0
        || fin__py_moment(requested, &start) < 0
        || fin__py_close_set_usable((struct fin__py_close_set *) set) < 0)
        return NULL;
    c = (struct fin__py_close *) type->tp_alloc(type, 0);
    if (!c)
        return NULL;
    c->set = (struct fin__py_close_set *) Py_NewRef(set);
    c->ep.fd = -1;
    result = begin(c, fd, &policy, over, blind, owner != Py_None, start ? start : fin__now());
    if (result < 0) {
        Py_DECREF(c);
        return fin__py_os_error(result);
    }
    c->owner = Py_NewRef(owner);
    return (PyObject *) c;
}

static int traverse(PyObject *object, visitproc visit, void *arg)
{
    const struct fin__py_close *c = (struct fin__py_close *) object;

    Py_VISIT(Py_TYPE(object));
    Py_VISIT(c->owner);
    return 0;
}

static int clear(PyObject *object)
{
    struct fin__py_close *c = (struct fin__py_close *) object;

    Py_CLEAR(c->owner);
    return 0;
}

/* Of a close that was dropped half-way. A parent's set is left as it is. */
static void let_go(struct fin__py_close *c)
{
    struct fin__event ev;

    if (c->ep.fd < 0)
        return;
    if (fin__fork_check(&c->set->guard) == 0)
        unwatch(c);
    release(c, &ev);
    end_proof(c);
}

static void dealloc(PyObject *object)
{
    struct fin__py_close *c = (struct fin__py_close *) object;
    PyTypeObject *type = Py_TYPE(object);

    PyObject_GC_UnTrack(object);
    (void) clear(object);
    if (c->set)
        let_go(c);
    Py_XDECREF(c->set);
    type->tp_free(object);
    Py_DECREF(type);
}

PyDoc_STRVAR(
    type_doc,
    "Close(set, fd, policy, owner, layered, blind, requested, /)\n--\n\n"
    "One close that a driver in Python takes from step to step. On success the descriptor\n"
    "is the close's. owner: what poll() lists when there is news, None: nobody wants to know.\n"
    "layered: something above the kernel uses the socket too; blind: its farewell's answer\n"
    "can't be observed once it has let go.");
PyDoc_STRVAR(run_doc, "run($self, /)\n--\n\nDo what needs no Python; the name of what does.");
PyDoc_STRVAR(tell_doc,
             "tell($self, /, event, bytes=0, error=0, progress=False, write=False)\n--\n\n"
             "What came of it, and go on as run().");
PyDoc_STRVAR(receipt_doc, "receipt($self, /)\n--\n\nWhat Receipt._from_core() takes.");

static PyMethodDef methods[] = {
    { "run", run, METH_NOARGS, run_doc },
    { "tell", (PyCFunction) (void (*)(void)) tell, METH_VARARGS | METH_KEYWORDS, tell_doc },
    { "receipt", receipt, METH_NOARGS, receipt_doc },
    { "note_answer", note_answer, METH_NOARGS, "The farewell has been answered already." },
    { "error", error, METH_NOARGS, "The errno of a connection that has broken, else 0." },
    { "wake", wake, METH_NOARGS, "Wake whoever waits for the socket, by shutdown()." },
    { "entomb", entomb, METH_VARARGS, "Put a dead descriptor on a number that is not let go." },
    { "release", release_number, METH_VARARGS, "Release a number that was taken from its owner." },
    { "fileno", get_fileno, METH_NOARGS, "The descriptor, -1 once it is released." },
    { NULL, NULL, 0, NULL },
};

static PyGetSetDef getters[] = {
    { "left", get_left, NULL, "Seconds to the deadline of the wait in hand.", NULL },
    { "held", get_held, NULL, "Does anything refer to the file still, as far as seen?", NULL },
    { "identity", get_identity, NULL, "What find() and holders() know it by.", NULL },
    { "stream", get_stream, NULL, "Is it a connection that ends in FIN?", NULL },
    { NULL, NULL, NULL, NULL, NULL },
};

static PyType_Slot slots[] = {
    { Py_tp_doc, (void *) type_doc }, { Py_tp_new, new },
    { Py_tp_methods, methods },       { Py_tp_getset, getters },
    { Py_tp_traverse, traverse },     { Py_tp_clear, clear },
    { Py_tp_dealloc, dealloc },       { 0, NULL },
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
