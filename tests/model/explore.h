/* SPDX-License-Identifier: MIT */

/* One machine in its environment, and the exploration of every state that it can reach. */

#ifndef FIN_TEST_EXPLORE_H
#define FIN_TEST_EXPLORE_H

#include "monitor.h"

#define START 100 /* the clock at the start: anything but 0 */
#define MAX_EVENTS 256
#define MAX_DEPTH 256

/* One state: the machine, what watches it, and the action that waits for its event. */
struct node {
    struct fin__machine machine;
    struct monitor monitor;
    struct fin_receipt receipt;
    enum fin__action action;
    uint64_t now;
};

/* What was asked for, and how it was answered. */
struct step {
    enum fin__action action;
    struct fin__event event;
};

/* Writes every event that may answer node->action (at most MAX_EVENTS); returns how many. */
unsigned environment(const struct node *node, struct fin__event *events);

typedef enum fin__action step_fn(struct fin__machine *m, const struct fin__event *ev);

void node_start(struct node *node, const struct config *config);

/* `to` becomes what `from` is after that event. What it breaks is in to->monitor.broken, along with
 * what `from` did. */
void node_answer(struct node *to, const struct node *from, const struct fin__event *ev,
                 step_fn *step);

const char *action_name(enum fin__action action);
void config_print(const struct config *config);
void step_print(const struct step *step);

struct explorer;

/* `step` is what is explored: fin__machine_step(), or a broken one to test the explorer itself. */
struct explorer *explorer_new(step_fn *step);
void explorer_free(struct explorer *x);

/* Explores all that can happen to one close. */
void explore(struct explorer *x, const struct config *config);
/* The same, comparing states byte by byte: no abstraction, many more states. */
void explore_exactly(struct explorer *x, const struct config *config);

struct coverage {
    uint64_t runs, states, transitions, ends;
    uint64_t violations[RULES];
    uint64_t places, actions, outcomes, end_values, stages; /* bit by value */
    uint64_t events[FIN__FINISH + 1];                       /* of each action, bit by kind */
    unsigned finished_place, deepest, late_waits;
};

const struct coverage *explorer_coverage(const struct explorer *x);
/* Prints the shortest trace found for each rule that was broken; returns how many were. */
unsigned explorer_print(const struct explorer *x);

#endif
