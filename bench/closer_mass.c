/* SPDX-License-Identifier: MIT */

/*
 * As many established connections as a process may have, closed at once.
 *
 * The clock runs from the first close call to the last completion. A round does it once in each
 * way, beginning with another one each time; a ratio is of two ways in one round.
 *
 * What is compared:
 *   closer      fin_closer_submit() with courtesy orderly and proof unreferenced
 *   raw         EPOLL_CTL_ADD, shutdown, recv until 0, close: as ours, the sockets come unwatched
 *   raw.watched the same with all sockets in the epoll set before the clock starts
 *   libuv       uv_shutdown, read to EOF, uv_close; all reading before the clock starts
 *   libuv.blind uv_shutdown, uv_close in its callback: does not wait for the peer, reads nothing,
 *               so that input that comes late makes the kernel reset the connection
 *   libevent    shutdown, an event that reads to EOF and closes; all added before the clock starts
 * None but the closer has a deadline, tells FIN from reset, knows what was acked, proves that
 * nothing holds the socket, or leaves a receipt.
 */

#include "closer_parts.h"

#include <stdio.h>
#include <stdlib.h>

#define ROUNDS 5

enum {
    OURS,
    RAW,
    RAW_WATCHED,
    UV,
    UV_EOF,
    EVENT,
    WAYS
};

static const struct way *const ways[WAYS] = {
    [OURS] = &way_ours, [RAW] = &way_raw,       [RAW_WATCHED] = &way_raw_watched,
    [UV] = &way_uv,     [UV_EOF] = &way_uv_eof, [EVENT] = &way_event,
};

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

/* `of` and `with`: indices in ways[]. */
static void compare(const struct times *times, size_t of, size_t with, const char *name,
                    double limit, struct report *report)
{
    double ratios[ROUNDS], copies[4][ROUNDS];
    struct row row;

    for (int i = 0; i < ROUNDS; i++) {
        copies[0][i] = times->wall[of][i] / 1e3;
        copies[1][i] = times->wall[with][i] / 1e3;
        copies[2][i] = times->processor[of][i] / 1e3;
        copies[3][i] = times->processor[with][i] / 1e3;
        ratios[i] = copies[0][i] / copies[1][i];
    }
    row = report_row(name, ratios, ROUNDS, limit);
    report_add(report, &row,
               json_pack("{s:f, s:f, s:f, s:f}", "us", bench_median(copies[0], ROUNDS), "other_us",
                         bench_median(copies[1], ROUNDS), "processor_us",
                         bench_median(copies[2], ROUNDS), "other_processor_us",
                         bench_median(copies[3], ROUNDS)));
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
    compare(&times, OURS, RAW, "closer.mass/raw", 1.15, report);
    compare(&times, OURS, RAW_WATCHED, "closer.mass/raw.watched", NO_LIMIT, report);
    compare(&times, OURS, UV_EOF, "closer.mass/libuv", 1.10, report);
    compare(&times, OURS, UV, "closer.mass/libuv.blind", NO_LIMIT, report);
    compare(&times, RAW_WATCHED, UV, "raw.watched/libuv.blind", NO_LIMIT, report);
    compare(&times, OURS, EVENT, "closer.mass/libevent", 1.10, report);
    free(fds);
}
