/* SPDX-License-Identifier: MIT */

#include "bench.h"

#include <errno.h>
#include <jansson.h>
#include <sched.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void bench_die(const char *format, ...)
{
    va_list args;

    va_start(args, format);
    (void) fputs("bench: ", stderr);
    (void) vfprintf(stderr, format, args);
    (void) fputc('\n', stderr);
    va_end(args);
    exit(2);
}

int bench_must(int result, const char *what)
{
    if (result < 0)
        bench_die("%s: %s", what, strerror(errno));
    return result;
}

static int compare(const void *a, const void *b)
{
    double x = *(const double *) a, y = *(const double *) b;

    return (x > y) - (x < y);
}

double bench_median(double *values, size_t count)
{
    qsort(values, count, sizeof *values, compare);
    return (values[(count - 1) / 2] + values[count / 2]) / 2;
}

static bool print_row(const struct bench_result *r)
{
    bool slow = r->ratio > r->limit, busy = r->calls.usual > r->calls_limit;

    (void) printf("%-28s %6.3f %6.3f %6.3f %6.2f %8.2f %8.2f   %3u (%u to %u), at most %u%s%s\n",
                  r->name, r->ratio, r->min, r->max, r->limit, r->ours_ns / 1e3, r->raw_ns / 1e3,
                  r->calls.usual, r->calls.least, r->calls.most, r->calls_limit,
                  slow ? "   ratio is over" : "", busy ? "   system calls are over" : "");
    return !slow && !busy;
}

static bool print_table(const struct bench_result *results, size_t count)
{
    bool fine = true;

    (void) printf("%-28s %6s %6s %6s %6s %8s %8s   %s\n", "name", "ratio", "min", "max", "limit",
                  "us", "raw us", "system calls");
    for (size_t i = 0; i < count; i++)
        fine = print_row(&results[i]) && fine;
    (void) printf(
        "ratio: median over all rounds; min, max: least and greatest median of equal parts "
        "of the run\n"
        "system calls: in the usual close; in brackets the fewest and the most\n");
    return fine;
}

static double rounded(double value)
{
    return (double) (long) (value * 1e4 + 0.5) / 1e4;
}

static json_t *as_json(const struct bench_result *r)
{
    return json_pack("{s:s, s:f, s:f, s:f, s:f, s:i}", "name", r->name, "ratio", rounded(r->ratio),
                     "min", rounded(r->min), "max", rounded(r->max), "limit", r->limit,
                     "system_calls", (int) r->calls.usual);
}

static void write_json(const struct bench_result *results, size_t count, const char *path)
{
    json_t *list = json_array();

    for (size_t i = 0; i < count; i++)
        if (json_array_append_new(list, as_json(&results[i])) < 0)
            bench_die("out of memory");
    if (json_dump_file(list, path, JSON_INDENT(2) | JSON_REAL_PRECISION(6)) < 0)
        bench_die("%s: can't be written", path);
    json_decref(list);
}

bool bench_report(const struct bench_result *results, size_t count, const char *path)
{
    write_json(results, count, path);
    return print_table(results, count);
}

/* ---- the processors ---- */

void bench_pin(unsigned nth)
{
    cpu_set_t allowed, one;

    bench_must(sched_getaffinity(0, sizeof allowed, &allowed), "sched_getaffinity");
    if (CPU_COUNT(&allowed) < 2)
        return;
    for (size_t cpu = 0; cpu < CPU_SETSIZE; cpu++) {
        if (!CPU_ISSET(cpu, &allowed) || nth-- > 0)
            continue;
        CPU_ZERO(&one);
        CPU_SET(cpu, &one);
        bench_must(sched_setaffinity(0, sizeof one, &one), "sched_setaffinity");
        return;
    }
}
