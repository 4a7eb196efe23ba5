/* SPDX-License-Identifier: MIT */

/* Times and sizes as people write and read them. */

#ifndef TOOL_UNITS_H
#define TOOL_UNITS_H

#include <stddef.h>
#include <stdint.h>

/* "250", "250ms", "2s", "1.5s", "1min", "5m", "3h"; a plain number is milliseconds.
 * Errors: -EINVAL, -ERANGE (over a day). */
int parse_time(const char *text, int32_t *ret_ms);

/* "1048576", "64K", "1M", "1G": bytes, units are powers of 1024. Errors: -EINVAL, -ERANGE. */
int parse_size(const char *text, uint64_t *ret);

/* A decimal number from low to high. Errors: -EINVAL, -ERANGE. */
int parse_number(const char *text, uint64_t low, uint64_t high, uint64_t *ret);

/* At most 5 characters up to 27 years: "70us", "1.2ms", "301ms", "1.00s", "9999s", "27.7h"; cut,
 * not rounded. */
void format_time(int64_t ns, char *buf, size_t size);

/* At most 5 characters up to a terabyte: "1000", "2560K", "12M". */
void format_size(uint64_t bytes, char *buf, size_t size);

/* Writes a number, terminated, in a third of the time that snprintf(3) takes; gives where it ends.
 * There must be room for 21 bytes. */
char *put_decimal(char *at, uint64_t number);

#endif
