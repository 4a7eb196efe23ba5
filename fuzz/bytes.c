/* SPDX-License-Identifier: MIT */

#include "bytes.h"

#include <stdio.h>
#include <stdlib.h>

uint8_t take_byte(struct bytes *bytes)
{
    if (bytes->left == 0)
        return 0;
    bytes->left--;
    return *bytes->at++;
}

uint64_t take_number(struct bytes *bytes, unsigned size)
{
    uint64_t number = 0;

    for (unsigned i = 0; i < size; i++)
        number |= (uint64_t) take_byte(bytes) << 8 * i;
    return number;
}

int take_signed(struct bytes *bytes, unsigned size)
{
    uint64_t number = take_number(bytes, size), sign;

    must(size >= 1 && size <= 4, "a size of 1 to 4");
    sign = UINT64_C(1) << (8 * size - 1);
    return (int) ((int64_t) (number ^ sign) - (int64_t) sign);
}

unsigned take_below(struct bytes *bytes, unsigned limit)
{
    return take_byte(bytes) % limit;
}

const char *take_text(struct bytes *bytes, char *buf, size_t size)
{
    size_t used = 0;
    uint8_t byte;

    while ((byte = take_byte(bytes)))
        if (used + 1 < size)
            buf[used++] = (char) byte;
    buf[used] = '\0';
    return buf;
}

void does_not_hold(const char *what)
{
    fprintf(stderr, "does not hold: %s\n", what);
    abort();
}

bool is_harmless(const char *text)
{
    for (; *text; text++)
        if ((*text < ' ' && *text != '\n') || *text == 0x7f)
            return false;
    return true;
}
