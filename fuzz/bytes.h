/* SPDX-License-Identifier: MIT */

/* What all fuzz targets have in common: taking decisions from bytes, and failing. */

#ifndef FIN_FUZZ_BYTES_H
#define FIN_FUZZ_BYTES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The target itself; returns 0. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* The bytes that are left. When they are used up, zeros are taken. */
struct bytes {
    const uint8_t *at;
    size_t left;
};

uint8_t take_byte(struct bytes *bytes);
/* `size` bytes, the least significant first. */
uint64_t take_number(struct bytes *bytes, unsigned size);
/* The same as a number with a sign, of up to 4 bytes. */
int take_signed(struct bytes *bytes, unsigned size);
/* From 0 to limit - 1, of one byte. */
unsigned take_below(struct bytes *bytes, unsigned limit);
/* Up to the next zero byte, or all that is left; cut to `size`, always terminated. */
const char *take_text(struct bytes *bytes, char *buf, size_t size);

/* Ends the process, so that the input is kept. */
__attribute__((noreturn)) void does_not_hold(const char *what);

static inline void must(bool holds, const char *what)
{
    if (!holds)
        does_not_hold(what);
}

/* No byte of it can make a terminal do something; the ends of lines may be in it. */
bool is_harmless(const char *text);

#endif
