/* SPDX-License-Identifier: MIT */

#include "pretend.h"

#include "base/alloc.h"
#include "base/clock.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#define BATCH 256 /* what one dispatch may do of each kind */

struct world world;

void rule(bool holds, const char *name, const struct close *c)
{
    if (!holds && world.broken++ == 0)
        printf("broken: %s; close %d; sequence %s\n", name, c ? (int) c->number : -1,
               world.sequence ? world.sequence : "random");
}

/* ---- memory ---- */

static void *counted_alloc(size_t size)
{
    rule(world.submitting || !world.closer, "nothing is allocated after submit", NULL);
    if (world.starve)
        return NULL;
    world.blocks++;
    return malloc(size);
}

static void counted_free(void *block)
{
    world.blocks--;
    free(block);
}

void world_count_memory(void)
{
    fin__allocator = (struct fin__allocator) { counted_alloc, counted_free };
}

/* ---- the pretended kernel ---- */

static uint64_t now(void *self)
{
    (void) self;
    return world.still ? world.now : world.now++;
}

void world_edge(struct close *c, bool stale)
{
    if (!stale && (c->edge || (!c->watched && !c->released)))
        return;
    c->edge |= !stale;
    world.queue[world.tail++ % EDGES] = (struct edge) { c->number, stale };
}

static int reserve(void *self, struct fin__op *op, uint64_t id)
{
    struct close *c = op->arg;

    (void) self;
    if (world.refuse)
        return -ENOSPC;
    c->op = op;
    c->id = id;
    c->reserved++;
    c->watched = true;
    if (c->room) /* a registration reports what is ready at once */
        world_edge(c, false);
    return 0;
}

static void wake(void *self)
{
    (void) self;
    world.woken = true;
}

static bool is_ready(const struct close *c)
{
    const struct fin__machine *m = &c->op->machine;

    if (c->released)
        return !c->held && c->number & 1; /* odd ones are followed by events */
    return (m->interest & FIN__READ && (c->fin || c->chatter))
        || (m->interest & FIN__WRITE && c->room) || (m->interest & FIN__ACK && c->acked);
}

static void watch(void *self, struct fin__op *op, uint64_t id)
{
    struct close *c = op->arg;
    bool narrow = op->machine.interest == FIN__WRITE;

    (void) self;
    rule(id == c->id, "a close keeps its name", c);
    c->deadline = op->machine.deadline;
    if (!c->released && (narrow || c->narrow) && (c->room || c->fin))
        world_edge(c, false);
    c->narrow = narrow;
}

static bool fetch(struct edge from, struct fin__edge *to)
{
    struct close *c = &world.close[from.close];

    if (!from.stale && !c->edge)
        return false;
    c->cause = true;
    if (!from.stale)
        c->edge = false;
    *to = (struct fin__edge) { .id = c->id, .facts = FIN__IS_WRITABLE };
    to->input = from.stale || c->fin || c->chatter || c->released;
    if (c->kind == BLIND)
        to->facts |= FIN__IS_ERROR;
    return true;
}

/* What may be done in this dispatch, and to whom. */
static void note_causes(void)
{
    world.began = world.now;
    world.due = 0;
    world.last = 0;
    for (unsigned i = 0; i < world.count; i++) {
        struct close *c = &world.close[i];

        if (!c->live)
            continue;
        c->cause = c->op->state != FIN__OP_RUNNING || c->op->wanted || c->op->action != FIN__WAIT;
        world.due += c->op->heap != FIN__NOWHERE && c->deadline <= world.now;
    }
}

static int poll(void *self, struct fin__edge *edges, int max)
{
    int n = 0;

    (void) self;
    note_causes();
    world.woken = false;
    while (n < max && world.head != world.tail)
        n += fetch(world.queue[world.head++ % EDGES], &edges[n]);
    return n;
}

static void drain(struct close *c, struct fin__event *ev)
{
    if (c->chatter > 0) {
        c->chatter--;
        *ev = (struct fin__event) { .kind = FIN__BYTES, .bytes = 1 };
    } else if (c->fin) {
        *ev = (struct fin__event) { .kind = FIN__END, .facts = FIN__IS_FIN };
        ev->facts |= c->acked ? FIN__IS_ACKED : 0;
    } else {
        *ev = (struct fin__event) { .kind = FIN__AGAIN, .interest = FIN__READ };
    }
}

static void let_go(struct close *c, enum fin__action action, struct fin__event *ev)
{
    if (action == FIN__UNWATCH) {
        rule(c->watched, "unwatched once", c);
        c->watched = c->edge = false;
    } else if (action == FIN__WITNESS) {
        rule(!c->witnessed && !c->released, "witnessed once, before release", c);
        c->witnessed = true;
        if (c->kind == BLIND)
            *ev = (struct fin__event) { .kind = FIN__FAILED, .facts = FIN__IS_CONFIRMED };
    } else if (action == FIN__RELEASE) {
        rule(!c->released, "released once", c);
        rule(!c->watched, "unwatched before release", c);
        c->released = true;
        c->held = c->kind == HELD || c->kind == BLIND;
    }
}

