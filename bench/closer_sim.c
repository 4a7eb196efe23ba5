/* SPDX-License-Identifier: MIT */

/*
 * The closer over a kernel that only pretends: 10^3 to 10^6 closes pending, events for them in
 * random order, deadlines that move and pass.
 *
 * Every other close has a layer with bytes to flush, whose deadline moves with each event. A close
 * gets two events in a second of the pretended clock, on the average; many don't come to their end
 * in time. One that has completed is replaced, off the clock, so that the number stays. What is
 * timed is fin_closer_dispatch(), and all it does is charged to the events of sockets.
 */

#include "closer_parts.h"

#include "base/alloc.h"
#include "close/closer.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#define SIZES 4
#define ROUNDS 5
#define EVENTS 1000000 /* in a round */
#define WARM_UP 3000000
#define BATCH 256
#define PIECES 3 /* of what a layer has to flush */
#define NS_PER_S 1000000000ull

/* ---- memory ---- */

struct header {
    size_t size;
    size_t pad; /* alignment */
};

static size_t allocated;

static void *count_alloc(size_t size)
{
    struct header *block = malloc(sizeof *block + size);

    if (!block)
        return NULL;
    block->size = size;
    allocated += size;
    return block + 1;
}

static void count_free(void *memory)
{
    struct header *block = (struct header *) memory - 1;

    allocated -= block->size;
    free(block);
}

void counting_start(void)
{
    fin__allocator.alloc = count_alloc;
    fin__allocator.free = count_free;
}

size_t counted_bytes(void)
{
    return allocated;
}

/* ---- the pretended kernel ---- */

struct pretender {
    struct fin_closer *closer;
    size_t size;
    uint64_t *ids;    /* of the pending closes; 0: it has completed */
    uint32_t *vacant; /* which have */
    uint32_t *used;   /* in which batch one had its last event */
    size_t vacancies;
    uint32_t batch;
    uint64_t now, pace; /* pace: between two events */
    uint64_t random;
    uint64_t completions, late;
    struct fin__edge edges[BATCH]; /* of the next dispatch */
    int edge_count;
    bool over;
};

static uint64_t now(void *self)
{
    return ((struct pretender *) self)->now;
}

static int reserve(void *self, struct fin__op *op, uint64_t id)
{
    (void) self;
    (void) op;
    (void) id;
    return 0;
}

static void wake(void *self)
{
    (void) self;
}

static void watch(void *self, struct fin__op *op, uint64_t id)
{
    (void) self;
    (void) op;
    (void) id;
}

static int poll_edges(void *self, struct fin__edge *edges, int max)
{
    struct pretender *p = self;
    int n = p->edge_count < max ? p->edge_count : max;

    memcpy(edges, p->edges, (size_t) n * sizeof *edges);
    p->edge_count = 0;
    return n;
}

/* How far the peer of a close has come; the pointer is the backend's to use. */
enum script {
    SILENT,
    ACKED,
    HAS_SENT,
    HAS_NO_MORE
};

static void advance_script(struct fin__op *op, enum script to)
{
    op->follow = (char *) NULL + to;
}

static void drain(struct fin__op *op, struct fin__event *ev)
{
    enum script at = (enum script)((char *) op->follow - (char *) NULL);

    *ev = (struct fin__event) { .kind = FIN__AGAIN, .interest = FIN__READ };
    if (at == ACKED) {
        *ev = (struct fin__event) { .kind = FIN__BYTES, .bytes = 100 };
        advance_script(op, HAS_SENT);
    } else if (at == HAS_SENT) {
        advance_script(op, HAS_NO_MORE);
    } else if (at == HAS_NO_MORE) {
        *ev = (struct fin__event) { .kind = FIN__END, .facts = FIN__IS_FIN | FIN__IS_ACKED };
    }
}

static void flush(const struct fin__op *op, struct fin__event *ev)
{
    uint64_t left = op->machine.unsent;

    ev->interest = FIN__WRITE;
    ev->bytes = left == 0 ? PIECES : left - 1;
    ev->kind = ev->bytes > 0 ? FIN__AGAIN : FIN__DONE;
}

