/* SPDX-License-Identifier: MIT */

/* Many threads that submit, abort and count, and one that dispatches. Run under the thread
 * sanitizer too. */

#include "closer_support.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define THREADS 8

static unsigned next_random(unsigned *seed)
{
    *seed = *seed * 1664525u + 1013904223u;
    return *seed >> 8;
}

/* ---- submitted from everywhere, completed in one place ---- */

#define EACH 60

struct job {
    struct one one;
    struct seen seen;
    bool abort;
};

struct worker {
    pthread_t thread;
    struct fin_closer *closer;
    unsigned seed;
    atomic_bool done;
    struct job jobs[EACH];
};

static void run_job(struct worker *w, struct job *job)
{
    struct fin_policy policy = policy_of(FIN_COURTESY_ORDERLY);
    int fds[2], result;

    tcp_pair(AF_INET, BUFFERS_USUAL, fds);
    give(fds[US], "hello");
    job->abort = next_random(&w->seed) % 4 == 0;
    submit(w->closer, &job->one, fds[US], &policy);
    if (job->abort) {
        result = fin_closer_abort(w->closer, job->one.op);
        assert_true(result == 0 || result == -ENOENT);
    }
    job->seen = see(fds[THEM]);
    drop_all(fds[THEM], -1);
    assert_true(pending(w->closer) <= THREADS * EACH);
}

static void *work(void *arg)
{
    struct worker *w = arg;

    for (int i = 0; i < EACH; i++)
        run_job(w, &w->jobs[i]);
    atomic_store(&w->done, true);
    return NULL;
}

static void check_job(const struct job *job)
{
    const struct fin_receipt *r = &job->one.receipt;

    assert_int_equal(job->one.calls, 1);
    assert_true(pthread_equal(job->one.thread, pthread_self()));
    assert_sound(r);
    assert_int_equal(r->held, FIN_NO);
    if (!job->abort)
        assert_outcome(r, FIN_OUTCOME_GRACEFUL, FIN_END_FIN);
    if (r->end == FIN_END_FIN) {
        assert_seen_fin(job->seen, 5);
    } else if (r->end == FIN_END_KERNEL) { /* both ended while it was to be reset */
        assert_outcome(r, FIN_OUTCOME_ABORTED, FIN_END_KERNEL);
        assert_true(job->abort && reached(r, FIN_STAGE_SHUT));
    } else {
        assert_outcome(r, FIN_OUTCOME_ABORTED, FIN_END_RESET);
        assert_true(job->abort);
        /* After our FIN the peer may have looked before our RST came. */
        if (!reached(r, FIN_STAGE_SHUT))
            assert_seen_reset(job->seen);
    }
}

static void test_submit_from_threads(void **state)
{
    static struct worker workers[THREADS];
    struct fin_closer *closer = closer_of(0);

    (void) state;
    memset(workers, 0, sizeof workers);
    for (unsigned i = 0; i < THREADS; i++) {
        workers[i].closer = closer;
        workers[i].seed = i;
        assert_int_equal(pthread_create(&workers[i].thread, NULL, work, &workers[i]), 0);
    }
    while (completions() < THREADS * EACH)
        (void) turn(closer);
    for (int i = 0; i < THREADS; i++)
        assert_int_equal(pthread_join(workers[i].thread, NULL), 0);
    for (int i = 0; i < THREADS; i++)
        for (int j = 0; j < EACH; j++)
            check_job(&workers[i].jobs[j]);
    assert_int_equal(pending(closer), 0);
    fin_closer_free(closer);
}

/* ---- aborts that hit anything at any moment ---- */

#define RACES 400
#define KNOWN 64

static _Atomic uint64_t known[KNOWN];
static atomic_uint completed_races;

struct racer {
    pthread_t thread;
    struct fin_closer *closer;
    unsigned seed;
};

static void count_race(const struct fin_receipt *receipt, void *arg)
{
    (void) arg;
    (void) receipt;
    atomic_fetch_add(&completed_races, 1);
}

static void race_once(struct racer *racer)
{
    struct fin_policy policy = policy_of(FIN_COURTESY_ORDERLY);
    uint64_t op;
    int fds[2], result;

    unix_pair(SOCK_STREAM, fds);
    policy.linger_ms = 10000;
    assert_int_equal(fin_closer_submit(racer->closer, fds[US], &policy, count_race, NULL, &op), 0);
    atomic_store(&known[next_random(&racer->seed) % KNOWN], op);
    for (int i = 0; i < 3; i++) {
        op = atomic_load(&known[next_random(&racer->seed) % KNOWN]);
        result = fin_closer_abort(racer->closer, op);
        assert_true(result == 0 || result == -ENOENT);
    }
    drop_all(fds[THEM], -1);
}

