/* SPDX-License-Identifier: MIT */

/* What many closes at once cost. */

#include "closer_parts.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#define TIME_LIMIT_S 120

static uint64_t clock_ns(clockid_t id)
{
    struct timespec ts;

    (void) clock_gettime(id, &ts);
    return (uint64_t) ts.tv_sec * 1000000000u + (uint64_t) ts.tv_nsec;
}

uint64_t monotonic_ns(void)
{
    return clock_ns(CLOCK_MONOTONIC);
}

uint64_t processor_ns(void)
{
    return clock_ns(CLOCK_PROCESS_CPUTIME_ID);
}

static double rounded(double value)
{
    return (double) (long) (value * 1e4 + 0.5) / 1e4;
}

struct row report_row(const char *name, double *ratios, size_t count, double limit)
{
    struct row row = { .name = name, .limit = limit, .ratio = bench_median(ratios, count) };

    row.min = ratios[0]; /* bench_median() has sorted them */
    row.max = ratios[count - 1];
    return row;
}

static void print_more(json_t *more)
{
    const char *key;
    json_t *value;

    json_object_foreach(more, key, value)
    {
        if (json_is_real(value))
            (void) printf("  %s %.3f", key, json_real_value(value));
        else if (json_is_integer(value))
            (void) printf("  %s %lld", key, (long long) json_integer_value(value));
    }
}

void report_add(struct report *report, const struct row *row, json_t *more)
{
    bool limited = row->limit >= 0, over = limited && row->ratio > row->limit;
    json_t *object =
        json_pack("{s:s, s:f, s:f, s:f, s:o}", "name", row->name, "ratio", rounded(row->ratio),
                  "min", rounded(row->min), "max", rounded(row->max), "limit",
                  limited ? json_real(row->limit) : json_null());

    (void) printf("%-28s %8.3f %8.3f %8.3f ", row->name, row->ratio, row->min, row->max);
    if (limited)
        (void) printf("%8.2f", row->limit);
    else
        (void) printf("%8s", "-");
    print_more(more);
    (void) printf("%s\n", over ? "  OVER" : "");
    (void) fflush(stdout);
    if (!object || (more && json_object_update(object, more) < 0)
        || json_array_append_new(report->list, object) < 0)
        bench_die("out of memory");
    json_decref(more);
    report->over = report->over || over;
}

int main(int argc, char **argv)
{
    struct report report = { json_array(), false };
    struct crowd crowd;

    if (argc != 2) {
        (void) fprintf(stderr, "usage: %s FILE.json\n", argv[0]);
        return 2;
    }
    (void) alarm(TIME_LIMIT_S); /* a benchmark that hangs has failed */
    counting_start();
    (void) printf("%-28s %8s %8s %8s %8s\n", "name", "ratio", "min", "max", "limit");
    crowd_start(&crowd);
    bench_mass(&crowd, &report);
    bench_latency(&crowd, &report);
    bench_idle(&crowd, &report);
    crowd_stop(&crowd);
    bench_simulation(&report);
    if (json_dump_file(report.list, argv[1], JSON_INDENT(2) | JSON_REAL_PRECISION(6)) < 0)
        bench_die("%s: can't be written", argv[1]);
    json_decref(report.list);
    return report.over ? 1 : 0;
}
