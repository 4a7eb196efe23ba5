/* SPDX-License-Identifier: MIT */

/* The non-blocking driver, for many closes at once: which close is due, in which order, on which
 * thread.
 *
 * Any thread submits: the close gets a slot, a plan and what the backend reserves, its machine is
 * started, and it is appended to `submitted`. An abort, or a cap that is exceeded, moves it to
 * `wanted`.
 *
 * The dispatching thread does the rest. A dispatch
 *   collects edges, what was submitted, and whose end is wanted; all of those are then `pending`,
 *   carries each close on until it waits, ends, or is to be checked with others,
 *   does the same for those whose deadline has passed,
 *   reads the witness once for all that are to be checked,
 *   reports those that have ended in the order of submission, each callback without the lock,
 *   and sets the timer for the earliest deadline.
 * What a batch leaves over makes the descriptor readable again. */

#include "close/closer.h"

#include "base/alloc.h"
#include "base/cancel.h"
#include "base/clock.h"
#include "base/descriptor.h"
#include "base/fork.h"
#include "close/given.h"
#include "close/plans.h"

#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <string.h>

#define BATCH 256              /* of each kind of work in one dispatch */
#define STEPS 64               /* of one close in one dispatch, before others get their turn */
#define GRAIN_MAX (1ull << 24) /* ns, 17 ms */
#define ENDING_MAX (4 * BATCH)

/* A close that another thread wants to end. */
struct wanted {
    struct fin__op *op;
    enum fin__event_kind kind;
    bool fresh; /* it had not started */
};

struct fin_closer {
    const struct fin__backend *backend;
    void *self;
    struct fin__fork_guard guard;
    pthread_mutex_t lock;       /* around what submit, abort and count touch too: */
    struct fin__book book;      /* its slots and lists; its heap is the dispatcher's alone */
    struct fin__list submitted; /* in the order of submission, not started yet */
    struct fin__list pending;   /* in the order of submission */
    struct fin__list wanted;    /* to be aborted or forced */
    struct fin__plans plans;
    struct fin_closer_counters counters;
    uint64_t last_start;
    uint32_t cap, wanted_count;
    bool refusing; /* being freed */

    /* The dispatching thread's: */
    bool dispatching, ending, doomed;
    bool lost; /* the source of edges is lost: all closes are forced, and no more are taken */
    uint64_t armed;
    unsigned checking_count, ended_count;
    struct fin__edge edges[BATCH];
    struct fin__op *edged[BATCH];
    struct fin__op *starting[BATCH];
    struct wanted wanting[BATCH];
    struct fin__op *due[BATCH];
    struct fin__op *checking[ENDING_MAX];
    struct fin__op *ended[2 * ENDING_MAX]; /* may be left over from one dispatch to the next */
};

static void lock(struct fin_closer *c)
{
    (void) pthread_mutex_lock(&c->lock);
}

static void closer_unlock(struct fin_closer *c)
{
    (void) pthread_mutex_unlock(&c->lock);
}

/* ---- making ---- */

int fin__closer_check(const struct fin_closer *c)
{
    if (!c)
        return -EINVAL;
    return fin__fork_check(&c->guard);
}

void *fin__closer_backend(const struct fin_closer *c)
{
    return c->self;
}

int fin__closer_make(const struct fin__backend *backend, void *self,
                     const struct fin_closer_options *options, struct fin_closer **ret)
{
    struct fin_closer *c = fin__alloc(sizeof *c);

    if (!c) {
        backend->free(self, false);
        return -ENOMEM;
    }
    c->backend = backend;
    c->self = self;
    c->cap = options ? options->cap : 0;
    c->armed = UINT64_MAX;
    c->submitted = c->pending = c->wanted = FIN__LIST_EMPTY;
    fin__book_init(&c->book);
    fin__fork_guard_init(&c->guard);
    (void) pthread_mutex_init(&c->lock, NULL);
    *ret = c;
    return 0;
}

/* ---- ends that are wanted ---- */

