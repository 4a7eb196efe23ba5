/* SPDX-License-Identifier: MIT */

/* The machine's driver for transports. Everything up to the release happens in the turn in which
 * connection_lost() was called, unless the policy waits for the peer; all that were released in a
 * turn are proved by one read of the witness at its end. */

#include "transport/close.h"
#include "transport/tls.h"

#include "base/clock.h"
#include "base/descriptor.h"
#include "close/policy.h"
#include "close/run.h"
#include "kernel/identity.h"
#include "slots.h"

#include <errno.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/stat.h>

static int go_on(struct fin__py_ending *c);

/* ---- lists of the loop's ---- */

static void link_lingering(struct fin__py_ending *c)
{
    struct fin__py_loop *loop = c->loop;

    c->older = loop->newest;
    c->newer = NULL;
    if (loop->newest)
        loop->newest->newer = c;
    else
        loop->oldest = c;
    loop->newest = c;
    loop->lingering++;
    c->lingering = true;
    Py_INCREF(c);
}

static void unlink_lingering(struct fin__py_ending *c)
{
    struct fin__py_loop *loop = c->loop;

    if (!c->lingering)
        return;
    *(c->older ? &c->older->newer : &loop->oldest) = c->newer;
    *(c->newer ? &c->newer->older : &loop->newest) = c->older;
    loop->lingering--;
    c->lingering = false;
    Py_DECREF(c);
}

static int check_step(struct fin__py_loop *loop, PyObject *self, PyObject *arg)
{
    (void) self;
    (void) arg;
    return fin__py_endings_check(loop);
}

static void link_check(struct fin__py_ending *c)
{
    if (c->checking)
        return;
    c->checking = true;
    /* A turn of another's make ends without a look at them. */
    if (!c->loop->turning && fin__py_ring_push(c->loop, check_step, Py_NewRef(Py_None), NULL) < 0)
        PyErr_Clear();
    c->next_check = c->loop->checks;
    c->loop->checks = (struct fin__py_ending *) Py_NewRef(c);
}

static void keep_record(struct fin__py_ending *c)
{
    struct fin__py_loop *loop = c->loop;
    PyObject **place = &loop->records[loop->record_count++ % FIN__PY_RECORDS];

    Py_XSETREF(*place, Py_NewRef(c));
}

/* ---- the machine's hands ---- */

static void transport_close_unwatch(void *self)
{
    fin__py_transport_unwatch(((struct fin__py_ending *) self)->transport);
}

static void prepare_proof(void *self, struct fin__event *ev)
{
    struct fin__py_ending *c = self;

    fin__proof_prepare(&c->proof, &c->loop->kernel, c->ep.fd, c->loop->proving == 0, ev);
    if (ev->kind == FIN__DONE && !c->proving) {
        c->proving = true;
        c->loop->proving++;
    }
}

static void transport_close_check(void *self, struct fin__event *ev)
{
    struct fin__py_ending *c = self;

    fin__proof_check(&c->proof, &c->loop->kernel, ev);
}

static void transport_close_inspect(void *self, struct fin__event *ev)
{
    struct fin__py_ending *c = self;

    fin__proof_inspect(&c->loop->kernel, &c->proof.id, ev);
}

/* The socket object that has the number too is to have none. */
static int transport_close_release(void *self, int fd, unsigned *facts)
{
    struct fin__py_transport *t = ((struct fin__py_ending *) self)->transport;
    PyObject *done;

    (void) facts;
    t->fd = -1;
    fin__py_tls_unplug(t);
    if (t->sock) {
        done = PyObject_CallMethod(t->sock, "detach", NULL);
        if (!done)
            PyErr_WriteUnraisable(t->sock);
        Py_XDECREF(done);
    }
    return fin__release(fd);
}

static const struct fin__driver driver = {
    .unwatch = transport_close_unwatch,
    .prepare_proof = prepare_proof,
    .check = transport_close_check,
    .inspect = transport_close_inspect,
    .release = transport_close_release,
};

/* ---- waiting ---- */

static void disarm(struct fin__py_ending *c)
{
    struct fin__py_handle *timer = c->timer;

    c->timer = NULL;
    if (timer && fin__py_handle_cancel(timer) < 0)
        PyErr_WriteUnraisable((PyObject *) timer);
    Py_XDECREF(timer);
}

