/* SPDX-License-Identifier: MIT */

/*
 * The state machine in the environment of tests/model, and watched by its monitor: longer times and
 * more bytes than can be explored whole. Beside it goes a twin that has everything but counts of
 * connections many times over, as real closes have: it must do the same.
 */

#include "../tests/model/explore.h"
#include "bytes.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define STEPS_MAX 4096
#define TIME_SHIFT_MAX 40
#define BYTE_SHIFT_MAX 24

#define TCP (FIN__STREAM | FIN__SOCKET)
#define UNIX (TCP | FIN__ACK_AT_SHUT | FIN__QUENCHABLE)

static const unsigned kinds[] = {
    TCP,
    TCP | FIN__LAYERED,
    TCP | FIN__LAYERED | FIN__ANSWER_UNKNOWN,
    UNIX,
    UNIX | FIN__LAYERED,
    FIN__SOCKET,
    FIN__SOCKET | FIN__LAYERED,
    0,
    FIN__SOCKET | FIN__LISTENING,
    FIN__SOCKET | FIN__CONNECTING,
    TCP | FIN__CONNECTING,
};

static struct config take_config(struct bytes *bytes)
{
    static const int64_t orphans[] = { FIN_ORPHAN_LEAVE, FIN_ORPHAN_RESET, 7 };
    struct config c = { .traits = kinds[take_below(bytes, sizeof kinds / sizeof *kinds)] };
    struct fin__plan *p = &c.plan;

    p->courtesy = (uint8_t) take_below(bytes, FIN_COURTESY_FULL + 1);
    p->proof = (uint8_t) (FIN_STAGE_RELEASED + take_below(bytes, 4));
    p->descriptor_only = take_byte(bytes) & 1;
    p->orphan_ms = orphans[take_below(bytes, 3)];
    p->flush = take_below(bytes, 16);
    p->farewell = take_below(bytes, 16);
    p->linger = take_below(bytes, 16);
    p->total = take_below(bytes, 32);
    p->proof_wait = take_below(bytes, 16);
    p->backoff = 1 + take_below(bytes, 4);
    p->backoff_max = p->backoff + take_below(bytes, 8);
    p->drain = take_below(bytes, 16);
    c.facts = take_byte(bytes) & FIN__IS_OUTSTANDING;
    return c;
}

/* ---- the twin ---- */

struct twin {
    struct fin__plan plan;
    struct fin__machine machine;
    enum fin__action action;
    unsigned time, bytes; /* how many times over: bits to shift by */
};

static void twin_start(struct twin *twin, const struct config *config)
{
    struct fin__plan *p = &twin->plan;

    *p = config->plan;
    p->flush <<= twin->time;
    p->farewell <<= twin->time;
    p->linger <<= twin->time;
    p->total <<= twin->time;
    p->proof_wait <<= twin->time;
    p->backoff <<= twin->time;
    p->backoff_max <<= twin->time;
    p->drain <<= twin->bytes;
    twin->action = fin__machine_start(&twin->machine, p, config->traits, config->facts,
                                      (uint64_t) START << twin->time);
}

static void twin_step(struct twin *twin, struct fin__event ev)
{
    ev.now <<= twin->time;
    ev.wait <<= twin->time;
    ev.bytes <<= twin->action == FIN__ACCEPT ? 0 : twin->bytes;
    ev.unread <<= twin->bytes;
    ev.unsent <<= ev.unsent == UINT64_MAX ? 0 : twin->bytes;
    twin->action = fin__machine_step(&twin->machine, &ev);
}

static bool same_times(const struct twin *twin, const struct fin__machine *m)
{
    for (int i = 0; i < FIN_STAGES; i++) {
        int64_t ns = m->stage[i];

        if (twin->machine.stage[i] != (ns < 0 ? ns : (int64_t) ((uint64_t) ns << twin->time)))
            return false;
    }
    return twin->machine.deadline == m->deadline << twin->time;
}

static bool same_end(const struct twin *twin, const struct fin_receipt *r)
{
    struct fin_receipt big = { 0 };

    fin__machine_report(&twin->machine, &big);
    return big.outcome == r->outcome && big.phase == r->phase && big.end == r->end
        && big.held == r->held && big.error == r->error && big.unverifiable == r->unverifiable
        && big.unsent == r->unsent << twin->bytes && big.unacked == r->unacked << twin->bytes
        && big.discarded == r->discarded << twin->bytes && big.accepted == r->accepted;
}

/* ---- a run ---- */

static struct step steps[STEPS_MAX];

static void tell(const struct node *node, unsigned count, const char *what)
{
    printf("%s\n", what);
    config_print(node->monitor.config);
    for (unsigned i = 0; i < count; i++)
        step_print(&steps[i]);
    printf("    %-8s\n", action_name(node->action));
    (void) fflush(stdout);
    abort();
}

static void check(const struct node *node, const struct twin *twin, unsigned count)
{
    for (unsigned i = 0; node->monitor.broken && i < RULES; i++)
        if (node->monitor.broken & UINT64_C(1) << i)
            tell(node, count, rule_names[i]);
    if (count == STEPS_MAX)
        tell(node, count, rule_names[RULE_LIVELOCK]);
    if (twin->action != node->action || twin->machine.interest != node->machine.interest
        || !same_times(twin, &node->machine) || !same_end(twin, &node->receipt))
        tell(node, count, "many times over it goes another way");
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct fin__event events[MAX_EVENTS];
    struct bytes bytes = { data, size };
    struct config config = take_config(&bytes);
    struct twin twin = { .time = take_below(&bytes, TIME_SHIFT_MAX + 1),
                         .bytes = take_below(&bytes, BYTE_SHIFT_MAX + 1) };
    struct node node, next;
    unsigned count = 0;

    node_start(&node, &config);
    twin_start(&twin, &config);
    check(&node, &twin, count);
    while (node.action != FIN__FINISH) {
        const struct fin__event *ev = &events[take_below(&bytes, environment(&node, events))];

        steps[count++] = (struct step) { node.action, *ev };
        node_answer(&next, &node, ev, fin__machine_step);
        twin_step(&twin, *ev);
        check(&next, &twin, count);
        memcpy(&node, &next, sizeof node);
    }
    return 0;
}