/* Moves a close to the list of those whose end is wanted. */
static void put_to(struct fin_closer *c, struct fin__op *op, enum fin__event_kind kind)
{
    struct fin__list *from = op->state == FIN__OP_SUBMITTED ? &c->submitted : &c->pending;

    if (op->wanted == 0) {
        fin__list_remove(&c->book, from, op);
        fin__list_append(&c->book, &c->wanted, op);
        c->wanted_count++;
    }
    if (op->wanted != FIN__ABORT)
        op->wanted = (uint8_t) kind;
}

/* Forces the oldest while `coming` more would be too many. Those whose end is wanted count as
 * ended; if one still waits for its proof, or had ended already, the next dispatch corrects that.
 * Each turn moves one to that list. */
static bool keep_cap(struct fin_closer *c, unsigned coming)
{
    bool forced = false;

    while (c->cap && c->counters.pending + coming > (uint64_t) c->cap + c->wanted_count) {
        struct fin__op *oldest = fin__list_first(&c->book, &c->pending);

        if (!oldest)
            oldest = fin__list_first(&c->book, &c->submitted);
        if (!oldest)
            break;
        put_to(c, oldest, FIN__FORCE);
        forced = true;
    }
    return forced;
}

/* All that are pending: each turn moves one to the list of those whose end is wanted. */
static void want_all(struct fin_closer *c, enum fin__event_kind kind)
{
    for (struct fin__op *op; (op = fin__list_first(&c->book, &c->pending));)
        put_to(c, op, kind);
}

/* ---- submitting ---- */

static int closer_take(struct fin_closer *c, const struct fin_policy *policy, bool listening,
                       struct fin__op **ret)
{
    const struct fin__plan *plan;
    int result = 0;

    lock(c);
    plan = c->refusing ? NULL : fin__plans_take(&c->plans, policy, listening);
    *ret = plan ? fin__book_take(&c->book) : NULL;
    if (c->refusing)
        result = -ECANCELED;
    else if (!*ret)
        result = -ENOMEM;
    if (*ret)
        (*ret)->machine.plan = plan;
    else if (plan)
        fin__plans_drop(&c->plans, plan);
    closer_unlock(c);
    return result;
}

static void untake(struct fin_closer *c, struct fin__op *op)
{
    lock(c);
    fin__plans_drop(&c->plans, op->machine.plan);
    fin__book_give(&c->book, op);
    closer_unlock(c);
}

static void enqueue(struct fin_closer *c, struct fin__op *op)
{
    uint64_t now = c->backend->now(c->self);
    bool first;

    lock(c);
    c->last_start = now > c->last_start ? now : c->last_start + 1; /* an order, even within 1 ns */
    op->action = (uint8_t) fin__machine_start(&op->machine, op->machine.plan, op->ep.traits,
                                              op->ep.facts, c->last_start);
    (void) keep_cap(c, 1);
    first = c->submitted.head == FIN__NOWHERE;
    op->state = FIN__OP_SUBMITTED;
    fin__list_append(&c->book, &c->submitted, op);
    c->counters.submitted++;
    c->counters.pending++;
    closer_unlock(c);
    if (first)
        c->backend->wake(c->self);
}

int fin__closer_submit(struct fin_closer *c, const struct fin__endpoint *ep,
                       const struct fin_policy *policy, fin_closed_fn closed, void *arg,
                       uint64_t *id)
{
    struct fin__op *op;
    int result = closer_take(c, policy, ep->traits & FIN__LISTENING, &op);

    if (result < 0)
        return result;
    op->ep = *ep;
    op->closed = closed;
    op->arg = arg;
    result = c->backend->reserve(c->self, op, fin__book_id(op));
    if (result < 0) {
        untake(c, op);
        return result;
    }
    fin__endpoint_take_over(&op->ep, op->machine.plan);
    if (id)
        *id = fin__book_id(op);
    enqueue(c, op);
    return 0;
}

int fin_closer_abort(struct fin_closer *c, uint64_t id)
{
    FIN__UNCANCELLED;
    int result = fin__closer_check(c);
    struct fin__op *op;

    if (result < 0)
        return result;
    lock(c);
    op = fin__book_find(&c->book, id);
    if (op && op->state != FIN__OP_TAKEN)
        put_to(c, op, FIN__ABORT);
    else
        result = -ENOENT;
    closer_unlock(c);
    if (result == 0)
        c->backend->wake(c->self);
    return result;
}