/* The ending is what the timer calls. The loop's clock may be the program's own. */
static int transport_close_arm(struct fin__py_ending *c)
{
    struct fin__py_wish wish = { .callback = (PyObject *) c, .context = c->loop->context };
    uint64_t now = fin__now(), end = c->machine.deadline;
    double time;
    int result = -1;

    disarm(c);
    if (c->told && !c->lingering)
        link_lingering(c);
    if (fin__py_loop_time(c->loop, &time) < 0)
        return -1;
    wish.due = time + (end > now ? (double) (end - now) / 1e9 : 0);
    wish.when = PyFloat_FromDouble(wish.due);
    if (wish.when)
        c->timer = fin__py_handle_new(c->loop, &wish);
    if (c->timer)
        result = fin__py_timers_add(c->loop, c->timer);
    Py_XDECREF(wish.when);
    return result;
}

static int step_at(struct fin__py_ending *c, struct fin__event *ev, uint64_t now)
{
    ev->now = now;
    c->action = fin__machine_step(&c->machine, ev);
    return go_on(c);
}

static int transport_close_step(struct fin__py_ending *c, struct fin__event *ev)
{
    return step_at(c, ev, fin__now());
}

int fin__py_ending_deadline(struct fin__py_ending *c)
{
    struct fin__event ev = { .kind = FIN__DEADLINE };

    if (c->over || c->action != FIN__WAIT)
        return 0;
    if (fin__now() < c->machine.deadline)
        return transport_close_arm(c);
    return transport_close_step(c, &ev);
}

/* It is released: what is left of the policy is how long it may take to see the proof. */
static int adopt_proof(struct fin__py_ending *c, const struct fin__plan *plan, uint64_t now)
{
    struct fin__machine *m = &c->machine;
    uint64_t released = m->start + (uint64_t) m->stage[FIN_STAGE_RELEASED];
    uint64_t end = plan->proof == FIN_STAGE_RELEASED ? now : now + plan->proof_wait;

    c->plan.proof_wait = end - released;
    c->plan.find_holders = plan->find_holders;
    if (c->action != FIN__WAIT || end >= m->deadline)
        return 0;
    m->deadline = end;
    return transport_close_arm(c);
}

int fin__py_ending_adopt(struct fin__py_ending *c, const struct fin_policy *policy)
{
    uint64_t now = fin__now();
    struct fin__plan plan;

    if (c->over)
        return 0;
    fin__plan_make(policy, false, &plan);
    if (c->ep.fd < 0)
        return adopt_proof(c, &plan, now);
    c->plan = plan; /* an abort has its proof too */
    if (policy->courtesy == FIN_COURTESY_ABORT)
        return fin__py_ending_abort(c, NULL);
    if (c->transport->tls) /* who has a policy says close_notify in any case */
        c->transport->tls->left = false;
    c->plan.total += now - c->machine.start;
    fin__machine_replan(&c->machine, now);
    return c->action == FIN__WAIT ? transport_close_arm(c) : 0;
}

/* ---- steps ---- */

static int transport_close_flush(struct fin__py_ending *c, struct fin__event *ev)
{
    struct fin__py_transport *t = c->transport;
    int result = fin__py_transport_send(t), error = t->datagram ? 0 : result;

    *ev = (struct fin__event) { .kind = FIN__DONE, .error = error };
    if (error < 0) {
        ev->kind = t->tls && error == -EBADMSG ? FIN__BROKEN : FIN__FAILED;
        (void) fin__py_os_error(error);
        Py_XSETREF(c->error, fin__py_take_error());
        result = 0;
    } else if (result == 0)
        result = fin__py_transport_resume_writing(t); /* which may write */
    ev->bytes = fin__py_transport_unsent(t);
    if (error == 0 && t->output.count > 0) {
        ev->kind = FIN__AGAIN;
        ev->interest = FIN__WRITE;
    }
    return result;
}

static int wake_all(struct fin__py_ending *c)
{
    PyObject *waiters = c->waiters;
    int result = 0;

    c->waiters = NULL;
    for (Py_ssize_t i = 0; waiters && result == 0 && i < PyList_GET_SIZE(waiters); i++)
        result = fin__py_future_done(&c->loop->module->asyncio, PyList_GET_ITEM(waiters, i), NULL);
    Py_XDECREF(waiters);
    return result;
}

static int announce(struct fin__py_loop *loop, PyObject *self, PyObject *unused)
{
    PyObject *done =
        PyObject_CallMethodOneArg((PyObject *) loop, loop->module->asyncio.name_closed_one, self);

    (void) unused;
    Py_XDECREF(done);
    return done ? 0 : -1;
}

