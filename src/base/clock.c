/* SPDX-License-Identifier: MIT */

#include "base/clock.h"

#include <time.h>

static uint64_t read_clock(clockid_t clock)
{
    struct timespec ts;

    (void) clock_gettime(clock, &ts);
    return (uint64_t) ts.tv_sec * FIN__NS_PER_S + (uint64_t) ts.tv_nsec;
}

uint64_t fin__now(void)
{
    return read_clock(CLOCK_MONOTONIC);
}

uint64_t fin__used(void)
{
    return read_clock(CLOCK_THREAD_CPUTIME_ID);
}