/* ---- one close ---- */

static void closer_end(struct fin_closer *c, struct fin__op *op)
{
    assert(c->ended_count < 2 * ENDING_MAX);
    fin__heap_remove(&c->book, op);
    c->ended[c->ended_count++] = op;
}

static void to_be_checked(struct fin_closer *c, struct fin__op *op)
{
    assert(c->checking_count < ENDING_MAX);
    fin__heap_remove(&c->book, op);
    op->seen = false;
    c->checking[c->checking_count++] = op;
}

/* Actions that a peer can make go on and on. */
static bool repeats(enum fin__action action)
{
    return action == FIN__DRAIN || action == FIN__ACCEPT || action == FIN__FLUSH;
}

/* When a close that waits is to be looked at. After the release one read of the witness serves
 * many, so such looks are rounded up to a common time: each comes at most a quarter of its wait
 * late. */
static uint64_t due(const struct fin_closer *c, const struct fin__op *op)
{
    uint64_t at = op->machine.deadline, now, grain = GRAIN_MAX;

    if (!fin__reached(&op->machine, FIN_STAGE_RELEASED))
        return at;
    now = c->backend->now(c->self);
    while (grain > 1 && (at < now || grain > (at - now) / 4))
        grain /= 2;
    return (at + grain - 1) & ~(grain - 1);
}

/* Carries a close on from `action` until it waits, ends, is to be checked with the rest of the
 * batch, or has used up its turn. */
static void advance(struct fin_closer *c, struct fin__op *op, enum fin__action action)
{
    struct fin__event ev;

    for (unsigned steps = 0;; steps++) {
        op->action = (uint8_t) action;
        if (action == FIN__FINISH) {
            closer_end(c, op);
            return;
        }
        if (action == FIN__CHECK) {
            to_be_checked(c, op);
            return;
        }
        if (action == FIN__WAIT && !c->ending) {
            c->backend->watch(c->self, op, fin__book_id(op));
            fin__heap_set(&c->book, op, due(c, op));
            return;
        }
        if (steps >= STEPS && repeats(action)) {
            fin__heap_set(&c->book, op, 0);
            return;
        }
        ev = (struct fin__event) { .kind = FIN__ABORT };
        if (action != FIN__WAIT)
            c->backend->act(c->self, op, action, &ev);
        ev.now = c->backend->now(c->self);
        action = fin__machine_step(&op->machine, &ev);
    }
}

static void closer_tell(struct fin_closer *c, struct fin__op *op, enum fin__event_kind kind,
                        unsigned facts)
{
    struct fin__event ev = { .kind = kind, .facts = facts, .now = c->backend->now(c->self) };

    advance(c, op, fin__machine_step(&op->machine, &ev));
}

/* ---- a dispatch: what there is to do ---- */

static void note_edge(struct fin_closer *c, int i)
{
    struct fin__op *op = fin__book_find(&c->book, c->edges[i].id);
    bool running = op && op->state == FIN__OP_RUNNING;

    c->edged[i] = running ? op : NULL;
    if (op && !running && c->edges[i].input)
        op->missed_edge = true;
}

/* Moves the first of a list to the pending ones. */
static struct fin__op *take_first(struct fin_closer *c, struct fin__list *from)
{
    struct fin__op *op = fin__list_first(&c->book, from);

    if (op) {
        fin__list_remove(&c->book, from, op);
        fin__list_append(&c->book, &c->pending, op);
    }
    return op;
}

static int take_submitted(struct fin_closer *c)
{
    struct fin__op *op;
    int n = 0;

    while (n < BATCH && (op = take_first(c, &c->submitted))) {
        op->state = FIN__OP_RUNNING;
        c->starting[n++] = op;
    }
    return n;
}

static int take_wanted(struct fin_closer *c)
{
    struct fin__op *op;
    int n = 0;

    while (n < BATCH && (op = take_first(c, &c->wanted))) {
        c->wanting[n++] = (struct wanted) {
            .op = op,
            .kind = (enum fin__event_kind) op->wanted,
            .fresh = op->state != FIN__OP_RUNNING,
        };
        op->wanted = 0;
        c->wanted_count--;
        op->state = FIN__OP_RUNNING;
    }
    return n;
}

