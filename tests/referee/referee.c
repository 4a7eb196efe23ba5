/* SPDX-License-Identifier: MIT */

/*
 * usage: referee SECONDS SEED [PART]   random scenes for that long; PART ("driver=tls") is in all
 *        referee SCENE [TIMES]         one scene again, as a contradiction printed it
 *        referee FILE                  the scenes in a file, one a line, in TAP
 *
 * Plays closes, each in a process of its own with the peer in another, and checks every receipt by
 * the rules of rules.c. The exit status is 0 if no receipt was contradicted. A contradiction prints
 * its seed, what was seen, and the scene with everything taken away that it does not need.
 */

#include "common.h"
#include "trial.h"
#include "view.h"

#include <errno.h>
#include <finack.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define SLOTS 6
#define TRIES 4 /* of a reduced scene, since most contradictions take luck */
#define REDUCE_NS 12000000000
#define RULES_MAX 128
#define LISTED_TIMES 5
#define DETAILED 1 /* contradictions of a rule that are told in full */

struct tally {
    const char *rule[RULES_MAX];
    unsigned count[RULES_MAX];
    unsigned rules, contradictions;
    uint64_t closes;
    uint64_t outcomes[16];
    uint64_t hosts;
};

static bool breaks(const struct scene *scene, const char *rule, uint64_t host,
                   struct verdict *verdict)
{
    struct trial trial = { .scene = *scene };

    trial_begin(&trial, host);
    while (!trial_has_ended(&trial))
        trial_await(&trial, 1);
    trial_end(&trial, verdict);
    return strcmp(verdict->rule, rule) == 0;
}

/* ---- reducing ---- */

static unsigned breaks_again(const struct scene *scene, const struct verdict *found,
                             unsigned enough, struct tally *tally, struct verdict *last)
{
    struct verdict verdict;
    unsigned count = 0;

    for (unsigned i = 0; i < TRIES && count < enough; i++) {
        if (breaks(scene, found->rule, tally->hosts++, &verdict)) {
            *last = verdict;
            count++;
        }
    }
    return count;
}

static struct scene reduce(const struct scene *scene, struct verdict *found, struct tally *tally)
{
    unsigned enough = found->clock ? 3 : 1;
    uint64_t end_ns = view_clock() + REDUCE_NS;
    struct scene least = *scene;

    for (unsigned i = 0; i < FIELDS && view_clock() < end_ns; i++) {
        struct scene less = least;

        less.v[i] = 0;
        scene_settle(&less);
        if (memcmp(&less, &least, sizeof less) != 0
            && breaks_again(&less, found, enough, tally, found) >= enough)
            least = less;
    }
    return least;
}

static unsigned *count_of(struct tally *tally, const char *rule)
{
    unsigned i = 0;

    while (i < tally->rules && strcmp(tally->rule[i], rule) != 0)
        i++;
    if (i == tally->rules && i < RULES_MAX - 1) {
        tally->rule[i] = strdup(rule);
        tally->rules++;
    }
    return &tally->count[i];
}

static void tell(const struct trial *trial, uint64_t seed, struct verdict *found,
                 struct tally *tally)
{
    char text[1024];
    struct scene least;

    printf("CONTRADICTION %s: seed %llu, close %llu\n  scene: %s\n%s", found->rule,
           (unsigned long long) seed, (unsigned long long) trial->index,
           scene_format(&trial->scene, false, text, sizeof text), found->text);
    (void) fflush(stdout);
    least = reduce(&trial->scene, found, tally);
    printf("  reduced: '%s'\n%s", scene_format(&least, false, text, sizeof text), found->text);
    (void) fflush(stdout);
}

static void take_verdict(struct trial *trial, uint64_t seed, struct tally *tally)
{
    struct verdict verdict, last;
    unsigned *count;

    trial_end(trial, &verdict);
    tally->closes++;
    if (verdict.outcome >= 0)
        tally->outcomes[verdict.outcome & 15]++;
    if (!verdict.rule[0])
        return;
    if (verdict.clock && breaks_again(&trial->scene, &verdict, TRIES, tally, &last) < TRIES)
        return; /* the machine was busy */
    count = count_of(tally, verdict.rule);
    tally->contradictions++;
    if ((*count)++ < DETAILED)
        tell(trial, seed, &verdict, tally);
}

