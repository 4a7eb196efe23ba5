/* SPDX-License-Identifier: MIT */

/*
 * The closer's bookkeeping over a kernel that only pretends: every short sequence of calls and
 * events, long random ones, thousands of closes. The pretended kernel watches what is done to it
 * and notes each rule that is broken.
 *
 * usage: book [SEED]
 */

#include "base/alloc.h"
#include "base/clock.h"
#include "close/closer.h"

#include <errno.h>
#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#define CLOSES 20000
#define EDGES (4 * CLOSES)
#define BATCH 256 /* what one dispatch may do of each kind */
#define LENGTH 16 /* of a sequence */

enum kind {
    DATAGRAM, /* ends in the first dispatch */
    STREAM,   /* waits for the peer */
    HELD,     /* as STREAM, and after release for a holder */
    LAYERED,  /* as STREAM, and waits for room to send first */
    CHATTY,   /* as STREAM, and its peer sends more than one turn takes */
    BLIND,    /* as HELD, but only sock_diag tells */
};
#define KINDS 6

/* What the program does in a completion. */
enum reaction {
    NOTHING,
    SUBMIT_ANOTHER,
    ABORT_NEXT,
    DISPATCH,
    FREE
};
#define REACTIONS 5

struct close {
    struct fin__op *op;
    uint64_t id, deadline;
    unsigned number, chatter;
    uint8_t kind, reaction;
    bool live;  /* submitted, not completed */
    bool cause; /* something has happened to it that this dispatch may answer */
    bool watched, narrow, witnessed, released, held;
    bool room, fin, shut, acked;
    bool edge; /* is queued */
    unsigned reserved, forgotten, completed;
};

struct edge {
    unsigned close;
    bool stale; /* fetched before the close ended: reported whatever has become of it */
};

static struct world {
    struct fin_closer *closer;
    const struct config *config;
    struct close close[CLOSES];
    unsigned count, live;
    struct edge queue[EDGES];
    unsigned head, tail;
    uint64_t now, armed, began; /* began: the dispatch in hand */
    unsigned due, last, forced;
    bool still; /* the clock stands */
    bool woken, submitting, refuse, starve, freeing, gone;
    long blocks;
    uint64_t broken;
    const char *sequence;
} w;

/* A rule does not hold. The first time says where. */
static void check(bool holds, const char *rule, const struct close *c)
{
    if (!holds && w.broken++ == 0)
        printf("broken: %s; close %d; sequence %s\n", rule, c ? (int) c->number : -1,
               w.sequence ? w.sequence : "random");
}

/* ---- memory ---- */

static void *counted_alloc(size_t size)
{
    check(w.submitting || !w.closer, "nothing is allocated after submit", NULL);
    if (w.starve)
        return NULL;
    w.blocks++;
    return malloc(size);
}

static void counted_free(void *block)
{
    w.blocks--;
    free(block);
}

/* ---- the pretended kernel ---- */

static uint64_t now(void *self)
{
    (void) self;
    return w.still ? w.now : w.now++;
}

static void queue_edge(struct close *c, bool stale)
{
    if (!stale && (c->edge || (!c->watched && !c->released)))
        return;
    c->edge |= !stale;
    w.queue[w.tail++ % EDGES] = (struct edge) { c->number, stale };
}

static int reserve(void *self, struct fin__op *op, uint64_t id)
{
    struct close *c = op->arg;

    (void) self;
    if (w.refuse)
        return -ENOSPC;
    c->op = op;
    c->id = id;
    c->reserved++;
    c->watched = true;
    queue_edge(c, false); /* a registration reports what is ready at once */
    return 0;
}

static void wake(void *self)
{
    (void) self;
    w.woken = true;
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
    check(id == c->id, "a close keeps its name", c);
    c->deadline = op->machine.deadline;
    if (!c->released && (narrow || c->narrow) && (c->room || c->fin))
        queue_edge(c, false);
    c->narrow = narrow;
}