struct batch {
    int edges, starting, wanting;
    bool more;
};

/* Takes what other threads asked for, and finds the closes of the edges. An edge of a close that
 * has not started is remembered: it will not come again. */
static struct batch closer_collect(struct fin_closer *c)
{
    struct batch batch = { 0 };

    batch.edges = c->backend->poll(c->self, c->edges, BATCH);
    if (batch.edges < 0) {
        c->lost = true;
        batch.edges = 0;
    }
    lock(c);
    if (c->lost)
        want_all(c, FIN__FORCE);
    for (int i = 0; i < batch.edges; i++)
        note_edge(c, i);
    batch.starting = take_submitted(c);
    batch.wanting = take_wanted(c);
    batch.more = c->submitted.head != FIN__NOWHERE || c->wanted.head != FIN__NOWHERE;
    closer_unlock(c);
    return batch;
}

/* ---- a dispatch: doing it ---- */

static void closer_start(struct fin_closer *c, struct fin__op *op)
{
    op->machine.edge_used = op->missed_edge;
    advance(c, op, (enum fin__action) op->action);
}

static void end_wanted(struct fin_closer *c, const struct wanted *wanted)
{
    struct fin__op *op = wanted->op;

    if (wanted->fresh && wanted->kind == FIN__FORCE) /* it may do what it can without waiting */
        closer_start(c, op);
    if (op->action == FIN__WAIT || repeats((enum fin__action) op->action)
        || (wanted->fresh && wanted->kind == FIN__ABORT))
        closer_tell(c, op, wanted->kind, 0);
}

static void deliver(struct fin_closer *c, int i)
{
    struct fin__op *op = c->edged[i];

    if (!op || op->action != FIN__WAIT) /* it has gone on, or ended, since the edge was fetched */
        return;
    if (c->edges[i].facts & FIN__IS_ERROR && op->ep.fd >= 0)
        fin__endpoint_discard_errors(&op->ep);
    closer_tell(c, op, FIN__READY, c->edges[i].facts);
}

static void expire(struct fin_closer *c)
{
    uint64_t now = c->backend->now(c->self);
    int count = 0;

    while (count < BATCH && fin__heap_earliest(&c->book) <= now) {
        c->due[count] = fin__heap_first(&c->book);
        fin__heap_remove(&c->book, c->due[count++]);
    }
    for (int i = 0; i < count; i++) {
        if (c->due[i]->action == FIN__WAIT)
            closer_tell(c, c->due[i], FIN__DEADLINE, 0);
        else
            advance(c, c->due[i], (enum fin__action) c->due[i]->action);
    }
}

static void mark(uint64_t id, uint64_t inode, void *arg)
{
    struct fin_closer *c = arg;
    struct fin__op *op;

    (void) inode;
    lock(c); /* the entry may be one given up, and its slot somebody else's */
    op = fin__book_find(&c->book, id);
    if (op && op->state == FIN__OP_RUNNING)
        op->seen = true;
    closer_unlock(c);
}

static void answer_check(struct fin_closer *c, struct fin__op *op, int result)
{
    struct fin__event ev = { .kind = FIN__FAILED, .now = c->backend->now(c->self) };

    if (result == 0)
        ev.kind = op->seen ? FIN__YES : FIN__NO;
    if (ev.kind == FIN__YES)
        ev.facts = c->backend->follow(c->self, op);
    advance(c, op, fin__machine_step(&op->machine, &ev));
}

/* One read of the witness serves the batch. */
static void closer_check(struct fin_closer *c)
{
    unsigned count = c->checking_count;
    int result;

    if (count == 0)
        return;
    result = c->backend->check(c->self, mark, c);
    c->checking_count = 0; /* no close goes from CHECK to CHECK without waiting */
    for (unsigned i = 0; i < count; i++)
        answer_check(c, c->checking[i], result);
}

/* ---- a dispatch: completions ---- */

