/* SPDX-License-Identifier: MIT */

#include "explore.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PROOFS (FIN_STAGE_GONE - FIN_STAGE_RELEASED + 1)

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
    struct config proofs[PROOFS]; /* of this run, each with its proof */
};

/* ---- the set of states ---- */

static uint64_t mix(uint64_t hash, uint64_t word)
{
    hash = (hash ^ word) * UINT64_C(0x9e3779b97f4a7c15);
    return hash ^ hash >> 29;
}

/* Two lanes of words; key_of() mixes them in the end. */
static void hash_words(struct entry *e, const void *data, size_t size)
{
    const unsigned char *bytes = data;
    uint64_t word[2];

    for (; size >= sizeof word; size -= sizeof word, bytes += sizeof word) {
        memcpy(word, bytes, sizeof word);
        e->high = mix(e->high, word[0]);
        e->low = mix(e->low, word[1]);
    }
    memset(word, 0, sizeof word);
    memcpy(word, bytes, size);
    e->high = mix(e->high, word[0]);
    e->low = mix(e->low, word[1]);
}

/* What a look right before the release finds decides on top of what was seen before. */
static bool looks_again(const struct fin__machine *m)
{
    if (m->plan->descriptor_only)
        return m->traits & (FIN__STREAM | FIN__CONNECTING);
    return !m->over && !m->we_reset && (m->unread || m->resets_on_close);
}

static bool on_the_way_out(const struct node *node)
{
    unsigned stages = node->monitor.stages;

    if (node->action == FIN__RELEASE || stages & 1u << FIN_STAGE_RELEASED)
        return true;
    return (node->action == FIN__UNWATCH || stages & 1u << FIN_STAGE_UNWATCHED)
        && !looks_again(&node->machine);
}

static void forget_the_way(struct fin__machine *m, struct monitor *mon)
{
    unsigned later = 1u << FIN_STAGE_SHUT | 1u << FIN_STAGE_ACKED | 1u << FIN_STAGE_UNWATCHED
        | 1u << FIN_STAGE_RELEASED | 1u << FIN_STAGE_UNREFERENCED | 1u << FIN_STAGE_FINISHED
        | 1u << FIN_STAGE_GONE;

    for (int i = 0; i < FIN_STAGE_UNWATCHED; i++)
        if (!(later & 1u << i))
            m->stage[i] = 0;
    m->unverifiable &= (uint16_t) later;
    m->discarded = 0;
    m->unsent = m->plan->descriptor_only ? m->unsent : 0;
    m->outstanding = m->accepted = 0;
    m->error = m->phase = m->decided = m->wants = 0;
    m->edge_used = m->we_reset = m->must_reset = m->quenched = m->input_over = false;
    m->acked = m->shut = m->reading_out = m->unsent_unknown = m->mute = false;
    if (!m->plan->descriptor_only) /* else the end decides the outcome by these */
        m->outcome = 0, m->unacked = 0,
        m->unread = m->resets_on_close = m->reset_unsure = m->over = false;
    mon->stages &= (uint16_t) later;
    mon->seen &= SEEN_WITNESS | SEEN_FORCE | SEEN_BEGUN;
    mon->phase = 0;
    mon->deadline = mon->began = 0;
    mon->late_waits = mon->tallied = mon->unsent = mon->discarded = mon->accepted = 0;
}

/* What no receipt shows. */
static void forget_time(struct node *node)
{
    struct fin__machine *m = &node->machine;
    struct monitor *mon = &node->monitor;

    node->now = m->deadline = mon->deadline = mon->began = 0;
    m->outstanding = 0;
    m->wants = m->edge_used = m->quenched = 0;
    mon->late_waits = mon->wakes = 0;
    mon->seen &= ~(uint64_t) (SEEN_FLUSH | SEEN_NOTIFY | SEEN_EDGE | SEEN_LAYER_GONE);
}

/* States that differ only in what decides nothing any more are one: the times of stages and which
 * error it was (monitor_step() checks them when they are written, and that they never change), an
 * interest that nobody waits for, and from unwatching on all that only led there (straight_ends()
 * checks the receipt of each way to it). explore_exactly() does without. */
static void abstract(struct node *node, bool whole)
{
    struct fin__machine *m = &node->machine;
    struct monitor *mon = &node->monitor;

    for (int i = 0; i < FIN_STAGES; i++)
        if (m->stage[i] >= 0)
            m->stage[i] = 0;
    m->error = m->error != 0;
    if (node->action != FIN__WAIT)
        m->interest = 0;
    if (!on_the_way_out(node))
        return;
    if (whole) {
        forget_time(node);
        return;
    }
    if (mon->stages & 1u << FIN_STAGE_RELEASED) {
        node->now -= mon->released_at;
        m->deadline -= mon->released_at;
        mon->released_at = 0;
    } else {
        node->now = m->deadline = 0;
    }
    forget_the_way(m, mon);
}

static struct entry key_of(const struct explorer *x, const struct node *node, bool whole)
{
    struct node n;
    uint64_t rest[2];
    struct entry e = { 1, 2 };

    memcpy(&n.machine, &node->machine, sizeof n.machine);
    memcpy(&n.monitor, &node->monitor, sizeof n.monitor);
    n.action = node->action;
    n.now = node->now;
    if (!x->exactly)
        abstract(&n, whole);
    n.monitor.phase_before = 0;
    rest[0] = n.now;
    rest[1] = n.action;
    hash_words(&e, &n.machine, sizeof n.machine);
    hash_words(&e, &n.monitor, offsetof(struct monitor, broken));
    hash_words(&e, rest, sizeof rest);
    e.high = mix(e.high, e.low);
    e.low = mix(e.low, e.high);
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

