/* SPDX-License-Identifier: MIT */

#include "explore.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

static void watch_action(struct node *node)
{
    const struct fin__machine *m = &node->machine;
    struct view view = { node->action, m->deadline, fin__drain_left(m), node->now, m->interest };

    monitor_action(&node->monitor, &view);
    if (node->action == FIN__FINISH)
        monitor_end(&node->monitor, &node->receipt);
}

void node_start(struct node *node, const struct config *config)
{
    struct fin__event start = { .now = START };

    memset(node, 0, sizeof *node);
    node->now = START;
    monitor_start(&node->monitor, config, START);
    node->action =
        fin__machine_start(&node->machine, &config->plan, config->traits, config->facts, START);
    fin__machine_report(&node->machine, &node->receipt);
    monitor_step(&node->monitor, NULL, &node->receipt, &start);
    watch_action(node);
}

static void count_wakes(struct node *node, const struct node *from, const struct fin__event *ev)
{
    if (ev->now != from->now)
        node->monitor.wakes = 0;
    else if (ev->kind == FIN__READY)
        node->monitor.wakes++;
}

void node_answer(struct node *to, const struct node *from, const struct fin__event *ev,
                 step_fn *step)
{
    memcpy(to, from, sizeof *to); /* padding too: states are compared as bytes */
    count_wakes(to, from, ev);
    monitor_event(&to->monitor, from->action, ev);
    to->now = ev->now;
    to->action = step(&to->machine, ev);
    fin__machine_report(&to->machine, &to->receipt);
    monitor_step(&to->monitor, &from->receipt, &to->receipt, ev);
    watch_action(to);
}

/* ---- for people ---- */

static const char *const action_names[] = {
    "WAIT",    "FLUSH",   "MEASURE", "NOTIFY", "ABANDON", "SHUT",   "LOOK",
    "TALLY",   "DRAIN",   "REFUSE",  "ACCEPT", "QUENCH",  "LIMIT",  "RESET",
    "UNWATCH", "WITNESS", "RELEASE", "CHECK",  "INSPECT", "FINISH",
};

static const char *const event_names[] = {
    "DONE", "AGAIN", "SKIP",   "BROKEN", "BYTES",    "ANSWER", "END",   "STATE",
    "YES",  "NO",    "FAILED", "READY",  "DEADLINE", "ABORT",  "FORCE",
};

static const char *const trait_names[] = {
    "STREAM",    "LAYERED",    "ACK_AT_SHUT", "QUENCHABLE",
    "LISTENING", "CONNECTING", "SOCKET",      "ANSWER_UNKNOWN",
};

static const char *const fact_names[] = {
    "ACKED",          "FIN",     "OUTSTANDING", "WRITABLE", "ASKED",       "FINISHED", "GONE",
    "RESET_ON_CLOSE", "UNKNOWN", "ANNOUNCED",   "ERROR",    "FIN_UNKNOWN", "SHUT",     "OVER",
};

const char *action_name(enum fin__action action)
{
    return action_names[action];
}

static void print_bits(unsigned bits, const char *const *names, unsigned count)
{
    for (unsigned i = 0; i < count; i++)
        if (bits & 1u << i)
            printf(" %s", names[i]);
}

void config_print(const struct config *c)
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

void step_print(const struct step *s)
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