/* In the order of submission; nothing is allocated, as qsort(3) might. They are nearly in order. */
static void sort_by_start(struct fin__op **ops, unsigned count)
{
    static const unsigned gaps[] = { 301, 57, 10, 1 };

    for (unsigned g = 0; g < sizeof gaps / sizeof *gaps; g++) {
        for (unsigned i = gaps[g]; i < count; i++) {
            struct fin__op *op = ops[i];
            unsigned to = i;

            for (; to >= gaps[g] && ops[to - gaps[g]]->machine.start > op->machine.start;
                 to -= gaps[g])
                ops[to] = ops[to - gaps[g]];
            ops[to] = op;
        }
    }
}

static void complete(struct fin_closer *c, struct fin__op *op)
{
    struct fin_receipt receipt = FIN_RECEIPT_INIT;
    fin_closed_fn closed = op->closed;
    void *arg = op->arg;

    fin__machine_report(&op->machine, &receipt);
    c->backend->forget(c->self, op, &receipt);
    lock(c);
    fin__list_remove(&c->book, op->wanted ? &c->wanted : &c->pending, op);
    c->wanted_count -= op->wanted != 0;
    fin__plans_drop(&c->plans, op->machine.plan);
    c->counters.completed++;
    c->counters.pending--;
    c->counters.forced += receipt.forced != 0;
    c->counters.outcomes[receipt.outcome]++;
    fin__book_give(&c->book, op);
    closer_unlock(c);
    if (closed)
        closed(&receipt, arg);
}

/* A search of /proc takes milliseconds: one in a dispatch, so that others get their turn. The
 * closes behind it wait for the next one, to keep their order. */
static bool must_wait(const struct fin_closer *c, const struct fin__op *op, unsigned *searches)
{
    bool searched = op->machine.held == FIN_YES && op->machine.plan->find_holders;

    if (searched)
        ++*searches;
    return *searches > 1 && c->ended_count <= ENDING_MAX;
}

static int complete_all(struct fin_closer *c)
{
    unsigned count = c->ended_count, searches = 0, done = 0;
    bool forced;

    sort_by_start(c->ended, count);
    while (done < count && !must_wait(c, c->ended[done], &searches))
        complete(c, c->ended[done++]);
    c->ended_count = count - done;
    memmove(c->ended, c->ended + done, c->ended_count * sizeof *c->ended);
    lock(c);
    forced = keep_cap(c, 0);
    closer_unlock(c);
    if (forced)
        c->backend->wake(c->self);
    return (int) done;
}

/* ---- a dispatch, whole ---- */

static void closer_arm(struct fin_closer *c)
{
    uint64_t deadline = fin__heap_earliest(&c->book);

    /* Waking up a busy closer too early is cheaper than setting its timer for every close. */
    if (deadline < c->armed || deadline == UINT64_MAX || c->armed <= c->backend->now(c->self)) {
        if (deadline != c->armed)
            c->backend->arm(c->self, deadline);
        c->armed = deadline;
    }
}

static int dispatch(struct fin_closer *c)
{
    struct batch batch = closer_collect(c);
    int completed;

    for (int i = 0; i < batch.starting; i++)
        closer_start(c, c->starting[i]);
    for (int i = 0; i < batch.wanting; i++)
        end_wanted(c, &c->wanting[i]);
    for (int i = 0; i < batch.edges; i++)
        deliver(c, i);
    expire(c);
    closer_check(c);
    completed = complete_all(c);
    if (batch.more || batch.edges == BATCH || c->ended_count > 0)
        c->backend->wake(c->self);
    closer_arm(c);
    return c->lost ? -EBADF : completed;
}

static int closer_enter(struct fin_closer *c)
{
    int result = fin__closer_check(c);

    if (result == 0 && c->dispatching)
        result = -EBUSY;
    if (result == 0)
        c->dispatching = true;
    return result;
}

static void closer_leave(struct fin_closer *c)
{
    c->dispatching = false;
    if (c->doomed)
        (void) fin_closer_free(c);
}

int fin_closer_dispatch(struct fin_closer *c)
{
    FIN__UNCANCELLED;
    int result = closer_enter(c);

    if (result < 0)
        return result;
    result = dispatch(c);
    closer_leave(c);
    return result;
}

