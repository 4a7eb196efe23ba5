/* SPDX-License-Identifier: MIT */

/* The parts of the closer's benchmark. */

#ifndef FIN_BENCH_CLOSER_PARTS_H
#define FIN_BENCH_CLOSER_PARTS_H

#include "bench.h"

#include <jansson.h>
#include <stdint.h>

/* ---- results: each is a row on the screen and an object in the JSON ---- */

#define NO_LIMIT (-1.0)

struct report {
    json_t *list;
    bool over; /* something is */
};

struct row {
    const char *name;
    double ratio, min, max; /* min, max: of the rounds */
    double limit;           /* or NO_LIMIT */
};

/* Takes `more` over: further fields, or NULL. */
void report_add(struct report *report, const struct row *row, json_t *more);

/* The median of `ratios`, their least and greatest; reorders them. */
struct row report_row(const char *name, double *ratios, size_t count, double limit);

/* ---- clocks ---- */

uint64_t monotonic_ns(void);
uint64_t processor_ns(void); /* used by this process */

/* ---- the peer of many connections, in a process and on a processor of its own ---- */

#define CROWD_PORTS 32

struct crowd {
    int process;
    int control;
    unsigned short port[CROWD_PORTS];
    unsigned turn;
    uint64_t *stamps; /* shared with the peer: when it was about to close the ith connection */
    size_t size;      /* connections at most */
};

/* Raises RLIMIT_NOFILE as far as it goes. */
void crowd_start(struct crowd *crowd);
void crowd_stop(struct crowd *crowd);

/* Connects `count` sockets. The peer reads each to EOF. With `stamped` 0 it closes each at once;
 * else it closes, once all have come to EOF, that many of them in random order, one each
 * CROWD_PACE_NS, and then the others. */
#define CROWD_PACE_NS 100000
void crowd_connect(struct crowd *crowd, int *fds, size_t count, size_t stamped);

/* Waits until the peer has closed all of them. */
void crowd_settle(struct crowd *crowd);

/* ---- ways to close many connections ---- */

/* After so many close calls each way lets its event loop have a turn, which is faster for all: the
 * peer has work sooner, and less has left the caches. */
#define TURN 128

static inline bool is_turn(size_t i)
{
    return i % TURN == TURN - 1;
}

struct way {
    const char *name;
    /* Before the clock starts: the connections as a running program has them. */
    void (*adopt)(const int *fds, size_t count);
    /* Closes all of them, returns after the last completion. */
    void (*close_all)(void);
    void (*clean_up)(void);
};

extern const struct way way_ours, way_raw, way_raw_watched, way_uv, way_uv_eof, way_event;

/* Each way calls it once for each connection. */
void completed(size_t i);
size_t completed_count(void);

/* Sets the count to 0. `stamps` may be NULL; else it gets the time of each. */
void completed_none(uint64_t *stamps);

/* ---- the benchmarks ---- */

void bench_mass(struct crowd *crowd, struct report *report);
void bench_latency(struct crowd *crowd, struct report *report);
void bench_simulation(struct report *report);
void bench_idle(struct crowd *crowd, struct report *report);

/* What finack has allocated and not freed. */
void counting_start(void);
size_t counted_bytes(void);

#endif
