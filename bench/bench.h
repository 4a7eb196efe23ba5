/* SPDX-License-Identifier: MIT */

/* What the benchmarks share. All of it ends the program where it can't go on. */

#ifndef FIN_BENCH_H
#define FIN_BENCH_H

#include <stdbool.h>
#include <stddef.h>

/* ---- errors ---- */

__attribute__((noreturn, format(printf, 1, 2))) void bench_die(const char *format, ...);

/* Passes on what is not negative, else ends the program with errno's text. */
int bench_must(int result, const char *what);

/* ---- the peer: a process that reads each connection to EOF and then closes it at once ---- */

#define BENCH_BATCH_MAX 64
#define BENCH_PORTS 8

struct bench_peer {
    int process;
    int control;
    unsigned short port[BENCH_PORTS];
    unsigned turn;
    bool holds; /* it reads, and so closes, no sooner than bench_peer_settle() */
};

/* Starts it, on a processor of its own where there are two. */
void bench_peer_start(struct bench_peer *peer);

/* Connects `count` sockets; on return the peer waits for the end of the first one. It takes them in
 * this order. */
void bench_peer_connect(struct bench_peer *peer, int *fds, size_t count);

/* Waits until the peer has closed all of the last batch. */
void bench_peer_settle(struct bench_peer *peer);

void bench_peer_stop(struct bench_peer *peer);

/* ---- system calls ---- */

#define BENCH_COUNTED 33

struct bench_calls {
    unsigned usual, least, most; /* by one operation; usual: the median */
};

/* Runs `run` in a child that is traced. It is to call bench_mark() before and after each of
 * BENCH_COUNTED operations. */
struct bench_calls bench_count(void (*run)(const void *arg), const void *arg);
void bench_mark(void);

/* ---- results ---- */

struct bench_result {
    const char *name;
    double ratio, min, max; /* min, max: of the medians of equal parts of the run */
    double limit;
    double ours_ns, raw_ns; /* medians */
    struct bench_calls calls;
    unsigned calls_limit;
};

/* Reorders `values`. */
double bench_median(double *values, size_t count);

/* Prints the table, writes the JSON to `path`; true if nothing is over its limit. */
bool bench_report(const struct bench_result *results, size_t count, const char *path);

/* Closer and peer run side by side, so neither may take the other's time: the nth processor that we
 * may use, if there are two. */
void bench_pin(unsigned nth);

#endif