uint64_t fin_closer_next_deadline(const struct fin_closer *c)
{
    return c ? fin__heap_earliest(&c->book) : UINT64_MAX;
}

int fin_closer_count(struct fin_closer *c, struct fin_closer_counters *counters)
{
    int result = fin__closer_check(c);
    size_t size;

    if (result < 0)
        return result;
    size = counters ? counters->size : 0;
    if (size != sizeof *counters && size != FIN__COUNTERS_OLD)
        return -EINVAL;
    lock(c);
    memcpy(counters, &c->counters, size);
    closer_unlock(c);
    counters->size = size;
    return 0;
}

/* ---- its end ---- */

static void destroy(struct fin_closer *c, bool forked)
{
    c->backend->free(c->self, forked);
    fin__plans_free(&c->plans);
    fin__book_free(&c->book);
    if (!forked) /* its state there is that of another process's threads */
        (void) pthread_mutex_destroy(&c->lock);
    fin__free(c);
}

/* The child has copies of the descriptors; the closes are the parent's. */
static void abandon(struct fin_closer *c)
{
    struct fin__list lists[] = { c->submitted, c->pending, c->wanted };
    for (size_t i = 0; i < sizeof lists / sizeof *lists; i++) {
        struct fin__op *op = fin__list_first(&c->book, &lists[i]);

        for (; op; op = op->next == FIN__NOWHERE ? NULL : fin__book_at(&c->book, op->next)) {
            if (op->machine.stage[FIN_STAGE_RELEASED] < 0)
                fin__drop(&op->ep.fd);
            c->backend->forget(c->self, op, NULL);
        }
    }
    destroy(c, true);
}

static uint64_t pending(struct fin_closer *c)
{
    uint64_t count;

    lock(c);
    count = c->counters.pending;
    closer_unlock(c);
    return count;
}

/* This loop ends: a dispatch takes BATCH of the closes whose end is wanted. While `ending` no
 * close waits any more, so that each is over after its next actions; repeated actions have a
 * deadline. Only completions that submit more closes can prolong it. */
static void end_all(struct fin_closer *c)
{
    lock(c);
    want_all(c, FIN__ABORT);
    closer_unlock(c);
    c->ending = true;
    while (pending(c) > 0)
        (void) dispatch(c);
    c->ending = false;
}

struct fin_closer *fin_closer_free(struct fin_closer *c)
{
    FIN__UNCANCELLED;

    if (!c)
        return NULL;
    if (fin__fork_check(&c->guard) < 0) {
        abandon(c);
        return NULL;
    }
    lock(c);
    c->refusing = true;
    closer_unlock(c);
    c->doomed = true;
    if (c->dispatching) /* called from a completion: done when that dispatch unwinds */
        return NULL;
    c->dispatching = true;
    end_all(c);
    destroy(c, false);
    return NULL;
}

/* Don't rely on the timer: a stray close(2) may have closed it. */
static int ms_until(const struct fin_closer *c, uint64_t now, uint64_t limit)
{
    uint64_t earliest = fin__heap_earliest(&c->book), at = earliest < limit ? earliest : limit;

    return at > now ? (int) ((at - now) / FIN__NS_PER_MS) + 1 : 0;
}

int fin_closer_drain(struct fin_closer *c, int32_t timeout_ms)
{
    FIN__UNCANCELLED;
    uint64_t limit, now, left;
    int result = fin__closer_check(c);

    if (result == 0 && (timeout_ms < 0 || timeout_ms > FIN_TIME_MAX_MS))
        result = -ERANGE;
    if (result == 0)
        result = closer_enter(c);
    if (result < 0)
        return result;
    limit = c->backend->now(c->self) + (uint64_t) timeout_ms * FIN__NS_PER_MS;
    while (pending(c) > 0 && !c->doomed && (now = c->backend->now(c->self)) < limit) {
        if (dispatch(c) == 0)
            c->backend->wait(c->self, ms_until(c, now, limit));
    }
    left = pending(c);
    if (left > 0)
        end_all(c);
    closer_leave(c);
    return (int) left;
}
