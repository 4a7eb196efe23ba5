/* SPDX-License-Identifier: MIT */

#include "explore.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct step {
    enum fin__action action; /* asked for */
    struct fin__event event; /* and answered */
};

struct trace {
    struct config config;
    unsigned length; /* 0: none */
    enum fin__action last;
    struct step steps[MAX_DEPTH];
};

/* A state seen in this run, by 128 bits of hash, of which 16 tell the run instead. */
struct entry {
    uint64_t high, low;
};

struct explorer {
    step_fn *step;
    const struct config *config;
    bool exactly;
    uint16_t run;
    struct entry *seen;
    size_t room, used;
    struct entry path[MAX_DEPTH]; /* states on the way to here */
    uint64_t path_now[MAX_DEPTH];
    struct step steps[MAX_DEPTH];
    struct fin__event *events;
    size_t events_top;
    struct coverage coverage;
    struct trace traces[RULES];
};

/* ---- the set of states ---- */

static uint64_t mix(uint64_t hash, uint64_t word)
{
    hash = (hash ^ word) * UINT64_C(0x9e3779b97f4a7c15);
    return hash ^ hash >> 29;
}

static void hash_bytes(struct entry *e, const void *data, size_t size)
{
    const unsigned char *bytes = data;

    for (size_t i = 0; i < size; i += sizeof(uint64_t)) {
        uint64_t word = 0;

        memcpy(&word, bytes + i, size - i < sizeof word ? size - i : sizeof word);
        e->high = mix(e->high, word);
        e->low = mix(e->low + UINT64_C(0xd1b54a32d192ed03), word);
    }
}

/* States that differ only in what the machine writes and never decides by are one: the times of
 * stages (but for released) and which error it was. monitor_step() checks these as they are written
 * and that they never change, so nothing is missed; explore_exactly() does without. */
static void abstract(struct fin__machine *m)
{
    for (int i = 0; i < FIN_STAGES; i++)
        if (m->stage[i] >= 0 && i != FIN_STAGE_RELEASED)
            m->stage[i] = 0;
    m->error = m->error != 0;
}

static struct entry key_of(const struct explorer *x, const struct node *node)
{
    struct fin__machine machine;
    struct monitor monitor;
    uint64_t rest[2] = { node->now, node->action };
    struct entry e = { 1, 2 };

    memcpy(&machine, &node->machine, sizeof machine);
    memcpy(&monitor, &node->monitor, sizeof monitor);
    if (!x->exactly)
        abstract(&machine);
    monitor.phase_before = 0;
    monitor.broken = 0;
    hash_bytes(&e, &machine, sizeof machine);
    hash_bytes(&e, &monitor, sizeof monitor);
    hash_bytes(&e, rest, sizeof rest);
    e.low = (e.low & ~UINT64_C(0xffff)) | x->run;
    return e;
}

static bool of_this_run(const struct explorer *x, const struct entry *e)
{
    return (e->low & 0xffff) == x->run;
}

static struct entry *find(const struct explorer *x, const struct entry *e)
{
    size_t i = e->high & (x->room - 1);

    while (of_this_run(x, &x->seen[i]) &&
           (x->seen[i].high != e->high || x->seen[i].low != e->low))
        i = (i + 1) & (x->room - 1);
    return &x->seen[i];
}

static void grow(struct explorer *x)
{
    struct entry *old = x->seen;
    size_t room = x->room;

    x->room = room ? room * 2 : 1 << 12;
    x->seen = calloc(x->room, sizeof *x->seen);
    assert(x->seen);
    for (size_t i = 0; i < room; i++)
        if (of_this_run(x, &old[i]))
            *find(x, &old[i]) = old[i];
    free(old);
}

/* False if it was there already. */
static bool insert(struct explorer *x, const struct entry *e)
{
    struct entry *place = find(x, e);

    if (of_this_run(x, place))
        return false;
    *place = *e;
    if (++x->used * 2 > x->room)
        grow(x);
    return true;
}

static bool on_path(const struct explorer *x, const struct entry *e, uint64_t now, unsigned depth)
{
    while (depth-- > 0 && x->path_now[depth] == now)
        if (x->path[depth].high == e->high && x->path[depth].low == e->low)
            return true;
    return false;
}

/* ---- what is kept of a run ---- */

static void keep_trace(struct explorer *x, enum rule rule, unsigned depth, enum fin__action last)
{
    struct trace *trace = &x->traces[rule];

    if (trace->length && trace->length <= depth)
        return;
    trace->config = *x->config;
    trace->length = depth;
    trace->last = last;
    memcpy(trace->steps, x->steps, depth * sizeof *x->steps);
}