static bool has_listeners(const struct fin__py_loop *loop)
{
    return fin__py_is_filled(loop->listeners);
}

/* The kernel may be at work on it yet. */
static bool may_be_left(const struct fin__py_ending *c)
{
    return c->noted
        && (!fin__reached(&c->machine, FIN_STAGE_ACKED)
            || !fin__reached(&c->machine, FIN_STAGE_EOF));
}

/* Such a close is kept for ghosts() as it is: ghosts() needs only that it was prompt, and which
 * socket it was. The place where the socket was made would have to be found now. */
static bool is_kept_as_it_is(const struct fin__py_ending *c)
{
    return c->machine.outcome == FIN_OUTCOME_PROMPT && c->machine.held == FIN_NO
        && c->proof.id.cookie && c->loop->note_left && !fin__py_is_filled(c->loop->placed);
}

/* To make room for it an older entry may be dropped, which may run anything. */
static void keep_as_it_is(struct fin__py_ending *c)
{
    PyObject *note = Py_NewRef(c->loop->note_left);
    PyObject *done = PyObject_CallOneArg(note, (PyObject *) c);

    if (!done)
        PyErr_WriteUnraisable(note);
    Py_DECREF(note);
    Py_XDECREF(done);
}

/* Has it announced to those who listen. 0 or -1. */
static int tell_of(struct fin__py_ending *c)
{
    struct fin__py_loop *loop = c->loop;
    bool heard = (loop->on_closed && !Py_IsNone(loop->on_closed)) || c->machine.held == FIN_YES
        || (c->noted && has_listeners(loop));

    if (!heard && !may_be_left(c))
        return 0;
    if (!heard && is_kept_as_it_is(c)) {
        keep_as_it_is(c);
        return 0;
    }
    return fin__py_ring_push(loop, announce, Py_NewRef(c), NULL);
}

static int transport_close_finish(struct fin__py_ending *c)
{
    struct fin__py_transport *t = c->transport;
    struct fin__py_loop *loop = c->loop;
    int result = 0;

    disarm(c);
    c->over = true;
    if (c->proving) {
        loop->proving--;
        if (c->machine.held == FIN_YES)
            fin__witness_give_up(&loop->kernel.witness);
    }
    c->ours = t->ours;
    c->theirs = t->theirs;
    c->extra = c->ours.known ? NULL : Py_XNewRef(t->extra);
    Py_CLEAR(c->error); /* its traceback may lead back to here */
    keep_record(c);
    unlink_lingering(c);
    c->transport = NULL;
    Py_CLEAR(t->loop);
    fin__py_output_free(t);
    Py_DECREF(t);
    if (tell_of(c) < 0)
        result = -1;
    if (wake_all(c) < 0)
        result = -1;
    Py_CLEAR(c->loop);          /* which has it among its records */
    if (!c->extra && !c->known) /* then there is nothing left by which it could keep itself */
        PyObject_GC_UnTrack(c);
    return result;
}

/* The time of TLS's farewell was over before connection_lost(). */
static bool is_unanswered(const struct fin__py_ending *c)
{
    return !c->told && !c->machine.forced && c->machine.outcome == FIN_OUTCOME_TIMED_OUT
        && c->machine.decided == FIN_PHASE_FAREWELL;
}

/* What connection_lost() gets: bytes that were dropped are an error. */
static PyObject *loss_of(struct fin__py_ending *c)
{
    if (c->error)
        return Py_NewRef(c->error);
    if (is_unanswered(c))
        return PyObject_CallFunction(PyExc_TimeoutError, "s", "SSL shutdown timed out");
    if (c->ep.layer && c->machine.outcome == FIN_OUTCOME_RESET
        && !fin__py_tls_has_ended(c->transport->tls))
        return PyObject_CallFunction(PyExc_OSError, "is", ECONNRESET, strerror(ECONNRESET));
    if (c->transport->output.count == 0 || c->machine.outcome == FIN_OUTCOME_ABORTED)
        return Py_NewRef(Py_None);
    return PyObject_CallFunction(PyExc_TimeoutError, "is", ETIMEDOUT,
                                 "the peer took nothing for too long");
}