static bool fetch(struct edge from, struct fin__edge *to)
{
    struct close *c = &w.close[from.close];

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
    w.began = w.now;
    w.due = 0;
    w.last = 0;
    for (unsigned i = 0; i < w.count; i++) {
        struct close *c = &w.close[i];

        if (!c->live)
            continue;
        c->cause = c->op->state != FIN__OP_RUNNING || c->op->asked || c->op->action != FIN__WAIT;
        w.due += c->op->heap != FIN__NOWHERE && c->deadline <= w.now;
    }
}

static int poll(void *self, struct fin__edge *edges, int max)
{
    int n = 0;

    (void) self;
    note_causes();
    w.woken = false;
    while (n < max && w.head != w.tail)
        n += fetch(w.queue[w.head++ % EDGES], &edges[n]);
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
        check(c->watched, "unwatched once", c);
        c->watched = c->edge = false;
    } else if (action == FIN__WITNESS) {
        check(!c->witnessed && !c->released, "witnessed once, before release", c);
        c->witnessed = true;
        if (c->kind == BLIND)
            *ev = (struct fin__event) { .kind = FIN__FAILED, .facts = FIN__IS_ASKED };
    } else if (action == FIN__RELEASE) {
        check(!c->released, "released once", c);
        check(!c->watched, "unwatched before release", c);
        c->released = true;
        c->held = c->kind == HELD || c->kind == BLIND;
    }
}

