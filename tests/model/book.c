/* SPDX-License-Identifier: MIT */

/*
 * The closer's bookkeeping: every short sequence of calls and events, long random ones, thousands
 * of closes; all over a pretended kernel.
 *
 * usage: book [SEED]
 */

#include "pretend.h"

#include "base/clock.h"

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

#define LENGTH 16 /* of a sequence */

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
    return at == UINT64_MAX ? at : at <= world.now ? 0 : (at - world.now) / 1000 + 1;
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
        (uint64_t) c->op->state << 40 | (uint64_t) c->op->wanted << 32
            | (uint64_t) c->op->action << 24 | (uint64_t) m->place << 16
            | (uint64_t) m->interest << 8 | c->op->missed_edge);
    mix(hash, (uint64_t) c->op->next << 32 | c->op->prev);
    mix(hash, (uint64_t) c->op->heap << 32 | (uint64_t) m->late_reads << 8 | m->pauses);
    mix(hash, (uint64_t) m->outcome << 16 | (uint64_t) m->forced << 8 | m->edge_used);
    mix(hash, c->chatter);
    mix(hash, span(m->deadline));
}

/* True if a state like this one was expanded with as many steps left. */
static bool seen_before(unsigned left)
{
    uint64_t hash = world.count;
    size_t i;

    for (unsigned n = 0; n < world.count; n++)
        mix_close(&hash, &world.close[n]);
    mix(&hash, span(world.armed) << 1 | world.woken);
    for (unsigned n = world.head; n != world.tail; n++)
        mix(&hash, (uint64_t) world.queue[n % EDGES].close << 1 | world.queue[n % EDGES].stale);
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
    world_begin(world.config);
    for (unsigned i = 0; i < length && !world.gone; i++)
        world_take(steps[i]);
    if (!world.gone && length < world.config->depth && !seen_before(world.config->depth - length))
        for (const char *letter = letters; *letter; letter++)
            for (unsigned i = 0; i < (strchr("aeo", *letter) ? world.config->count : 1u); i++)
                if (world_can((struct step) { *letter, i }))
                    next[count++] = (struct step) { *letter, i };
    world_finish((unsigned) runs);
    return count;
}

