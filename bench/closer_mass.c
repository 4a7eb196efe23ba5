/* SPDX-License-Identifier: MIT */

/*
 * As many established connections as a process may have, closed at once.
 *
 * The clock runs from the first close call to the last completion. A round does it once in each
 * way, beginning with another one each time; a ratio is of two ways in one round.
 */

#include "closer_parts.h"

#include <stdio.h>
#include <stdlib.h>

#define ROUNDS 7

static const struct way *const ways[] = { &way_ours, &way_raw,    &way_raw_adding,
                                          &way_uv,   &way_uv_eof, &way_event };
#define WAYS (sizeof ways / sizeof *ways)

struct times {
    double wall[WAYS][ROUNDS], processor[WAYS][ROUNDS]; /* ns a close */
};

static void run_way(struct crowd *crowd, size_t way, int *fds, struct times *times, int round)
{
    uint64_t start, used;

    crowd_connect(crowd, fds, crowd->size, 0);
    ways[way]->adopt(fds, crowd->size);
    completed_none(NULL);
    start = monotonic_ns();
    used = processor_ns();
    ways[way]->close_all();
    used = processor_ns() - used;
    start = monotonic_ns() - start;
    if (completed_count() != crowd->size)
        bench_die("%s: %zu completions of %zu", ways[way]->name, completed_count(), crowd->size);
    ways[way]->clean_up();
    crowd_settle(crowd);
    times->wall[way][round] = (double) start / (double) crowd->size;
    times->processor[way][round] = (double) used / (double) crowd->size;
}

static void compare(struct times *times, size_t with, const char *name, double limit,
                    const struct crowd *crowd, struct report *report)
{
    double ratios[ROUNDS], ours[ROUNDS], theirs[ROUNDS], ours_cpu[ROUNDS], theirs_cpu[ROUNDS];
    struct row row;

    for (int i = 0; i < ROUNDS; i++) {
        ours[i] = times->wall[0][i];
        theirs[i] = times->wall[with][i];
        ours_cpu[i] = times->processor[0][i];
        theirs_cpu[i] = times->processor[with][i];
        ratios[i] = ours[i] / theirs[i];
    }
    row = report_row(name, ratios, ROUNDS, limit);
    report_add(report, &row,
               json_pack("{s:I, s:f, s:f, s:f, s:f}", "connections", (json_int_t) crowd->size,
                         "ours_us", bench_median(ours, ROUNDS) / 1e3, "other_us",
                         bench_median(theirs, ROUNDS) / 1e3, "ours_processor_us",
                         bench_median(ours_cpu, ROUNDS) / 1e3, "other_processor_us",
                         bench_median(theirs_cpu, ROUNDS) / 1e3));
}

void bench_mass(struct crowd *crowd, struct report *report)
{
    int *fds = calloc(crowd->size, sizeof *fds);
    struct times times;

    if (!fds)
        bench_die("out of memory");
    for (int round = 0; round < ROUNDS; round++)
        for (size_t i = 0; i < WAYS; i++)
            run_way(crowd, (i + (size_t) round) % WAYS, fds, &times, round);
    compare(&times, 1, "closer.mass/raw.registered", NO_LIMIT, crowd, report);
    compare(&times, 2, "closer.mass/raw", 1.20, crowd, report);
    compare(&times, 3, "closer.mass/libuv", 1.10, crowd, report);
    compare(&times, 4, "closer.mass/libuv.eof", NO_LIMIT, crowd, report);
    compare(&times, 5, "closer.mass/libevent", 1.10, crowd, report);
    free(fds);
}