static void act(void *self, struct fin__op *op, enum fin__action action, struct fin__event *ev)
{
    struct close *c = op->arg;

    (void) self;
    rule(c->live && c->op == op, "no close is touched after its end", c);
    rule(c->cause || c->deadline <= world.now, "no close goes on without a cause", c);
    *ev = (struct fin__event) { .kind = FIN__DONE };
    if (action == FIN__DRAIN) {
        drain(c, ev);
    } else if (action == FIN__FLUSH && !c->room) {
        *ev = (struct fin__event) { .kind = FIN__AGAIN, .interest = FIN__WRITE, .bytes = 1 };
    } else if (action == FIN__MEASURE) {
        *ev = (struct fin__event) { .kind = FIN__BYTES, .bytes = 1 };
    } else if (action == FIN__LOOK || action == FIN__TALLY) {
        *ev = (struct fin__event) { .kind = FIN__STATE, .bytes = c->shut && !c->acked };
        ev->facts = c->acked ? FIN__IS_ACKED : 0;
    } else if (action == FIN__INSPECT) {
        *ev = (struct fin__event) { .kind = FIN__STATE };
        ev->facts = c->held ? 0 : FIN__IS_FINISHED | FIN__IS_GONE;
    } else if (action == FIN__SHUT) {
        c->shut = true;
    } else {
        let_go(c, action, ev);
    }
}

static int look(void *self, void (*visit)(uint64_t id, uint64_t inode, void *arg), void *arg)
{
    (void) self;
    for (unsigned i = 0; i < world.count; i++) /* entries that were given up are shown too */
        if (world.close[i].held && world.close[i].witnessed && world.close[i].kind == HELD)
            visit(world.close[i].id, 1, arg);
    return 0;
}

static unsigned follow(void *self, struct fin__op *op)
{
    struct close *c = op->arg;

    (void) self;
    return c->number & 1 ? FIN__IS_ANNOUNCED : 0;
}

static void forget(void *self, struct fin__op *op, struct fin_receipt *receipt)
{
    struct close *c = op->arg;

    (void) self;
    rule(c->op == op && c->reserved == 1 && c->forgotten == 0, "forgotten once", c);
    rule(!receipt || c->released, "released before its end", c);
    c->forgotten++;
    c->edge = false;
}

static void arm(void *self, uint64_t deadline)
{
    (void) self;
    world.armed = deadline;
}

bool world_readable(void)
{
    while (world.head != world.tail) {
        struct edge e = world.queue[world.head % EDGES];

        if (e.stale || world.close[e.close].edge)
            return true;
        world.head++;
    }
    return world.woken || world.armed <= world.now;
}

bool world_sleep(uint64_t limit)
{
    if (world_readable())
        return true;
    if (world.armed == UINT64_MAX && limit == UINT64_MAX)
        return false;
    world.now = world.armed < limit ? world.armed : limit;
    return true;
}

static void wait_for_work(void *self, int timeout_ms)
{
    (void) self;
    (void) world_sleep(world.now + (uint64_t) timeout_ms * FIN__NS_PER_MS);
}

static void free_backend(void *self, bool forked)
{
    (void) self;
    rule(forked || world.live == 0, "freed when all have ended", NULL);
    world.gone = true;
}

static const struct fin__backend kernel = {
    .now = now,
    .reserve = reserve,
    .wake = wake,
    .watch = watch,
    .poll = poll,
    .act = act,
    .check = look,
    .follow = follow,
    .forget = forget,
    .arm = arm,
    .wait = wait_for_work,
    .free = free_backend,
};

/* ---- the program ---- */

void world_abort(struct close *c)
{
    int result = fin_closer_abort(world.closer, c->id);

    rule(result == (c->live ? 0 : -ENOENT), "abort finds what is pending, and nothing else", c);
    rule(world.woken || !c->live, "abort wakes", c);
}

static void react(struct close *c)
{
    unsigned next = c->number + 1;

    if (c->reaction == SUBMIT_ANOTHER && world.count < CLOSES) {
        int result = world_submit((enum kind) c->kind, NOTHING);

        rule(result == (world.freeing ? -ECANCELED : 0), "a completion may submit", c);
    } else if (c->reaction == ABORT_NEXT && next < world.count) {
        world_abort(&world.close[next]);
    } else if (c->reaction == DISPATCH) {
        rule(fin_closer_dispatch(world.closer) == -EBUSY, "dispatch in a completion is refused", c);
        rule(fin_closer_drain(world.closer, 1) == -EBUSY, "drain in a completion is refused", c);
    } else if (c->reaction == FREE && !world.freeing) {
        world.freeing = true;
        rule(!fin_closer_free(world.closer), "a completion may free", c);
        rule(!world.gone, "freed when the completion has returned", c);
    }
}