/* `depth`: how many steps led here. */
static void collect(struct explorer *x, struct node *node, unsigned depth)
{
    for (unsigned rule = 0; rule < RULES; rule++) {
        if (!(node->monitor.broken & UINT64_C(1) << rule))
            continue;
        x->coverage.violations[rule]++;
        keep_trace(x, rule, depth, node->action);
    }
    node->monitor.broken = 0;
}

static void cover(struct explorer *x, const struct node *node)
{
    struct coverage *c = &x->coverage;

    c->places |= UINT64_C(1) << node->machine.place;
    c->actions |= UINT64_C(1) << node->action;
    if (node->monitor.late_waits > c->late_waits)
        c->late_waits = node->monitor.late_waits;
    if (node->action != FIN__FINISH)
        return;
    c->ends++;
    c->finished_place = node->machine.place;
    c->outcomes |= UINT64_C(1) << node->receipt.outcome;
    c->end_values |= UINT64_C(1) << node->receipt.end;
    for (int i = 0; i < FIN_STAGES; i++)
        if (node->receipt.stage_ns[i] >= 0)
            c->stages |= UINT64_C(1) << i;
}

/* ---- one step ---- */

static void watch_action(struct node *node)
{
    const struct fin__machine *m = &node->machine;
    struct view view = { node->action, m->deadline, m->drain_left, node->now, m->interest };

    monitor_action(&node->monitor, &view);
    if (node->action == FIN__FINISH)
        monitor_end(&node->monitor, &node->receipt);
}

static void count_wakes(struct node *node, const struct node *from, const struct fin__event *ev)
{
    if (ev->now != from->now)
        node->monitor.wakes = 0;
    else if (ev->kind == FIN__READY)
        node->monitor.wakes++;
}

static void answer(const struct explorer *x, struct node *to, const struct node *from,
                   const struct fin__event *ev)
{
    memcpy(to, from, sizeof *to); /* padding too: states are compared as bytes */
    count_wakes(to, from, ev);
    monitor_event(&to->monitor, from->action, ev);
    to->now = ev->now;
    to->action = x->step(&to->machine, ev);
    fin__machine_report(&to->machine, &to->receipt);
    monitor_step(&to->monitor, &from->receipt, &to->receipt, ev);
    watch_action(to);
}

static void visit(struct explorer *x, struct node *node, unsigned depth);

static void follow(struct explorer *x, const struct node *from, const struct fin__event *ev,
                   unsigned depth)
{
    struct node to;

    x->steps[depth] = (struct step) { from->action, *ev };
    x->coverage.transitions++;
    x->coverage.events[from->action] |= UINT64_C(1) << ev->kind;
    answer(x, &to, from, ev);
    visit(x, &to, depth + 1);
}

static void visit(struct explorer *x, struct node *node, unsigned depth)
{
    struct entry key = key_of(x, node);
    struct fin__event *events = x->events + x->events_top;
    unsigned count;

    if (on_path(x, &key, node->now, depth) || depth == MAX_DEPTH - 1)
        node->monitor.broken |= UINT64_C(1) << RULE_LIVELOCK;
    collect(x, node, depth);
    if (depth == MAX_DEPTH - 1 || !insert(x, &key))
        return;
    x->coverage.states++;
    x->coverage.deepest = depth > x->coverage.deepest ? depth : x->coverage.deepest;
    cover(x, node);
    if (node->action == FIN__FINISH)
        return;
    x->path[depth] = key;
    x->path_now[depth] = node->now;
    count = environment(node, events);
    assert(count <= MAX_EVENTS);
    x->events_top += count;
    for (unsigned i = 0; i < count; i++)
        follow(x, node, &events[i], depth);
    x->events_top -= count;
}

static void run(struct explorer *x, const struct config *config, bool exactly)
{
    struct fin__event start = { .now = START };
    struct node node;

    memset(&node, 0, sizeof node);
    x->config = config;
    x->exactly = exactly;
    x->used = 0;
    if (!++x->run) { /* 0 marks what was never used */
        memset(x->seen, 0, x->room * sizeof *x->seen);
        x->run = 1;
    }
    node.now = START;
    monitor_start(&node.monitor, config, START);
    node.action = fin__machine_start(&node.machine, &config->plan, config->traits, config->facts,
                                     START);
    fin__machine_report(&node.machine, &node.receipt);
    monitor_step(&node.monitor, NULL, &node.receipt, &start);
    watch_action(&node);
    x->coverage.runs++;
    visit(x, &node, 0);
}