    while (of_this_run(x, &x->seen[i]) && (x->seen[i].high != e->high || x->seen[i].low != e->low))
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

static void keep_trace(struct explorer *x, enum rule rule, unsigned depth, const struct node *node)
{
    struct trace *trace = &x->traces[rule];

    if (trace->length && trace->length <= depth)
        return;
    trace->config = *node->monitor.config;
    trace->length = depth;
    trace->last = node->action;
    memcpy(trace->steps, x->steps, depth * sizeof *x->steps);
}

/* `depth`: how many steps led here. */
static void collect(struct explorer *x, struct node *node, unsigned depth)
{
    for (unsigned rule = 0; node->monitor.broken && rule < RULES; rule++) {
        if (!(node->monitor.broken & UINT64_C(1) << rule))
            continue;
        x->coverage.violations[rule]++;
        keep_trace(x, rule, depth, node);
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

/* ---- the search ---- */

static void visit(struct explorer *x, struct node *node, unsigned depth);

/* The shortest way to the end, with `check` as the answer to every CHECK; `shut` by the release. */
static void straight_end(struct explorer *x, const struct node *node, unsigned depth,
                         enum fin__event_kind check, bool shut)
{
    struct node at, to;

    memcpy(&at, node, sizeof at);
    at.monitor.config = &x->proofs[PROOFS - 1];
    at.machine.plan = &x->proofs[PROOFS - 1].plan;
    while (at.action != FIN__FINISH && depth < MAX_DEPTH - 1) {
        struct fin__event ev = { .kind = FIN__DONE, .now = at.now };

        if (at.action == FIN__WAIT) {
            ev.kind = FIN__DEADLINE;
            ev.now = at.machine.deadline;
        }
        if (at.action == FIN__TALLY)
            ev.kind = FIN__STATE;
        if (at.action == FIN__CHECK)
            ev.kind = check;
        if (ev.kind == FIN__FAILED)
            ev.error = -EPERM;
        if (at.action == FIN__WITNESS)
            ev.facts = FIN__IS_CONFIRMED;
        if (at.action == FIN__RELEASE && shut)
            ev.facts = FIN__IS_SHUT | FIN__IS_RESET_UNSURE;
        if (at.action == FIN__INSPECT) {
            ev.kind = FIN__STATE;
            ev.facts = FIN__IS_FINISHED;
        }
        x->steps[depth++] = (struct step) { at.action, ev };
        node_answer(&to, &at, &ev, x->step);
        collect(x, &to, depth);
        memcpy(&at, &to, sizeof at);
    }
    cover(x, &at);
}

static void straight_ends(struct explorer *x, const struct node *node, unsigned depth)
{
    struct entry key = key_of(x, node, true);

    if (!insert(x, &key))
        return;
    straight_end(x, node, depth, FIN__YES, false);
    straight_end(x, node, depth, FIN__NO, false);
    straight_end(x, node, depth, FIN__FAILED, false);
    if (!node->monitor.config->plan.descriptor_only)
        straight_end(x, node, depth, FIN__YES, true);
}

static void follow_one(struct explorer *x, const struct node *from, const struct fin__event *ev,
                       unsigned depth)
{
    struct node to;

    x->steps[depth] = (struct step) { from->action, *ev };
    x->coverage.transitions++;
    x->coverage.events[from->action] |= UINT64_C(1) << ev->kind;
    node_answer(&to, from, ev, x->step);
    if (!x->exactly
        && (to.action == FIN__UNWATCH || (to.action == FIN__RELEASE && from->action == FIN__TALLY)))
        straight_ends(x, &to, depth + 1);
    visit(x, &to, depth + 1);
}

/* The proof that a policy asks for first matters when the socket is unwatched: until then all
 * proofs are one run, which parts here. */
static void follow(struct explorer *x, const struct node *from, const struct fin__event *ev,
                   unsigned depth)
{
    struct node chosen;

    if (from->action != FIN__UNWATCH || x->exactly) {
        follow_one(x, from, ev, depth);
        return;
    }
    memcpy(&chosen, from, sizeof chosen);
    for (unsigned i = 0; i < PROOFS; i++) {
        chosen.monitor.config = &x->proofs[i];
        chosen.machine.plan = &x->proofs[i].plan;
        follow_one(x, &chosen, ev, depth);
    }
}

static void visit(struct explorer *x, struct node *node, unsigned depth)
{
    struct entry key = key_of(x, node, false);
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
    struct node node;

    for (unsigned i = 0; i < PROOFS; i++) {
        x->proofs[i] = *config;
        x->proofs[i].plan.proof = (uint8_t) (FIN_STAGE_RELEASED + i);
    }
    x->exactly = exactly;
    x->used = 0;
    if (!++x->run) { /* 0 marks what was never used */
        memset(x->seen, 0, x->room * sizeof *x->seen);
        x->run = 1;
    }
    node_start(&node, config);
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

static void print_trace(const struct trace *trace)
{
    config_print(&trace->config);
    for (unsigned i = 0; i < trace->length; i++)
        step_print(&trace->steps[i]);
    printf("    %-8s\n", action_name(trace->last));
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