static void *race(void *arg)
{
    for (int i = 0; i < RACES; i++)
        race_once(arg);
    return NULL;
}

static void race_all(uint32_t cap)
{
    struct fin_closer_counters counters = FIN_CLOSER_COUNTERS_INIT;
    struct fin_closer *closer = closer_of(cap);
    struct racer racers[THREADS] = { 0 };

    atomic_store(&completed_races, 0);
    for (unsigned i = 0; i < THREADS; i++) {
        racers[i].closer = closer;
        racers[i].seed = i;
        assert_int_equal(pthread_create(&racers[i].thread, NULL, race, &racers[i]), 0);
    }
    while (atomic_load(&completed_races) < THREADS * RACES)
        (void) turn(closer);
    for (int i = 0; i < THREADS; i++)
        assert_int_equal(pthread_join(racers[i].thread, NULL), 0);
    assert_int_equal(fin_closer_count(closer, &counters), 0);
    assert_int_equal(counters.submitted, THREADS * RACES);
    assert_int_equal(counters.completed, THREADS * RACES);
    assert_int_equal(counters.pending, 0);
    while (is_readable(closer))
        assert_int_equal(fin_closer_dispatch(closer), 0);
    fin_closer_free(closer);
}

static void test_abort_races(void **state)
{
    (void) state;
    busy();
    race_all(0);
    race_all(4);
}

/* ---- a closer that changes threads ---- */

static void *make_closer(void *arg)
{
    struct fin_closer **ret = arg;

    *ret = closer_of(0);
    return NULL;
}

/* The thread that made it is gone, and with it its view of /proc. */
static void test_made_elsewhere(void **state)
{
    struct fin_policy policy = policy_of(FIN_COURTESY_PROMPT);
    struct fin_closer *closer = NULL;
    struct fin_receipt r;
    pthread_t thread;
    int fds[2];

    (void) state;
    assert_int_equal(pthread_create(&thread, NULL, make_closer, &closer), 0);
    assert_int_equal(pthread_join(thread, NULL), 0);
    tcp_pair(AF_INET, BUFFERS_USUAL, fds);
    r = closed_by(closer, fds[US], &policy);
    assert_outcome(&r, FIN_OUTCOME_PROMPT, FIN_END_KERNEL);
    assert_int_equal(r.held, FIN_NO);
    assert_seen_fin(see(fds[THEM]), 0);
    drop_all(fds[THEM], -1);
    fin_closer_free(closer);
}

static void *free_elsewhere(void *arg)
{
    fin_closer_free(arg);
    return NULL;
}

static void test_freed_elsewhere(void **state)
{
    struct fin_policy policy = policy_of(FIN_COURTESY_ORDERLY);
    struct fin_closer *closer = closer_of(0);
    struct one one = { 0 };
    pthread_t thread;
    int fds[2];

    (void) state;
    tcp_pair(AF_INET, BUFFERS_USUAL, fds);
    submit(closer, &one, fds[US], &policy);
    (void) turn(closer);
    assert_int_equal(pthread_create(&thread, NULL, free_elsewhere, closer), 0);
    assert_int_equal(pthread_join(thread, NULL), 0);
    assert_int_equal(one.calls, 1);
    assert_true(pthread_equal(one.thread, thread));
    assert_outcome(&one.receipt, FIN_OUTCOME_ABORTED, FIN_END_RESET);
    assert_int_equal(one.receipt.held, FIN_NO);
    assert_int_equal(see(fds[THEM]).next_send, EPIPE);
    drop_all(fds[THEM], -1);
}

/* A submission wakes a poller that waits in another thread, also if there is nothing to report of
 * the descriptor itself. */
static void *dispatch_one(void *arg)
{
    while (turn(arg) == 0)
        ;
    return NULL;
}

static void test_submission_wakes(void **state)
{
    struct fin_policy policy = policy_of(FIN_COURTESY_PROMPT);
    struct fin_closer *closer = closer_of(0);
    struct one one = { 0 };
    pthread_t thread;
    int fds[2];

    (void) state;
    assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
    assert_int_equal(pthread_create(&thread, NULL, dispatch_one, closer), 0);
    submit(closer, &one, fds[0], &policy);
    assert_int_equal(pthread_join(thread, NULL), 0);
    assert_int_equal(one.calls, 1);
    assert_true(pthread_equal(one.thread, thread));
    assert_true(is_free(fds[0]));
    drop_all(fds[1], -1);
    fin_closer_free(closer);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        GUARDED(test_submit_from_threads), GUARDED(test_abort_races),
        GUARDED(test_made_elsewhere),      GUARDED(test_freed_elsewhere),
        GUARDED(test_submission_wakes),
    };

    own_network();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
