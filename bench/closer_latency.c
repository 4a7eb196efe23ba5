/* SPDX-License-Identifier: MIT */

/*
 * From "the peer's FIN has come" to the completion, while 5,000 other closes are pending.
 *
 * The peer's process stamps CLOCK_MONOTONIC, which is one for all processes, right before it calls
 * close(2); the completion callback stamps it again. So the time has in it the peer's close(2),
 * which queues FIN and, on loopback, delivers it. The peer closes one connection each
 * CROWD_PACE_NS, in random order: it is the way of one event that is measured, not a queue.
 */

#include "closer_parts.h"

#include <stdio.h>
#include <stdlib.h>

#define PENDING 5000
#define SAMPLES 5000
#define ROUNDS 5

static const struct way *const ways[] = { &way_ours, &way_uv_eof, &way_event, &way_raw_watched };
#define WAYS (sizeof ways / sizeof *ways)

struct quantiles {
    double half[WAYS][ROUNDS], most[WAYS][ROUNDS]; /* p50, p99: us */
};

struct batch {
    size_t count, samples;
    int *fds;
    uint64_t *done_at;
    double *us;
};

static void measure(struct crowd *crowd, size_t way, struct batch *b, struct quantiles *q,
                    int round)
{
    size_t n = 0;

    crowd_connect(crowd, b->fds, b->count, b->samples);
    ways[way]->adopt(b->fds, b->count);
    completed_none(b->done_at);
    ways[way]->close_all();
    ways[way]->clean_up();
    crowd_settle(crowd);
    for (size_t i = 0; i < b->count; i++)
        if (crowd->stamps[i])
            b->us[n++] = (double) (b->done_at[i] - crowd->stamps[i]) / 1e3;
    q->half[way][round] = bench_median(b->us, n); /* sorts */
    q->most[way][round] = b->us[n * 99 / 100];
}

static void compare(double of[WAYS][ROUNDS], size_t with, const char *name, const struct batch *b,
                    struct report *report)
{
    double ratios[ROUNDS], ours[ROUNDS], theirs[ROUNDS];
    struct row row;

    for (int i = 0; i < ROUNDS; i++) {
        ours[i] = of[0][i];
        theirs[i] = of[with][i];
        ratios[i] = ours[i] / theirs[i];
    }
    row = report_row(name, ratios, ROUNDS, NO_LIMIT);
    report_add(report, &row,
               json_pack("{s:I, s:f, s:f}", "pending", (json_int_t) (b->count - b->samples),
                         "ours_us", bench_median(ours, ROUNDS), "other_us",
                         bench_median(theirs, ROUNDS)));
}

void bench_latency(struct crowd *crowd, struct report *report)
{
    size_t half = crowd->size / 2;
    struct batch b = { .samples = half < SAMPLES ? half : SAMPLES };
    struct quantiles q;

    b.count = b.samples + (half < PENDING ? half : PENDING);
    b.fds = calloc(b.count, sizeof *b.fds);
    b.done_at = calloc(b.count, sizeof *b.done_at);
    b.us = calloc(b.count, sizeof *b.us);
    if (!b.fds || !b.done_at || !b.us)
        bench_die("out of memory");
    for (int round = 0; round < ROUNDS; round++)
        for (size_t i = 0; i < WAYS; i++)
            measure(crowd, (i + (size_t) round) % WAYS, &b, &q, round);
    compare(q.half, 1, "closer.latency.p50/libuv", &b, report);
    compare(q.most, 1, "closer.latency.p99/libuv", &b, report);
    compare(q.half, 2, "closer.latency.p50/libevent", &b, report);
    compare(q.most, 2, "closer.latency.p99/libevent", &b, report);
    compare(q.half, 3, "closer.latency.p50/raw", &b, report);
    compare(q.most, 3, "closer.latency.p99/raw", &b, report);
    completed_none(NULL);
    free(b.fds);
    free(b.done_at);
    free(b.us);
}