static void search(struct step *steps, char *text, unsigned length)
{
    struct step next[32];
    unsigned count = replay(steps, length, next);

    for (unsigned i = 0; i < count && world.broken == 0; i++) {
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
    world.sequence = text;
    for (size_t i = 0; i < count && world.broken == 0; i++) {
        memset(seen, 0, sizeof seen);
        world.config = &configs[i];
        search(steps, text, 0);
    }
    world.sequence = NULL;
    printf("%" PRIu64 " sequences, %" PRIu64 " states\n", runs, states);
    assert_int_equal(world.broken, 0);
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
    unsigned back = world.count < 6000 ? world.count : 6000;

    if (world.count == 0)
        return;
    step.close = world.count - 1 - random_below(back);
    if (world_can(step))
        world_take(step);
}

static void random_step(unsigned crowd)
{
    unsigned dice = random_below(1000);

    if (dice < 400 && world.count < world.config->count && world.live < crowd) {
        enum reaction reaction = random_below(8) ? NOTHING : random_below(FREE);

        rule(world_submit((enum kind) random_below(KINDS), reaction) == 0, "submit works", NULL);
    } else if (dice < 402 && world.count < world.config->count) {
        world_submit_next(dice & 1 ? 'n' : 'm');
    } else if (dice < 980) {
        random_close_step();
    } else if (world_sleep(world.now + random_below(5) * FIN__NS_PER_MS)) {
        world_dispatch();
    }
}

static void random_run(const struct config *config, unsigned crowd)
{
    world_begin(config);
    while (world.count < config->count && world.broken == 0)
        random_step(crowd);
    world_finish(random_below(3));
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
    assert_int_equal(world.broken, 0);
}

static void many_small_runs(void **state)
{
    struct config config = { 0 };

    (void) state;
    for (unsigned i = 0; i < 3000 && world.broken == 0; i++) {
        config.cap = random_below(3) ? 0 : 1 + random_below(6);
        config.count = 1 + random_below(12);
        random_run(&config, config.count);
    }
    assert_int_equal(world.broken, 0);
}

/* ---- single facts ---- */

/* Closes that are asked for at one instant, by a clock that does not move on. */
static void a_clock_that_stands(void **state)
{
    static const struct config config = { .count = 5 };

    (void) state;
    world_begin(&config);
    world.still = true;
    for (unsigned i = 0; i < 5; i++)
        assert_int_equal(world_submit(DATAGRAM, NOTHING), 0);
    world_dispatch();
    world_run_on();
    world_finish(0);
    assert_int_equal(world.broken, 0);
}

static void memory_of_a_close(void **state)
{
    (void) state;
    printf("%zu bytes for each close\n", sizeof(struct fin__chunk) / FIN__CHUNK_OPS);
    assert_true(sizeof(struct fin__chunk) <= 256 * FIN__CHUNK_OPS);
}

/* What one dispatch can't take is not forgotten. */
static void more_than_a_batch(void **state)
{
    static const struct config config = { .count = 700 };

    (void) state;
    world_begin(&config);
    for (unsigned i = 0; i < 700; i++)
        assert_int_equal(world_submit(i & 1 ? LAYERED : DATAGRAM, NOTHING), 0);
    while (world.woken)
        world_dispatch();
    assert_int_equal(world.live, 350);
    for (unsigned i = 0; i < 700; i++)
        world_abort(&world.close[i]);
    while (world.woken)
        world_dispatch();
    assert_int_equal(world.live, 0);
    world_finish(0);
    assert_int_equal(world.broken, 0);
}

static int in_child(void)
{
    struct fin_closer_counters counters = FIN_CLOSER_COUNTERS_INIT;
    unsigned forgotten = 0;

    rule(fin_closer_dispatch(world.closer) == -ECHILD, "no dispatch in a child", NULL);
    rule(fin_closer_drain(world.closer, 0) == -ECHILD, "no drain in a child", NULL);
    rule(fin_closer_abort(world.closer, world.close[0].id) == -ECHILD, "no abort in a child", NULL);
    rule(fin_closer_count(world.closer, &counters) == -ECHILD, "no count in a child", NULL);
    for (unsigned i = 0; i < world.count;
         i++) /* whatever is done to one would be without a cause */
        world.close[i].cause = false;
    fin_closer_free(world.closer);
    for (unsigned i = 0; i < world.count; i++)
        forgotten += world.close[i].forgotten;
    rule(forgotten == world.count && world.blocks == 0, "a child can free its copy", NULL);
    (void) fflush(stdout);
    return world.broken > 0;
}

static void a_forked_child(void **state)
{
    static const struct config config = { .count = 8 };
    int status = -1;
    pid_t child;

    (void) state;
    world_begin(&config);
    for (unsigned i = 0; i < 8; i++) {
        if (i == 4) /* some have started, some not */
            world_dispatch();
        assert_int_equal(world_submit(i & 1 ? HELD : STREAM, NOTHING), 0);
    }
    assert_int_equal(fin_closer_abort(world.closer, world.close[1].id), 0);
    (void) fflush(stdout);
    child = fork();
    if (child == 0)
        _exit(in_child());
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
    world_finish(0);
    assert_int_equal(world.broken, 0);
}

static int forgive(void **state)
{
    (void) state;
    world.broken = 0;
    return 0;
}

#define TEST(name) cmocka_unit_test_setup(name, forgive)

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        TEST(memory_of_a_close), TEST(a_clock_that_stands), TEST(a_forked_child),
        TEST(more_than_a_batch), TEST(every_kind),          TEST(every_mixture),
        TEST(every_cap),         TEST(every_reaction),      TEST(many_small_runs),
        TEST(a_crowd),
    };

    seed = argc > 1 ? strtoull(argv[1], NULL, 0) | 1 : 0x66696e61636b;
    world_count_memory();
    return cmocka_run_group_tests_name("book", tests, NULL, NULL);
}
