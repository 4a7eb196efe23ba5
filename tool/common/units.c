/* SPDX-License-Identifier: MIT */

#include "common/units.h"

#include <errno.h>
#include <finack.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

/* Reads digits; returns where they end, or NULL if there are none or too many. */
static const char *digits(const char *text, uint64_t *ret)
{
    uint64_t value = 0;
    const char *at = text;

    for (; *at >= '0' && *at <= '9'; at++)
        if (__builtin_mul_overflow(value, 10, &value)
            || __builtin_add_overflow(value, (uint64_t) (*at - '0'), &value))
            return NULL;
    *ret = value;
    return at == text ? NULL : at;
}

/* Up to three decimals, as thousandths. */
static const char *decimals(const char *at, uint64_t *ret_thousandths)
{
    uint64_t weight = 100;

    *ret_thousandths = 0;
    if (*at != '.')
        return at;
    at++;
    if (*at < '0' || *at > '9')
        return NULL;
    for (; *at >= '0' && *at <= '9'; at++, weight /= 10)
        *ret_thousandths += weight * (uint64_t) (*at - '0');
    return at;
}

static uint64_t time_unit(const char *unit)
{
    if (*unit == '\0' || strcmp(unit, "ms") == 0)
        return 1;
    if (strcmp(unit, "s") == 0)
        return 1000;
    if (strcmp(unit, "h") == 0)
        return 3600000;
    return strcmp(unit, "min") == 0 || strcmp(unit, "m") == 0 ? 60000 : 0;
}

int parse_time(const char *text, int32_t *ret_ms)
{
    uint64_t whole, thousandths, unit;
    const char *at = digits(text, &whole);

    at = at ? decimals(at, &thousandths) : NULL;
    unit = at ? time_unit(at) : 0;
    if (!unit)
        return text[strspn(text, "0123456789")] == '\0' && *text ? -ERANGE : -EINVAL;
    if (whole > FIN_TIME_MAX_MS)
        return -ERANGE;
    whole = whole * unit + thousandths * unit / 1000;
    if (whole > FIN_TIME_MAX_MS)
        return -ERANGE;
    *ret_ms = (int32_t) whole;
    return 0;
}

int parse_size(const char *text, uint64_t *ret)
{
    static const char units[] = "KMGT";
    uint64_t value;
    const char *at = digits(text, &value), *unit;
    unsigned shift = 0;

    if (!at)
        return *text >= '0' && *text <= '9' ? -ERANGE : -EINVAL;
    if (*at) {
        unit = strchr(units, *at);
        if (!unit || at[1])
            return -EINVAL;
        shift = 10 * (unsigned) (unit - units + 1);
    }
    if (value > UINT64_MAX >> shift)
        return -ERANGE;
    *ret = value << shift;
    return 0;
}

int parse_number(const char *text, uint64_t low, uint64_t high, uint64_t *ret)
{
    uint64_t value;
    const char *at = digits(text, &value);

    if (!at)
        return *text >= '0' && *text <= '9' ? -ERANGE : -EINVAL;
    if (*at)
        return -EINVAL;
    if (value < low || value > high)
        return -ERANGE;
    *ret = value;
    return 0;
}

static void with_decimals(uint64_t hundredths, int places, const char *unit, char *buf, size_t size)
{
    uint64_t part = places == 1 ? hundredths % 100 / 10 : hundredths % 100;

    snprintf(buf, size, "%" PRIu64 ".%0*" PRIu64 "%s", hundredths / 100, places, part, unit);
}

void format_time(int64_t ns, char *buf, size_t size)
{
    uint64_t us = ns < 0 ? 0 : (uint64_t) ns / 1000;

    if (us < 1000)
        snprintf(buf, size, "%" PRIu64 "us", us);
    else if (us < 10000)
        with_decimals(us / 10, 1, "ms", buf, size);
    else if (us < 1000000)
        snprintf(buf, size, "%" PRIu64 "ms", us / 1000);
    else if (us < 10000000)
        with_decimals(us / 10000, 2, "s", buf, size);
    else if (us < 100000000)
        with_decimals(us / 10000, 1, "s", buf, size);
    else if (us < 10000000000)
        snprintf(buf, size, "%" PRIu64 "s", us / 1000000);
    else if (us < 360000000000)
        with_decimals(us / 36000000, 1, "h", buf, size);
    else if (us < 36000000000000)
        snprintf(buf, size, "%" PRIu64 "h", us / 3600000000);
    else
        snprintf(buf, size, "%" PRIu64 "d", us / 86400000000);
}

void format_size(uint64_t bytes, char *buf, size_t size)
{
    static const char units[] = "KMGTPE";
    size_t i;

    if (bytes < 100000) {
        snprintf(buf, size, "%" PRIu64, bytes);
        return;
    }
    bytes /= 1024;
    for (i = 0; bytes >= 10000 && i + 2 < sizeof units; i++)
        bytes /= 1024;
    snprintf(buf, size, "%" PRIu64 "%c", bytes, units[i]);
}

char *put_decimal(char *at, uint64_t number)
{
    char digits[20];
    size_t count = 0;

    do
        digits[count++] = (char) ('0' + number % 10);
    while (number /= 10);
    while (count)
        *at++ = digits[--count];
    *at = '\0';
    return at;
}