/* The queue of a layered close shrinks while it lingers, twice, so that it gets its time anew. */
static void tally(const struct fin__op *op, struct fin__event *ev)
{
    uint32_t last = op->machine.outstanding;

    ev->kind = FIN__STATE;
    ev->bytes = last == UINT32_MAX ? 2 : last / 2;
}

static void act(void *self, struct fin__op *op, enum fin__action action, struct fin__event *ev)
{
    (void) self;
    *ev = (struct fin__event) { .kind = FIN__DONE };
    switch (action) {
    case FIN__FLUSH:
        flush(op, ev);
        break;
    case FIN__DRAIN:
        drain(op, ev);
        break;
    case FIN__LOOK:
        *ev = (struct fin__event) { .kind = FIN__STATE, .facts = FIN__IS_ACKED };
        advance_script(op, ACKED);
        break;
    case FIN__TALLY:
        tally(op, ev);
        break;
    default:
        break;
    }
}

static int check(void *self, void (*visit)(uint64_t id, uint64_t inode, void *arg), void *arg)
{
    (void) self;
    (void) visit;
    (void) arg;
    return 0; /* nobody is held */
}

static unsigned follow(void *self, struct fin__op *op)
{
    (void) self;
    (void) op;
    return 0;
}

static void forget(void *self, struct fin__op *op, struct fin_receipt *receipt)
{
    (void) self;
    (void) op;
    (void) receipt;
}

static void arm(void *self, uint64_t deadline)
{
    (void) self;
    (void) deadline;
}

static void wait_for_work(void *self, int timeout_ms)
{
    (void) self;
    (void) timeout_ms;
}

static void free_nothing(void *self, bool forked)
{
    (void) self;
    (void) forked;
}

static const struct fin__backend backend = {
    .now = now,
    .reserve = reserve,
    .wake = wake,
    .watch = watch,
    .poll = poll_edges,
    .act = act,
    .check = check,
    .follow = follow,
    .forget = forget,
    .arm = arm,
    .wait = wait_for_work,
    .free = free_nothing,
};

/* ---- the closes ---- */

static struct pretender pretenders[SIZES];

static void closed(const struct fin_receipt *receipt, void *arg)
{
    uint64_t *id = arg;
    struct pretender *p = pretenders;

    while (id < p->ids || id >= p->ids + p->size)
        p++;
    if (p->over)
        return;
    *id = 0;
    p->vacant[p->vacancies++] = (uint32_t) (id - p->ids);
    p->completions++;
    p->late += receipt->outcome == FIN_OUTCOME_TIMED_OUT;
}

static void submit(struct pretender *p, size_t i)
{
    struct fin_policy policy = FIN_POLICY_INIT;
    struct fin__endpoint ep = {
        .fd = -1, /* no family either: nothing is to touch it */
        .traits = i % 2 ? FIN__STREAM : FIN__STREAM | FIN__LAYERED,
        .facts = i % 2 ? 0 : FIN__IS_OUTSTANDING,
    };
    int result = fin__closer_submit(p->closer, &ep, &policy, closed, &p->ids[i], &p->ids[i]);

    if (result < 0)
        bench_die("fin__closer_submit: %s", strerror(-result));
}

static void refill(struct pretender *p)
{
    while (p->vacancies > 0)
        submit(p, p->vacant[--p->vacancies]);
}

/* xorshift64*: Vigna, An experimental exploration of Marsaglia's xorshift generators */
static size_t pick(struct pretender *p)
{
    p->random ^= p->random >> 12;
    p->random ^= p->random << 25;
    p->random ^= p->random >> 27;
    return (size_t) (((p->random * 2685821657736338717u) >> 32) * p->size >> 32);
}

/* An event each for BATCH different closes. */
static void prepare(struct pretender *p)
{
    p->batch++;
    while (p->edge_count < BATCH) {
        size_t i = pick(p);

        if (p->used[i] == p->batch)
            continue;
        p->used[i] = p->batch;
        p->edges[p->edge_count++] = (struct fin__edge) { p->ids[i], FIN__IS_WRITABLE, true };
    }
    p->now += p->pace * BATCH;
}