static int queue_loss(struct fin__py_ending *c)
{
    struct fin__py_transport *t = c->transport;
    PyObject *error;

    if (t->losing)
        return 0;
    error = loss_of(c);
    if (!error)
        return -1;
    t->losing = true;
    return fin__py_ring_push(c->loop, fin__py_transport_lose, Py_NewRef(t), error);
}

static bool is_before_the_loss(const struct fin__py_ending *c)
{
    return c->action == FIN__FLUSH || c->action == FIN__MEASURE || c->action == FIN__NOTIFY
        || c->action == FIN__WAIT
        || (c->action == FIN__DRAIN && c->machine.phase == FIN_PHASE_FAREWELL);
}

static void take_events(struct fin__py_ending *c, struct fin__event *ev)
{
    *ev = (struct fin__event) { .kind = FIN__READY, .facts = c->writable ? FIN__IS_WRITABLE : 0 };
    c->silent = !c->readable && !c->ep.layer;
    c->ready = c->writable = c->readable = false;
}

static int carry_out(struct fin__py_ending *c, struct fin__event *ev)
{
    bool silent = c->silent;

    c->silent = false;
    if (c->action == FIN__WAIT)
        take_events(c, ev);
    else if (c->action == FIN__FLUSH)
        return transport_close_flush(c, ev);
    else if (c->action == FIN__NOTIFY && !c->ep.layer) /* a TLS layer of asyncio's has said it */
        *ev = (struct fin__event) { .kind = FIN__SKIP };
    else if (c->action == FIN__DRAIN && silent) /* what has come since raises an event */
        *ev = (struct fin__event) { .kind = FIN__AGAIN, .interest = FIN__READ };
    else
        fin__run(&driver, c, &c->loop->kernel, &c->ep, &c->machine, c->action, ev);
    return 0;
}

/* What the program asked for from within an action comes before the next one that may last. */
static bool take_interruption(struct fin__py_ending *c, struct fin__event *ev)
{
    if (!c->interrupted
        || (c->action != FIN__WAIT && c->action != FIN__FLUSH && c->action != FIN__DRAIN))
        return false;
    *ev = (struct fin__event) { .kind = c->interruption };
    c->interrupted = false;
    return true;
}

/* An action may call the program, which may ask anything of the same close: the machine is not
 * stepped then. */
static int transport_close_act(struct fin__py_ending *c, struct fin__event *ev)
{
    int result;

    c->acting = true;
    result = carry_out(c, ev);
    c->acting = false;
    return result;
}

/* The exception that is set has to end the loop's run, which waits until the close is on its
 * way. */
static int leave_later(struct fin__py_ending *c, struct fin__event *ev)
{
    const struct fin__py_aside aside = fin__py_set_aside();

    (void) transport_close_step(c, ev);
    (void) fin__py_raise_again(&aside, (PyObject *) c);
    return -1;
}

/* Until there is something to wait for. The caller keeps a reference. */
static int go_on(struct fin__py_ending *c)
{
    struct fin__event ev;

    if (c->acting) /* who acts goes on */
        return 0;
    while (c->action != FIN__FINISH) {
        if (!c->told && !is_before_the_loss(c))
            return queue_loss(c);
        if (c->action == FIN__CHECK) {
            link_check(c);
            return 0;
        }
        if (!take_interruption(c, &ev)) {
            if (c->action == FIN__WAIT && !(c->ready && c->machine.interest))
                return transport_close_arm(c);
            if (transport_close_act(c, &ev) < 0)
                return leave_later(c, &ev);
        }
        ev.now = fin__now();
        c->action = fin__machine_step(&c->machine, &ev);
    }
    return c->told ? transport_close_finish(c) : queue_loss(c);
}

int fin__py_ending_told(struct fin__py_ending *c)
{
    int result;

    Py_INCREF(c);
    c->told = true;
    result = go_on(c);
    if (result == 0 && c->lingering && c->loop->lingering > c->loop->close_cap)
        (void) fin__py_endings_force(c->loop, 1, false);
    Py_DECREF(c);
    return result;
}

int fin__py_ending_news(struct fin__py_ending *c, uint32_t events)
{
    int result = 0;

    Py_INCREF(c);
    if (events & EPOLLERR && c->told)
        fin__endpoint_discard_errors(&c->ep);
    c->ready = true;
    c->writable |= (events & EPOLLOUT) != 0;
    c->readable |= (events & ~(uint32_t) EPOLLOUT) != 0;
    if (c->action == FIN__WAIT)
        result = go_on(c);
    Py_DECREF(c);
    return result;
}