static void closed(const struct fin_receipt *receipt, void *arg)
{
    struct close *c = arg;

    rule(!world.submitting, "no completion inside submit", c);
    rule(++c->completed == 1 && c->live, "completed once", c);
    rule(c->forgotten == 1, "forgotten before its completion", c);
    rule(receipt->stage_ns[FIN_STAGE_RELEASED] >= 0, "the receipt tells of the release", c);
    rule(c->number >= world.last, "completions of a dispatch come in the order of submission", c);
    world.last = c->number;
    world.forced += receipt->forced != 0;
    c->live = false;
    world.live--;
    react(c);
}

static unsigned traits(enum kind kind)
{
    if (kind == DATAGRAM)
        return FIN__SOCKET;
    return FIN__SOCKET | FIN__STREAM | (kind == LAYERED ? FIN__LAYERED : 0u);
}

/* A close is live as soon as it is submitted: edges may come before submit returns. */
int world_submit(enum kind kind, enum reaction reaction)
{
    struct fin__endpoint ep = { .fd = -1, .traits = (uint16_t) traits(kind) };
    struct fin_policy policy = FIN_POLICY_INIT;
    struct close *c = &world.close[world.count];
    bool nested = world.submitting;
    uint64_t id = 0;
    int result;

    *c = (struct close) { .number = world.count, .kind = (uint8_t) kind, .deadline = UINT64_MAX };
    c->reaction = (uint8_t) reaction;
    c->room = kind != LAYERED;
    c->chatter = kind == CHATTY ? 300 : 0;
    if (kind == BLIND)
        policy.proof = FIN_STAGE_FINISHED;
    if (world.count % 5 == 1) /* a policy of its own */
        policy.drain += world.count;
    world.submitting = true;
    world.count++;
    result = fin__closer_submit(world.closer, &ep, &policy, closed, c, &id);
    world.submitting = nested;
    if (result < 0) {
        rule(id == 0 && c->forgotten == 0 && c->completed == 0, "a failed submit leaves it", c);
        world.count--;
        world.tail -=
            world.tail != world.head && world.queue[(world.tail - 1) % EDGES].close == world.count;
        return result;
    }
    rule(id == c->id && id != 0, "submit tells the name", c);
    rule(world.woken, "submit wakes", c);
    c->live = true;
    world.live++;
    world.peak = world.live > world.peak ? world.live : world.peak;
    return 0;
}

bool peer_goes_on(struct close *c, bool really)
{
    bool *next;

    if (c->released)
        next = c->held ? &c->held : NULL;
    else if (!c->room)
        next = &c->room;
    else if (!c->fin)
        next = &c->fin;
    else
        next = c->shut && !c->acked ? &c->acked : NULL;
    if (!next || !really)
        return next;
    *next = !*next;
    c->acked |= c->fin && c->shut;
    if (!(c->narrow && next == &c->fin) && (!c->released || c->number & 1))
        world_edge(c, false);
    return true;
}

/* ---- what must hold whenever the program has its turn ---- */

/* Looks after release may be brought together, each late by this much at most. */
#define TOGETHER (1ull << 24)

static void check_close(struct close *c, uint64_t *earliest, uint64_t *latest)
{
    const struct fin__op *op = c->op;
    bool running = op->state == FIN__OP_RUNNING && op->action != FIN__FINISH;
    bool waits = running && op->action == FIN__WAIT;
    uint64_t deadline = waits ? op->machine.deadline : 0;
    uint64_t end = waits && c->released ? deadline + TOGETHER : deadline;

    rule(fin__book_id(op) == c->id && op->arg == c, "a close keeps its slot", c);
    rule(world.woken || (running && !op->wanted), "what is wanted, or has ended, is seen to", c);
    if (running && deadline < *earliest)
        *earliest = deadline;
    if (running && end < *latest)
        *latest = end;
    if (waits) {
        rule(c->edge || !is_ready(c), "no edge is lost", c);
        rule(world.due > BATCH || op->wanted || end > world.began, "no deadline is missed", c);
    }
}