static void act(void *self, struct fin__op *op, enum fin__action action, struct fin__event *ev)
{
    struct close *c = op->arg;

    (void) self;
    check(c->live && c->op == op, "no close is touched after its end", c);
    check(c->cause || c->deadline <= w.now, "no close goes on without a cause", c);
    *ev = (struct fin__event) { .kind = FIN__DONE };
    if (action == FIN__DRAIN) {
        drain(c, ev);
    } else if (action == FIN__FLUSH && !c->room) {
        *ev = (struct fin__event) { .kind = FIN__AGAIN, .interest = FIN__WRITE, .bytes = 1 };
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
    for (unsigned i = 0; i < w.count; i++) /* entries that were given up are shown too */
        if (w.close[i].held && w.close[i].witnessed && w.close[i].kind == HELD)
            visit(w.close[i].id, 1, arg);
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
    check(c->op == op && c->reserved == 1 && c->forgotten == 0, "forgotten once", c);
    check(!receipt || c->released, "released before its end", c);
    c->forgotten++;
    c->edge = false;
}

static void arm(void *self, uint64_t deadline)
{
    (void) self;
    w.armed = deadline;
}

static bool is_readable(void)
{
    while (w.head != w.tail) {
        struct edge e = w.queue[w.head % EDGES];

        if (e.stale || w.close[e.close].edge)
            return true;
        w.head++;
    }
    return w.woken || w.armed <= w.now;
}

/* Time passes until the closer's descriptor is readable. False: it never will be. */
static bool sleep_until(uint64_t limit)
{
    if (is_readable())
        return true;
    if (w.armed == UINT64_MAX && limit == UINT64_MAX)
        return false;
    w.now = w.armed < limit ? w.armed : limit;
    return true;
}

static void wait_for_work(void *self, int timeout_ms)
{
    (void) self;
    (void) sleep_until(w.now + (uint64_t) timeout_ms * FIN__NS_PER_MS);
}

static void free_backend(void *self, bool forked)
{
    (void) self;
    check(forked || w.live == 0, "freed when all have ended", NULL);
    w.gone = true;
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

struct config {
    uint32_t cap;
    unsigned count; /* closes at most */
    uint8_t kind[4], reaction[4];
    unsigned depth; /* of the search */
};

static int submit(enum kind kind, enum reaction reaction);

static void abort_one(struct close *c)
{
    int result = fin_closer_abort(w.closer, c->id);

    check(result == (c->live ? 0 : -ENOENT), "abort finds what is pending, and nothing else", c);
}

static void react(struct close *c)
{
    unsigned next = c->number + 1;

    if (c->reaction == SUBMIT_ANOTHER && w.count < CLOSES) {
        int result = submit((enum kind) c->kind, NOTHING);

        check(result == (w.freeing ? -ECANCELED : 0), "a completion may submit", c);
    } else if (c->reaction == ABORT_NEXT && next < w.count) {
        abort_one(&w.close[next]);
    } else if (c->reaction == DISPATCH) {
        check(fin_closer_dispatch(w.closer) == -EBUSY, "dispatch in a completion is refused", c);
        check(fin_closer_drain(w.closer, 1) == -EBUSY, "drain in a completion is refused", c);
    } else if (c->reaction == FREE && !w.freeing) {
        w.freeing = true;
        check(!fin_closer_free(w.closer), "a completion may free", c);
        check(!w.gone, "freed when the completion has returned", c);
    }
}

static void closed(const struct fin_receipt *receipt, void *arg)
{
    struct close *c = arg;

    check(!w.submitting, "no completion inside submit", c);
    check(++c->completed == 1 && c->live, "completed once", c);
    check(c->forgotten == 1, "forgotten before its completion", c);
    check(receipt->stage_ns[FIN_STAGE_RELEASED] >= 0, "the receipt tells of the release", c);
    check(c->number >= w.last, "completions of a dispatch come in the order of submission", c);
    w.last = c->number;
    w.forced += receipt->forced != 0;
    c->live = false;
    w.live--;
    react(c);
}

static unsigned traits(enum kind kind)
{
    if (kind == DATAGRAM)
        return FIN__SOCKET;
    return FIN__SOCKET | FIN__STREAM | (kind == LAYERED ? FIN__LAYERED : 0u);
}

/* A close is live as soon as it is submitted: edges may come before submit returns. */
static int submit(enum kind kind, enum reaction reaction)
{
    struct fin__endpoint ep = { .fd = -1, .traits = (uint16_t) traits(kind) };
    struct fin_policy policy = FIN_POLICY_INIT;
    struct close *c = &w.close[w.count];
    bool nested = w.submitting;
    uint64_t id = 0;
    int result;

    *c = (struct close) { .number = w.count, .kind = (uint8_t) kind, .deadline = UINT64_MAX };
    c->reaction = (uint8_t) reaction;
    c->room = kind != LAYERED;
    c->chatter = kind == CHATTY ? 300 : 0;
    if (kind == BLIND)
        policy.proof = FIN_STAGE_FINISHED;
    w.submitting = true;
    w.count++;
    result = fin__closer_submit(w.closer, &ep, &policy, closed, c, &id);
    w.submitting = nested;
    if (result < 0) {
        check(id == 0 && c->forgotten == 0 && c->completed == 0, "a failed submit leaves it", c);
        w.count--;
        w.tail -= w.tail != w.head && w.queue[(w.tail - 1) % EDGES].close == w.count;
        return result;
    }
    check(id == c->id && id != 0, "submit tells the name", c);
    c->live = true;
    w.live++;
    return 0;
}

/* The peer does the next thing that it can; nothing is left to do: false. */
static bool peer_goes_on(struct close *c, bool really)
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
        queue_edge(c, false);
    return true;
}

/* ---- what must hold whenever the program has its turn ---- */

static void check_close(struct close *c, uint64_t *earliest)
{
    const struct fin__op *op = c->op;
    bool waits = op->state == FIN__OP_RUNNING && op->action == FIN__WAIT;
    uint64_t deadline = waits ? op->machine.deadline : 0;

    check(fin__book_id(op) == c->id && op->arg == c, "a close keeps its slot", c);
    if (op->state == FIN__OP_RUNNING && deadline < *earliest)
        *earliest = deadline;
    if (waits) {
        check(c->edge || !is_ready(c), "no edge is lost", c);
        check(w.due > BATCH || op->asked || deadline > w.began, "no deadline is missed", c);
    }
}

static void check_all(void)
{
    struct fin_closer_counters counters = FIN_CLOSER_COUNTERS_INIT;
    uint64_t earliest = UINT64_MAX;
    uint32_t cap = w.config->cap;

    if (w.gone)
        return;
    for (unsigned i = 0; i < w.count; i++)
        if (w.close[i].live)
            check_close(&w.close[i], &earliest);
    check(fin_closer_next_deadline(w.closer) == earliest, "the heap's first is the earliest", NULL);
    check(w.armed <= earliest, "the timer is not late", NULL);
    check(is_readable() || cap == 0 || w.live <= cap, "the cap holds", NULL);
    check(fin_closer_count(w.closer, &counters) == 0, "counters can be had", NULL);
    check(counters.submitted == w.count && counters.pending == w.live, "counters agree", NULL);
    check(counters.completed == w.count - w.live && counters.forced == w.forced,
          "counters of completions agree", NULL);
}

static void dispatch(void)
{
    unsigned before = w.live, count = w.count;
    int result = fin_closer_dispatch(w.closer);

    check(result >= 0, "dispatch works", NULL);
    if (!w.gone)
        check(result == (int) (before + w.count - count - w.live), "dispatch counts", NULL);
    check_all();
}

/* ---- a run ---- */

static void begin(const struct config *config)
{
    struct fin_closer_options options = FIN_CLOSER_OPTIONS_INIT;
    uint64_t broken = w.broken;
    const char *sequence = w.sequence;

    options.cap = config->cap;
    w.closer = NULL;
    w.count = w.live = w.head = w.tail = w.forced = 0;
    w.now = 1000;
    w.armed = UINT64_MAX;
    w.woken = w.submitting = w.refuse = w.starve = w.freeing = w.gone = w.still = false;
    w.blocks = 0;
    w.broken = broken;
    w.sequence = sequence;
    w.config = config;
    check(fin__closer_make(&kernel, &w, &options, &w.closer) == 0, "a closer can be made", NULL);
}

/* As a program's loop would: it dispatches when the descriptor is readable, and sleeps else. */
static void run_on(void)
{
    while (!w.gone && w.live > 0 && w.broken == 0) {
        if (!sleep_until(UINT64_MAX)) {
            check(false, "it wakes up as long as something is pending", NULL);
            return;
        }
        dispatch();
    }
}

static void finish(unsigned how)
{
    unsigned live = w.live;

    if (!w.gone && how % 3 == 0)
        run_on();
    if (!w.gone && how % 3 == 1)
        check(fin_closer_drain(w.closer, 3) <= (int) (live + w.count), "drain works", NULL);
    if (!w.gone) {
        w.freeing = true;
        check(!fin_closer_free(w.closer), "free works", NULL);
    }
    for (unsigned i = 0; i < w.count; i++) {
        struct close *c = &w.close[i];

        check(c->completed == 1, "everything completes", c);
        check(c->released && !c->watched, "everything is released", c);
        check(c->reserved == 1 && c->forgotten == 1, "all that was reserved is forgotten", c);
    }
    check(w.live == 0 && w.gone && w.blocks == 0, "nothing is left", NULL);
}

/* ---- every sequence ---- */

/* Letters: s submit, n submit without room, m without memory, t time passes, d dispatch, and with a
 * close's digit: a abort, e the peer goes on, o an edge that was fetched before it ended. */
struct step {
    char letter;
    unsigned close;
};

static bool can(struct step step)
{
    struct close *c = &w.close[step.close];

    switch (step.letter) {
    case 's':
    case 'n':
    case 'm':
        return w.count < w.config->count;
    case 't':
        return !is_readable() && w.armed != UINT64_MAX;
    case 'd':
        return true;
    case 'a':
        return step.close < w.count && (!c->live || c->op->asked != FIN__ABORT);
    case 'e':
        return step.close < w.count && c->live && peer_goes_on(c, false);
    default:
        return step.close < w.count && (!c->live || c->released) && w.tail - w.head < 8;
    }
}

static void submit_next(char letter)
{
    unsigned i = w.count;
    int want = letter == 'n' ? -ENOSPC : letter == 'm' && w.count == 0 ? -ENOMEM : 0;
    int result;

    w.refuse = letter == 'n';
    w.starve = letter == 'm';
    result = submit((enum kind) w.config->kind[i % 4], (enum reaction) w.config->reaction[i % 4]);
    w.refuse = w.starve = false;
    check(result == want || (letter == 'm' && result == -ENOMEM), "submit fails as it must", NULL);
}

static void take(struct step step)
{
    struct close *c = &w.close[step.close];

    if (step.letter == 's' || step.letter == 'n' || step.letter == 'm')
        submit_next(step.letter);
    else if (step.letter == 't')
        (void) sleep_until(UINT64_MAX);
    else if (step.letter == 'd')
        dispatch();
    else if (step.letter == 'a')
        abort_one(c);
    else if (step.letter == 'e')
        (void) peer_goes_on(c, true);
    else
        queue_edge(c, true);
}

/* ---- states that have been seen ---- */

#define SEEN (1u << 20)
static struct {
    uint64_t state;
    unsigned left;
} seen[SEEN];

static uint64_t runs, states;

static void mix(uint64_t *hash, uint64_t value)
{
    *hash = (*hash ^ value) * UINT64_C(0x9e3779b97f4a7c15);
    *hash ^= *hash >> 29;
}

static uint64_t span(uint64_t at)
{
    return at == UINT64_MAX ? at : at <= w.now ? 0 : (at - w.now) / 1000 + 1;
}

static void mix_close(uint64_t *hash, const struct close *c)
{
    const struct fin__machine *m = &c->op->machine;

    mix(hash,
        (uint64_t) c->live << 8 | (uint64_t) c->watched << 7 | (uint64_t) c->narrow << 6
            | (uint64_t) c->released << 5 | (uint64_t) c->held << 4 | (uint64_t) c->room << 3
            | (uint64_t) c->fin << 2 | (uint64_t) c->acked << 1 | c->edge);
    mix(hash, c->id);
    if (!c->live)
        return;
    mix(hash,
        (uint64_t) c->op->state << 40 | (uint64_t) c->op->asked << 32
            | (uint64_t) c->op->action << 24 | (uint64_t) m->place << 16
            | (uint64_t) m->interest << 8 | c->op->missed_edge);
    mix(hash, (uint64_t) c->op->next << 32 | c->op->prev);
    mix(hash, (uint64_t) c->op->heap << 32 | m->pauses);
    mix(hash, (uint64_t) m->outcome << 16 | (uint64_t) m->forced << 8 | m->edge_used);
    mix(hash, c->chatter);
    mix(hash, span(m->deadline));
}

/* True if a state like this one was expanded with as many steps left. */
static bool seen_before(unsigned left)
{
    uint64_t hash = w.count;
    size_t i;

    for (unsigned n = 0; n < w.count; n++)
        mix_close(&hash, &w.close[n]);
    mix(&hash, span(w.armed) << 1 | w.woken);
    for (unsigned n = w.head; n != w.tail; n++)
        mix(&hash, (uint64_t) w.queue[n % EDGES].close << 1 | w.queue[n % EDGES].stale);
    hash |= 1;
    for (i = hash % SEEN; seen[i].state && seen[i].state != hash;)
        i = (i + 1) % SEEN;
    if (seen[i].state && seen[i].left >= left)
        return true;
    states += seen[i].state == 0;
    seen[i].state = hash;
    seen[i].left = left;
    return false;
}

static const char letters[] = "snmtdaeo";

/* Replays the sequence from the start (a closer can't be copied), ends it in one of three ways, and
 * returns the steps that were possible. */
static unsigned replay(const struct step *steps, unsigned length, struct step *next)
{
    unsigned count = 0;

    runs++;
    begin(w.config);
    for (unsigned i = 0; i < length && !w.gone; i++)
        take(steps[i]);
    if (!w.gone && length < w.config->depth && !seen_before(w.config->depth - length))
        for (const char *letter = letters; *letter; letter++)
            for (unsigned i = 0; i < (strchr("aeo", *letter) ? w.config->count : 1u); i++)
                if (can((struct step) { *letter, i }))
                    next[count++] = (struct step) { *letter, i };
    finish((unsigned) runs);
    return count;
}

static void search(struct step *steps, char *text, unsigned length)
{
    struct step next[32];
    unsigned count = replay(steps, length, next);

    for (unsigned i = 0; i < count && w.broken == 0; i++) {
        steps[length] = next[i];
        text[2 * length] = next[i].letter;
        text[2 * length + 1] = (char) ('0' + next[i].close);
        text[2 * length + 2] = '\0';
        search(steps, text, length + 1);
    }
    text[2 * length] = '\0';
}

static void search_all(const struct config *configs, size_t count)
{
    struct step steps[LENGTH];
    char text[2 * LENGTH + 1] = "";

    runs = states = 0;
    w.sequence = text;
    for (size_t i = 0; i < count && w.broken == 0; i++) {
        memset(seen, 0, sizeof seen);
        w.config = &configs[i];
        search(steps, text, 0);
    }
    w.sequence = NULL;
    printf("%" PRIu64 " sequences, %" PRIu64 " states\n", runs, states);
    assert_int_equal(w.broken, 0);
}

#define NONE                                                                                       \
    {                                                                                              \
        NOTHING, NOTHING, NOTHING, NOTHING                                                         \
    }

static void every_kind(void **state)
{
    struct config configs[KINDS] = { 0 };

    (void) state;
    for (unsigned i = 0; i < KINDS; i++)
        configs[i] = (struct config) { 0, 2, { (uint8_t) i, (uint8_t) i }, NONE, 9 };
    search_all(configs, KINDS);
}

static void every_mixture(void **state)
{
    static const struct config configs[] = {
        { 0, 3, { STREAM, DATAGRAM, HELD }, NONE, 8 },
        { 0, 3, { LAYERED, CHATTY, BLIND }, NONE, 8 },
        { 0, 4, { HELD, STREAM, LAYERED, DATAGRAM }, NONE, 8 },
    };

    (void) state;
    search_all(configs, sizeof configs / sizeof *configs);
}

static void every_cap(void **state)
{
    static const struct config configs[] = {
        { 1, 3, { DATAGRAM, DATAGRAM, DATAGRAM }, NONE, 8 },
        { 1, 3, { STREAM, HELD, STREAM }, NONE, 8 },
        { 1, 3, { CHATTY, LAYERED, CHATTY }, NONE, 8 },
        { 2, 4, { HELD, STREAM, BLIND, LAYERED }, NONE, 8 },
    };

    (void) state;
    search_all(configs, sizeof configs / sizeof *configs);
}

/* Each reaction in the completion of the first and of the second close. */
static void every_reaction(void **state)
{
    struct config configs[2 * (REACTIONS - 1)] = { 0 };
    unsigned count = 0;

    (void) state;
    for (unsigned i = SUBMIT_ANOTHER; i < REACTIONS; i++)
        for (unsigned which = 0; which < 2; which++) {
            struct config *c = &configs[count++];

            *c = (struct config) { 0, 3, { DATAGRAM, STREAM, HELD }, NONE, 7 };
            c->reaction[which] = (uint8_t) i;
        }
    search_all(configs, count);
}

/* ---- long random runs ---- */

static uint64_t seed;

static unsigned random_below(unsigned limit)
{
    seed ^= seed << 13;
    seed ^= seed >> 7;
    seed ^= seed << 17;
    return (unsigned) ((seed >> 11) % limit);
}

static void random_close_step(void)
{
    struct step step = { "aeeeeeeo"[random_below(8)], 0 };
    unsigned back = w.count < 6000 ? w.count : 6000;

    if (w.count == 0)
        return;
    step.close = w.count - 1 - random_below(back);
    if (can(step))
        take(step);
}

static void random_step(unsigned crowd)
{
    unsigned dice = random_below(1000);

    if (dice < 400 && w.count < w.config->count && w.live < crowd) {
        enum reaction reaction = random_below(8) ? NOTHING : random_below(FREE);

        check(submit((enum kind) random_below(KINDS), reaction) == 0, "submit works", NULL);
    } else if (dice < 402 && w.count < w.config->count) {
        submit_next(dice & 1 ? 'n' : 'm');
    } else if (dice < 980) {
        random_close_step();
    } else if (sleep_until(w.now + random_below(5) * FIN__NS_PER_MS)) {
        dispatch();
    }
}

static void random_run(const struct config *config, unsigned crowd)
{
    begin(config);
    while (w.count < config->count && w.broken == 0)
        random_step(crowd);
    finish(random_below(3));
}

/* Crowds that come and go, over more than a batch, within one closer. */
static void a_crowd(void **state)
{
    static const struct config configs[] = {
        { .count = CLOSES / 2 },
        { .count = CLOSES / 4, .cap = 700 },
    };

    (void) state;
    for (unsigned i = 0; i < 2; i++)
        random_run(&configs[i], 3000);
    assert_int_equal(w.broken, 0);
}

static void many_small_runs(void **state)
{
    struct config config = { 0 };

    (void) state;
    for (unsigned i = 0; i < 3000 && w.broken == 0; i++) {
        config.cap = random_below(3) ? 0 : 1 + random_below(6);
        config.count = 1 + random_below(12);
        random_run(&config, config.count);
    }
    assert_int_equal(w.broken, 0);
}

/* ---- single facts ---- */

/* Closes that are asked for at one instant, by a clock that does not move on. */
static void a_clock_that_stands(void **state)
{
    static const struct config config = { .count = 5 };

    (void) state;
    begin(&config);
    w.still = true;
    for (unsigned i = 0; i < 5; i++)
        assert_int_equal(submit(DATAGRAM, NOTHING), 0);
    dispatch();
    run_on();
    finish(0);
    assert_int_equal(w.broken, 0);
}

static void memory_of_a_close(void **state)
{
    (void) state;
    printf("%zu bytes for each close\n", sizeof(struct fin__chunk) / FIN__CHUNK_OPS);
    assert_true(sizeof(struct fin__chunk) <= 256 * FIN__CHUNK_OPS);
}

static int in_child(void)
{
    struct fin_closer_counters counters = FIN_CLOSER_COUNTERS_INIT;
    unsigned forgotten = 0;

    check(fin_closer_dispatch(w.closer) == -ECHILD, "no dispatch in a child", NULL);
    check(fin_closer_drain(w.closer, 0) == -ECHILD, "no drain in a child", NULL);
    check(fin_closer_abort(w.closer, w.close[0].id) == -ECHILD, "no abort in a child", NULL);
    check(fin_closer_count(w.closer, &counters) == -ECHILD, "no count in a child", NULL);
    for (unsigned i = 0; i < w.count; i++) /* whatever is done to one would be without a cause */
        w.close[i].cause = false;
    fin_closer_free(w.closer);
    for (unsigned i = 0; i < w.count; i++)
        forgotten += w.close[i].forgotten;
    check(forgotten == w.count && w.blocks == 0, "a child can free its copy", NULL);
    return w.broken > 0;
}

static void a_forked_child(void **state)
{
    static const struct config config = { .count = 8 };
    int status = -1;
    pid_t child;

    (void) state;
    begin(&config);
    for (unsigned i = 0; i < 8; i++) {
        if (i == 4) /* some have started, some not */
            dispatch();
        assert_int_equal(submit(i & 1 ? HELD : STREAM, NOTHING), 0);
    }
    assert_int_equal(fin_closer_abort(w.closer, w.close[1].id), 0);
    child = fork();
    if (child == 0)
        _exit(in_child());
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
    finish(0);
    assert_int_equal(w.broken, 0);
}

static int forgive(void **state)
{
    (void) state;
    w.broken = 0;
    return 0;
}

#define TEST(name) cmocka_unit_test_setup(name, forgive)

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        TEST(memory_of_a_close), TEST(a_clock_that_stands), TEST(a_forked_child),
        TEST(every_kind),        TEST(every_mixture),       TEST(every_cap),
        TEST(every_reaction),    TEST(many_small_runs),     TEST(a_crowd),
    };

    seed = argc > 1 ? strtoull(argv[1], NULL, 0) | 1 : 0x66696e61636b;
    fin__allocator = (struct fin__allocator) { counted_alloc, counted_free };
    return cmocka_run_group_tests_name("book", tests, NULL, NULL);
}