static int interrupt(struct fin__py_ending *c, enum fin__event_kind kind)
{
    struct fin__event ev = { .kind = kind };
    int result;

    if (c->over || c->action == FIN__FINISH)
        return 0;
    if (c->acting) {
        if (!c->interrupted || kind == FIN__ABORT)
            c->interruption = kind;
        c->interrupted = true;
        return 0;
    }
    if (c->transport && fin__py_tls_postpones(c->transport, FIN__PY_ABORT, NULL))
        return 0;
    Py_INCREF(c);
    result = transport_close_step(c, &ev);
    Py_DECREF(c);
    return result;
}

int fin__py_ending_abort(struct fin__py_ending *c, PyObject *error)
{
    if (error && !c->error)
        c->error = Py_NewRef(error);
    if (c->action == FIN__CHECK)
        return 0; /* it is released */
    return interrupt(c, FIN__ABORT);
}

int fin__py_ending_force(struct fin__py_ending *c)
{
    return c->action == FIN__WAIT ? interrupt(c, FIN__FORCE) : 0;
}

bool fin__py_endings_force(struct fin__py_loop *loop, int count, bool proofs)
{
    bool any = false;

    for (; count > 0 && loop->oldest; count--) {
        struct fin__py_ending *c = loop->oldest;

        while (c && (c->action == FIN__CHECK || (c->ep.fd < 0 && !proofs)))
            c = c->newer;
        if (!c)
            break;
        any = true;
        Py_INCREF(c);
        if (interrupt(c, FIN__FORCE) < 0)
            PyErr_WriteUnraisable((PyObject *) c);
        if (c->lingering && c->action == FIN__WAIT && c->ep.fd >= 0)
            count = 0;
        Py_DECREF(c);
    }
    return any;
}

/* ---- proving ---- */

static void note_held(uint64_t token, uint64_t inode, void *arg)
{
    for (struct fin__py_ending *c = arg; c; c = c->next_check)
        if (c->proof.token == token) {
            c->held = true;
            c->proof.inode = inode;
        }
}

int fin__py_endings_check(struct fin__py_loop *loop)
{
    struct fin__py_ending *list = loop->checks;
    uint64_t now;
    int asked, result = 0;

    if (!list)
        return 0;
    loop->checks = NULL;
    for (struct fin__py_ending *c = list; c; c = c->next_check)
        c->held = false;
    asked = fin__witness_read(&loop->kernel.witness, note_held, list);
    now = fin__now();
    while (list) {
        struct fin__py_ending *c = list;
        struct fin__event ev = { .kind = asked < 0 ? FIN__FAILED : c->held ? FIN__YES : FIN__NO };

        list = c->next_check;
        c->next_check = NULL;
        c->checking = false;
        if (step_at(c, &ev, now) < 0)
            result = -1;
        Py_DECREF(c);
    }
    return result;
}

/* ---- begin ---- */

bool fin__py_closes_by_engine(const struct fin__py_transport *t)
{
    return t->loop && t->loop->closes && !t->plain && t->fd >= 0 && !t->connecting && t->watched;
}

/* What came about before the machine started. */
static void decide_in(struct fin__machine *m, uint8_t phase, enum fin_outcome outcome)
{
    uint8_t before = m->phase;

    m->phase = phase;
    fin__machine_decide(m, outcome);
    m->phase = before;
}

/* Of a socket that the loop has made, and nobody else has had, some things are known. */
static int transport_close_examine(struct fin__py_ending *c)
{
    const struct fin__py_transport *t = c->transport;
    struct fin__past past = {
        .accepted = t->accepted,
        .open = !t->ended && !t->shut && t->failed == 0,
        .ended = t->ended,
        .read = t->read,
    };

    if (t->tcp && !t->tls)
        return fin__endpoint_examine_tcp(t->fd, &past, &c->ep);
    return fin__endpoint_examine(&c->loop->kernel, t->fd, t->tls ? &t->tls->layer : NULL, &c->ep);
}

