/* SPDX-License-Identifier: MIT */

/*
 * A network that fails in each phase of a close: scenes of the referee, chosen instead of drawn.
 * The peer of each row stalls the close in the phase that the row is named after, and there the
 * network breaks. Held against what both ends saw, by the referee's rules: no receipt may claim
 * what did not happen, no deadline be missed, no descriptor stay, no peer read FIN with a byte
 * missing. Speaks TAP.
 */

#include "../referee/common.h"
#include "../referee/trial.h"
#include "../referee/view.h"

#include <finack.h>
#include <stdio.h>
#include <string.h>

#define SLOTS 8
#define ROWS_MAX 400
#define TRIES 3 /* of a row that only a busy machine may have broken */

static const char *const faults[] = { "drop",         "drop_ours",   "drop_theirs",
                                      "reset",        "unreachable", "lossy",
                                      "address_gone", "route_gone",  "killed" };

static const struct {
    const char *name;
    const char *drivers[4]; /* NULL ends it */
    const char *scene;
    int phase; /* in which a close ends that hears nothing any more; -1: it need not wait */
} phases[] = {
    { "before the close",
      { "close", "closer", "handle", NULL },
      "sent=1000 fault_when=before",
      FIN_PHASE_LINGER },
    { "before, prompt",
      { "close", "closer", "handle", NULL },
      "sent=100000 courtesy=prompt fault_when=before",
      -1 },
    { "before, orphans reset",
      { "close", "closer", "handle", NULL },
      "sent=1000 orphan_ms=0 fault_when=before",
      FIN_PHASE_LINGER },
    { "before, bytes on their way",
      { "close", "closer", "handle", NULL },
      "sent=fill settled=no fault_when=before",
      -1 },
    { "flush",
      { "layered", "closer_layered", NULL },
      "layer=4000000 peer_reads=none fault_when=20",
      FIN_PHASE_FLUSH },
    { "farewell",
      { "layered", "closer_layered", NULL },
      "layer=1000 courtesy=full peer_act=never fault_when=20",
      FIN_PHASE_FAREWELL },
    { "linger, for acked",
      { "close", "closer", "handle", NULL },
      "sent=fill peer_reads=none linger_ms=80 fault_when=20",
      FIN_PHASE_LINGER },
    { "linger, for eof",
      { "close", "closer", "handle", NULL },
      "sent=1000 peer_act=never linger_ms=80 fault_when=20",
      FIN_PHASE_LINGER },
    { "linger, with input",
      { "close", "closer", "handle", NULL },
      "sent=1000 peer_sends=100000 peer_chats=yes peer_act=never linger_ms=80 fault_when=5",
      FIN_PHASE_LINGER },
    { "after the release",
      { "close", "closer", "handle", NULL },
      "sent=fill peer_reads=none courtesy=prompt proof=finished proof_ms=20 fault_when=5",
      -1 },
    { "held by a child",
      { "close", "closer", NULL },
      "sent=1000 holder=child peer_act=never fault_when=5",
      FIN_PHASE_LINGER },
};

struct row {
    char name[96];
    struct scene scene;
    int phase;
    bool silent; /* the fault lets nothing through at all */
    bool judged, good;
};

static struct row rows[ROWS_MAX];
static int count;

static void add_row(size_t phase, const char *driver, const char *fault)
{
    struct row *row = &rows[count++];
    char text[300];

    (void) snprintf(row->name, sizeof row->name, "%s, %s, %s", phases[phase].name, driver, fault);
    (void) snprintf(text, sizeof text, "driver=%s fault=%s %s", driver, fault, phases[phase].scene);
    must(scene_change(&row->scene, text), row->name);
    row->phase = phases[phase].phase;
    row->silent = strcmp(fault, "drop") == 0;
}

static void add_rows(void)
{
    for (size_t i = 0; i < sizeof phases / sizeof *phases; i++) {
        for (int j = 0; phases[i].drivers[j]; j++) {
            for (size_t k = 0; k < sizeof faults / sizeof *faults; k++)
                add_row(i, phases[i].drivers[j], faults[k]);
        }
    }
}

static void tell(struct row *row, const struct verdict *verdict)
{
    char text[1024];

    row->judged = true;
    row->good = !verdict->rule[0];
    if (row->good && row->silent && row->phase >= 0)
        row->good = verdict->phase == row->phase;
    /* Without a number: rows run side by side, and end in any order. */
    printf("%sok - %s\n", row->good ? "" : "not ", row->name);
    if (!row->good)
        printf("# %s: '%s'\n", verdict->rule[0] ? verdict->rule : "another phase",
               scene_format(&row->scene, false, text, sizeof text));
    for (const char *line = row->good ? "" : verdict->text; *line; line += strcspn(line, "\n") + 1)
        printf("# %.*s\n", (int) strcspn(line, "\n"), line);
    (void) fflush(stdout);
}

/* True if a busy machine may have done it. */
static bool excusable(const struct verdict *verdict)
{
    return verdict->rule[0] && verdict->clock;
}

static void finish(struct trial *trial, uint64_t *hosts)
{
    struct row *row = &rows[trial->index];
    struct verdict verdict;

    trial_end(trial, &verdict);
    for (int i = 1; i < TRIES && excusable(&verdict); i++) {
        trial_begin(trial, (*hosts)++);
        while (!trial_has_ended(trial))
            trial_await(trial, 1);
        trial_end(trial, &verdict);
    }
    tell(row, &verdict);
}

static void play_rows(void)
{
    struct trial trials[SLOTS] = { 0 };
    uint64_t hosts = 0;
    int next = 0, done = 0;

    while (done < count) {
        for (int i = 0; i < SLOTS; i++) {
            if (trial_has_ended(&trials[i])) {
                finish(&trials[i], &hosts);
                done++;
            }
            if (!trials[i].pid && next < count) {
                trials[i].index = (uint64_t) next;
                trials[i].scene = rows[next++].scene;
                trial_begin(&trials[i], hosts++);
            }
        }
        trial_await(trials, SLOTS);
    }
}

int main(void)
{
    int bad = 0;

    add_rows();
    printf("1..%d\n", count);
    play_rows();
    for (int i = 0; i < count; i++)
        bad += !rows[i].good;
    return bad > 0;
}