/* ---- many ---- */

static void play_many(uint64_t seconds, uint64_t seed, const char *part, struct tally *tally)
{
    uint64_t end_ns = view_clock() + seconds * 1000000000, index = 0;
    struct trial trials[SLOTS] = { 0 };
    bool busy = true;

    while (busy) {
        busy = false;
        for (int i = 0; i < SLOTS; i++) {
            if (trial_has_ended(&trials[i]))
                take_verdict(&trials[i], seed, tally);
            if (!trials[i].pid && view_clock() < end_ns) {
                trials[i].index = index++;
                trials[i].scene = scene_make(seed, trials[i].index, false);
                must(scene_change(&trials[i].scene, part), part);
                trial_begin(&trials[i], tally->hosts++);
            }
            busy |= trials[i].pid != 0;
        }
        trial_await(trials, SLOTS);
    }
}

static void sum_up(const struct tally *tally, uint64_t seed)
{
    printf("seed %llu: %llu closes;", (unsigned long long) seed,
           (unsigned long long) tally->closes);
    for (int i = 0; i < 16; i++) {
        if (tally->outcomes[i])
            printf(" %s %llu", fin_outcome_name(i), (unsigned long long) tally->outcomes[i]);
    }
    printf("; %u contradictions\n", tally->contradictions);
    for (unsigned i = 0; i < tally->rules; i++)
        printf("  %6u %s\n", tally->count[i], tally->rule[i]);
}

static int play_one(const char *text, unsigned times)
{
    struct verdict verdict;
    struct scene scene = { { 0 } };
    unsigned found = 0;

    if (!scene_change(&scene, text))
        return 2;
    for (unsigned i = 0; i < times; i++) {
        (void) breaks(&scene, "", i, &verdict);
        found += verdict.rule[0] != 0;
        if (i == 0 || (verdict.rule[0] && found == 1))
            printf("%s\n%s", verdict.rule[0] ? verdict.rule : "as it should be", verdict.text);
    }
    printf("%u of %u plays contradicted\n", found, times);
    return found > 0;
}

static bool holds(const char *text, uint64_t host)
{
    struct verdict verdict;
    struct scene scene = { { 0 } };
    unsigned broken_in_a_row = 0;

    must(scene_change(&scene, text), text);
    for (unsigned i = 0; i < LISTED_TIMES && broken_in_a_row < TRIES; i++) {
        (void) breaks(&scene, "", host + i, &verdict);
        if (verdict.rule[0] && !verdict.clock) {
            printf("# %s\n", verdict.rule);
            return false;
        }
        broken_in_a_row = verdict.rule[0] ? broken_in_a_row + 1 : 0;
    }
    return broken_in_a_row < TRIES;
}

static int play_file(const char *path)
{
    char line[1024];
    unsigned number = 0, bad = 0;
    FILE *file = fopen(path, "re");

    must(file, path);
    while (fgets(line, sizeof line, file)) {
        bool good;

        line[strcspn(line, "\n")] = '\0';
        good = holds(line, number * LISTED_TIMES);
        bad += !good;
        printf("%sok %u - %s\n", good ? "" : "not ", ++number, line);
        (void) fflush(stdout);
    }
    printf("1..%u\n", number);
    (void) fclose(file);
    return bad > 0;
}

int main(int argc, char **argv)
{
    struct tally tally = { .hosts = (uint64_t) getpid() << 8 };
    uint64_t seed;

    if (argc < 2) {
        (void) fprintf(stderr, "usage: referee SECONDS SEED [PART] | referee SCENE [TIMES]\n");
        return 2;
    }
    if (strchr(argv[1], '/'))
        return play_file(argv[1]);
    if (strchr(argv[1], '='))
        return play_one(argv[1], argc > 2 ? (unsigned) atoi(argv[2]) : 20);
    seed = argc > 2 ? strtoull(argv[2], NULL, 10) : 1;
    play_many(strtoull(argv[1], NULL, 10), seed, argc > 3 ? argv[3] : "", &tally);
    sum_up(&tally, seed);
    return tally.contradictions > 0;
}