static int transport_close_start(struct fin__py_ending *c)
{
    struct fin__py_transport *t = c->transport;

    if (t->sock || !t->no_linger)
        fin__endpoint_take_over(&c->ep, &c->plan);
    if (t->output.count > 0 || t->datagram) /* a stream without has flushed anyway */
        c->ep.traits |= FIN__LAYERED;
    if (t->drained) /* those before are over */
        t->events &= EPOLLOUT;
    c->action = fin__machine_start(&c->machine, &c->plan, c->ep.traits, c->ep.facts,
                                   t->requested ? t->requested : fin__now());
    if (t->requested)
        fin__machine_replan(&c->machine, fin__now());
    if (t->tls && t->tls->left)
        decide_in(&c->machine, FIN_PHASE_NONE, FIN_OUTCOME_TRUNCATED);
    if (t->failed < 0 && c->error)
        fin__machine_broke(&c->machine, t->failed);
    else if (t->failed < 0)
        fin__machine_fail(&c->machine, t->failed);
    else if (c->error && PyErr_GivenExceptionMatches(c->error, PyExc_TimeoutError))
        decide_in(&c->machine, FIN_PHASE_FAREWELL, FIN_OUTCOME_TIMED_OUT); /* of the layer above */
    if (c->plan.courtesy == FIN_COURTESY_ABORT)
        c->machine.unsent = fin__py_transport_unsent(t);
    return go_on(c);
}

/* Both of its descriptors, before any number is freed: a program may look whether it is. A forked
 * child has a witness of its own. */
void fin__py_need_witness(struct fin__py_loop *loop)
{
    if (fin__fork_check(&loop->guard) < 0) {
        fin__kernel_end(&loop->kernel);
        fin__kernel_begin(&loop->kernel);
        fin__fork_guard_init(&loop->guard);
    }
    if (loop->kernel.witness.set < 0 && loop->proving == 0)
        (void) fin__witness_open(&loop->kernel.witness);
}

void fin__py_ending_aborted(struct fin__py_transport *t)
{
    struct fin__py_ending *c = fin__py_ending_of(t);

    if (c)
        fin__machine_decide(&c->machine, FIN_OUTCOME_ABORTED);
}

void fin__py_ending_undo(struct fin__py_transport *t)
{
    struct fin__py_ending *c = fin__py_ending_of(t);

    if (!c || t->lost || c->acting || c->waiters || c->action == FIN__RESET)
        return;
    disarm(c);
    c->over = true;
    Py_CLEAR(c->transport);
    Py_CLEAR(t->ending);
}

/* Who is to hear of the close will ask which socket it was. */
static void note(struct fin__py_ending *c)
{
    struct stat st;

    c->noted = true;
    c->proof.id.cookie = fin__cookie(c->ep.fd);
    if (c->ep.plain_tcp && !has_listeners(c->loop) && !fin__py_is_filled(c->loop->placed))
        return; /* the inode tells who holds it, and is known by then; or where it was made */
    if (fstat(c->ep.fd, &st) < 0)
        return;
    c->proof.id.device = st.st_dev;
    c->proof.id.inode = st.st_ino;
}

int fin__py_ending_begin(struct fin__py_transport *t, const struct fin_policy *policy,
                         enum fin__py_asked asked, PyObject *error)
{
    PyTypeObject *type = t->loop->module->asyncio.ending_type;
    struct fin__py_ending *c;
    int result;

    fin__py_transport_note_names(t); /* later there is nobody to be asked */
    if (t->tls)
        fin__py_tls_disarm(t->tls);
    c = type ? (struct fin__py_ending *) type->tp_alloc(type, 0) : NULL;
    if (!c)
        return -1;
    if (t->ending || !t->loop || t->fd < 0) { /* what ran meanwhile has closed it */
        Py_DECREF(c);
        return 0;
    }
    c->loop = (struct fin__py_loop *) Py_NewRef(t->loop);
    c->transport = (struct fin__py_transport *) Py_NewRef(t);
    c->datagram = t->datagram;
    c->error = Py_XNewRef(error);
    c->proof.id.size = sizeof c->proof.id;
    fin__plan_make(policy, false, &c->plan);
    fin__py_need_witness(c->loop);
    if (t->tls)
        fin__py_tls_ends(t, &c->plan, asked);
    if (transport_close_examine(c) < 0) { /* it is no socket any more, or the like */
        c->over = true;
        Py_CLEAR(c->transport);
        Py_DECREF(c);
        return 1;
    }
    if (asked == FIN__PY_BY_ACLOSE || has_listeners(c->loop))
        note(c);
    if (c->plan.proof >= FIN_STAGE_FINISHED)
        fin__proof_confirm(&c->loop->kernel, c->ep.fd, &c->proof.id);
    t->ending = Py_NewRef(c);
    t->closing = true;
    result = transport_close_start(c);
    Py_DECREF(c);
    return result;
}