void explore(struct explorer *x, const struct config *config)
{
    run(x, config, false);
}

void explore_exactly(struct explorer *x, const struct config *config)
{
    run(x, config, true);
}

struct explorer *explorer_new(step_fn *step)
{
    struct explorer *x = calloc(1, sizeof *x);

    assert(x);
    x->step = step;
    x->events = calloc((size_t) MAX_EVENTS * MAX_DEPTH, sizeof *x->events);
    assert(x->events);
    grow(x);
    return x;
}

void explorer_free(struct explorer *x)
{
    free(x->events);
    free(x->seen);
    free(x);
}

const struct coverage *explorer_coverage(const struct explorer *x)
{
    return &x->coverage;
}

/* ---- traces for people ---- */

static const char *const action_names[] = {
    "WAIT",  "FLUSH",  "NOTIFY", "ABANDON", "SHUT",  "LOOK",    "TALLY",   "DRAIN", "REFUSE", "ACCEPT",
    "QUENCH", "LIMIT", "RESET",  "UNWATCH", "WITNESS", "RELEASE", "CHECK", "INSPECT", "FINISH",
};

static const char *const event_names[] = {
    "DONE", "AGAIN", "SKIP", "BROKEN", "BYTES", "ANSWER", "END",
    "STATE", "YES",  "NO",   "FAILED", "READY", "DEADLINE", "ABORT",
};

static const char *const trait_names[] = {
    "STREAM",     "LAYERED",   "ACK_AT_SHUT", "ACK_UNKNOWN",
    "QUENCHABLE", "LISTENING", "CONNECTING",  "SOCKET",
};

static const char *const fact_names[] = {
    "ACKED", "FIN", "OUTSTANDING", "WRITABLE", "ASKED", "FINISHED", "GONE", "RESET_ON_CLOSE", "UNKNOWN",
};

static void print_bits(unsigned bits, const char *const *names, unsigned count)
{
    for (unsigned i = 0; i < count; i++)
        if (bits & 1u << i)
            printf(" %s", names[i]);
}

static void print_config(const struct config *c)
{
    const struct fin__plan *p = &c->plan;

    printf("    traits:");
    print_bits(c->traits, trait_names, sizeof trait_names / sizeof *trait_names);
    printf("; facts:");
    print_bits(c->facts, fact_names, sizeof fact_names / sizeof *fact_names);
    printf("\n    courtesy %d, proof %d, scope %s, orphan %" PRId64 ", flush %" PRIu64
           ", farewell %" PRIu64 ", linger %" PRIu64 ", total %" PRIu64 ", proof wait %" PRIu64
           ", drain %" PRIu64 "\n",
           p->courtesy, p->proof, p->descriptor_only ? "descriptor" : "connection", p->orphan_ms,
           p->flush, p->farewell, p->linger, p->total, p->proof_wait, p->drain);
}

static void print_step(const struct step *s)
{
    const struct fin__event *ev = &s->event;

    printf("    %-8s %4" PRIu64 "  %s", action_names[s->action], ev->now - START,
           event_names[ev->kind]);
    print_bits(ev->facts, fact_names, sizeof fact_names / sizeof *fact_names);
    if (ev->kind == FIN__FAILED || ev->kind == FIN__BROKEN)
        printf(" %s", strerror(-ev->error));
    if (ev->kind == FIN__AGAIN)
        printf(" for%s%s", ev->interest & FIN__READ ? " read" : "",
               ev->interest & FIN__WRITE ? " write" : "");
    if (ev->bytes || ev->kind == FIN__BYTES)
        printf(" bytes %" PRIu64, ev->bytes);
    if (ev->unread)
        printf(" unread %" PRIu64, ev->unread);
    if (ev->wait)
        printf(" wait %" PRIu64, ev->wait);
    printf("\n");
}

static void print_trace(const struct trace *trace)
{
    print_config(&trace->config);
    for (unsigned i = 0; i < trace->length; i++)
        print_step(&trace->steps[i]);
    printf("    %-8s\n", action_names[trace->last]);
}

unsigned explorer_print(const struct explorer *x)
{
    unsigned broken = 0;

    for (unsigned rule = 0; rule < RULES; rule++) {
        if (!x->coverage.violations[rule])
            continue;
        broken++;
        printf("\nBROKEN %" PRIu64 " times: %s\n", x->coverage.violations[rule], rule_names[rule]);
        print_trace(&x->traces[rule]);
    }
    return broken;
}