/* Nanoseconds an event. */
static double run(struct pretender *p, size_t events)
{
    uint64_t spent = 0, start;

    for (size_t i = 0; i < events; i += BATCH) {
        prepare(p);
        start = monotonic_ns();
        (void) fin_closer_dispatch(p->closer);
        spent += monotonic_ns() - start;
        refill(p);
    }
    return (double) spent / (double) events;
}

struct costs {
    double fixed, each, submit_ns;
};

static struct costs begin(struct pretender *p, size_t size)
{
    size_t before = counted_bytes(), first = 0;
    size_t whole = size - size % FIN__CHUNK_OPS; /* the last chunk is not used up */
    struct costs costs = { 0 };
    uint64_t start;

    *p = (struct pretender) { .size = size, .random = 88172645463325252u, .now = NS_PER_S };
    p->pace = NS_PER_S / 2 / size;
    p->ids = calloc(size, sizeof *p->ids);
    p->vacant = calloc(size, sizeof *p->vacant);
    p->used = calloc(size, sizeof *p->used);
    if (!p->ids || !p->vacant || !p->used || fin__closer_make(&backend, p, NULL, &p->closer) < 0)
        bench_die("out of memory");
    costs.fixed = (double) (counted_bytes() - before);
    start = monotonic_ns();
    for (size_t i = 0; i < size; i++) {
        submit(p, i);
        if (i + 1 == FIN__CHUNK_OPS)
            first = counted_bytes();
        if (i + 1 == whole)
            costs.each = (double) (counted_bytes() - first) / (double) (whole - FIN__CHUNK_OPS);
    }
    costs.submit_ns = (double) (monotonic_ns() - start) / (double) size;
    return costs;
}

static void end(struct pretender *p)
{
    p->over = true;
    (void) fin_closer_free(p->closer);
    free(p->ids);
    free(p->vacant);
    free(p->used);
}

static void report_all(double ns[SIZES][ROUNDS], const struct costs *costs, struct report *report)
{
    static const char *const names[SIZES] = { "closer.sim.us/1e3", "closer.sim.us/1e4",
                                              "closer.sim.us/1e5", "closer.sim.us/1e6" };
    const struct costs *most = &costs[SIZES - 1];
    struct row bytes = { "closer.sim.bytes", most->each, most->each, most->each, 256 };
    double ratios[ROUNDS];
    struct row row;

    for (int i = 0; i < ROUNDS; i++)
        ratios[i] = ns[SIZES - 1][i] / ns[0][i];
    row = report_row("closer.sim/1e6-1e3", ratios, ROUNDS, 10);
    report_add(report, &row, NULL);
    for (int size = 0; size < SIZES; size++) {
        struct pretender *p = &pretenders[size];

        for (int i = 0; i < ROUNDS; i++)
            ratios[i] = ns[size][i] / 1e3;
        row = report_row(names[size], ratios, ROUNDS, size == SIZES - 1 ? 0.5 : NO_LIMIT);
        report_add(report, &row,
                   json_pack("{s:f, s:f}", "submit_us", costs[size].submit_ns / 1e3, "timed_out",
                             (double) p->late / (double) p->completions));
    }
    report_add(report, &bytes, json_pack("{s:f}", "fixed_bytes", most->fixed));
}

void bench_simulation(struct report *report)
{
    static const size_t sizes[SIZES] = { 1000, 10000, 100000, 1000000 };
    static double ns[SIZES][ROUNDS];
    struct costs costs[SIZES];

    for (int i = 0; i < SIZES; i++) {
        costs[i] = begin(&pretenders[i], sizes[i]);
        (void) run(&pretenders[i], WARM_UP);
    }
    for (int round = 0; round < ROUNDS; round++)
        for (int i = 0; i < SIZES; i++)
            ns[i][round] = run(&pretenders[i], EVENTS);
    report_all(ns, costs, report);
    for (int i = 0; i < SIZES; i++)
        end(&pretenders[i]);
}
