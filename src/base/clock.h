/* SPDX-License-Identifier: MIT */

#ifndef FIN_CLOCK_H
#define FIN_CLOCK_H

#include <stdint.h>

#define FIN__NS_PER_MS 1000000u
#define FIN__NS_PER_S 1000000000u

/* CLOCK_MONOTONIC in nanoseconds. */
uint64_t fin__now(void);

/* The processor time of this thread in nanoseconds. */
uint64_t fin__used(void);

#endif