static void check_all(void)
{
    struct fin_closer_counters counters = FIN_CLOSER_COUNTERS_INIT;
    uint64_t earliest = UINT64_MAX, latest = UINT64_MAX, next;
    uint32_t cap = world.config->cap;

    if (world.gone)
        return;
    for (unsigned i = 0; i < world.count; i++)
        if (world.close[i].live)
            check_close(&world.close[i], &earliest, &latest);
    next = fin_closer_next_deadline(world.closer);
    rule(earliest <= next && next <= latest, "the heap's first is the earliest", NULL);
    rule(world.armed <= next, "the timer is not late", NULL);
    rule(world_readable() || cap == 0 || world.live <= cap, "the cap holds", NULL);
    rule(fin_closer_count(world.closer, &counters) == 0, "counters can be had", NULL);
    rule(counters.submitted == world.count && counters.pending == world.live, "counters agree",
         NULL);
    rule(counters.completed == world.count - world.live && counters.forced == world.forced,
         "counters of completions agree", NULL);
}

void world_dispatch(void)
{
    unsigned before = world.live, count = world.count;
    int result = fin_closer_dispatch(world.closer);

    rule(result >= 0, "dispatch works", NULL);
    if (!world.gone)
        rule(result == (int) (before + world.count - count - world.live), "dispatch counts", NULL);
    check_all();
}

/* ---- one thing after the other ---- */

bool world_can(struct step step)
{
    struct close *c = &world.close[step.close];

    switch (step.letter) {
    case 's':
    case 'n':
    case 'm':
        return world.count < world.config->count;
    case 't':
        return !world_readable() && world.armed != UINT64_MAX;
    case 'd':
        return true;
    case 'a':
        return step.close < world.count && (!c->live || c->op->wanted != FIN__ABORT);
    case 'e':
        return step.close < world.count && c->live && peer_goes_on(c, false);
    default:
        return step.close < world.count && (!c->live || c->released) && world.tail - world.head < 8;
    }
}

void world_submit_next(char letter)
{
    unsigned i = world.count;
    bool fresh = world.blocks == 1; /* the closer itself: no slots yet */
    int want = letter == 'n' ? -ENOSPC : letter == 'm' && fresh ? -ENOMEM : 0;
    int result;

    world.refuse = letter == 'n';
    world.starve = letter == 'm';
    result = world_submit((enum kind) world.config->kind[i % 4],
                          (enum reaction) world.config->reaction[i % 4]);
    world.refuse = world.starve = false;
    rule(result == want || (letter == 'm' && result == -ENOMEM), "submit fails as it must", NULL);
}

void world_take(struct step step)
{
    struct close *c = &world.close[step.close];

    if (step.letter == 's' || step.letter == 'n' || step.letter == 'm')
        world_submit_next(step.letter);
    else if (step.letter == 't')
        (void) world_sleep(UINT64_MAX);
    else if (step.letter == 'd')
        world_dispatch();
    else if (step.letter == 'a')
        world_abort(c);
    else if (step.letter == 'e')
        (void) peer_goes_on(c, true);
    else
        world_edge(c, true);
}

/* ---- a run ---- */

void world_begin(const struct config *config)
{
    struct fin_closer_options options = FIN_CLOSER_OPTIONS_INIT;
    uint64_t broken = world.broken;
    const char *sequence = world.sequence;

    options.cap = config->cap;
    world.closer = NULL;
    world.count = world.live = world.peak = world.head = world.tail = world.forced = 0;
    world.now = 1000;
    world.armed = UINT64_MAX;
    world.woken = world.submitting = world.refuse = world.starve = world.freeing = world.gone =
        world.still = false;
    world.blocks = 0;
    world.broken = broken;
    world.sequence = sequence;
    world.config = config;
    rule(fin__closer_make(&kernel, &world, &options, &world.closer) == 0, "a closer can be made",
         NULL);
}

void world_run_on(void)
{
    while (!world.gone && world.live > 0 && world.broken == 0) {
        if (!world_sleep(UINT64_MAX)) {
            rule(false, "it wakes up as long as something is pending", NULL);
            return;
        }
        world_dispatch();
    }
}

/* The closer itself, its slots, and the policy that was used last. */
static void check_memory(void)
{
    long chunks = (world.peak + FIN__CHUNK_OPS) / FIN__CHUNK_OPS;

    rule(world.gone || world.live > 0 || world.blocks <= 2 + chunks, "no memory is kept", NULL);
}

void world_finish(unsigned how)
{
    unsigned live = world.live;

    if (!world.gone && how % 3 == 0)
        world_run_on();
    check_memory();
    if (!world.gone && how % 3 == 1)
        rule(fin_closer_drain(world.closer, 3) <= (int) (live + world.count), "drain works", NULL);
    if (!world.gone) {
        world.freeing = true;
        rule(!fin_closer_free(world.closer), "free works", NULL);
    }
    for (unsigned i = 0; i < world.count; i++) {
        struct close *c = &world.close[i];

        rule(c->completed == 1, "everything completes", c);
        rule(c->released && !c->watched, "everything is released", c);
        rule(c->reserved == 1 && c->forgotten == 1, "all that was reserved is forgotten", c);
    }
    rule(world.live == 0 && world.gone && world.blocks == 0, "nothing is left", NULL);
}
