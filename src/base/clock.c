/* SPDX-License-Identifier: MIT */

#include "base/clock.h"

#include <time.h>

uint64_t fin__now(void)
{
    struct timespec ts;

    (void) clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t) ts.tv_sec * FIN__NS_PER_S + (uint64_t) ts.tv_nsec;
}
