/* SPDX-License-Identifier: MIT */

/* Rust's first mangling borrows that of C++, so that its own escapes are left in what libstdc++
 * makes of it: "_$LT$impl$u20$A$GT$" for "<impl A>", ".." for "::", and a hash at the end. */

#include "trace/rust_names.h"

#include "base/line.h"

#include <ctype.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

enum {
    HASH = 17, /* "h", and 16 hexadecimal digits */
    ASCII = 0x80,
    TWO_BYTES = 0x800,
    THREE_BYTES = 0x10000,
    POINTS = 0x110000
};

static void put(struct fin__line *line, const char *from, size_t length)
{
    fin__put(line, "%.*s", (int) length, from);
}

/* As UTF-8. */
static void put_point(struct fin__line *line, uint32_t point)
{
    char bytes[4] = { 0 };
    size_t length = point < ASCII ? 1 : point < TWO_BYTES ? 2 : point < THREE_BYTES ? 3 : 4;
    static const uint8_t first[] = { 0, 0, 0xc0, 0xe0, 0xf0 };

    for (size_t i = length; i-- > 1; point >>= 6)
        bytes[i] = (char) (0x80 | (point & 0x3f));
    bytes[0] = (char) (first[length] | point);
    put(line, bytes, length);
}

static bool put_number(struct fin__line *line, const char *digits, size_t length)
{
    char *end;
    unsigned long point = strtoul(digits, &end, 16);

    if (length == 0 || !isxdigit((unsigned char) *digits) || end != digits + length || point < ' '
        || point >= POINTS)
        return false;
    put_point(line, (uint32_t) point);
    return true;
}

/* What stands between two '$'. */
static bool put_escape(struct fin__line *line, const char *name, size_t length)
{
    static const char *const escapes[][2] = {
        { "SP", "@" }, { "BP", "*" }, { "RF", "&" }, { "LT", "<" },
        { "GT", ">" }, { "LP", "(" }, { "RP", ")" }, { "C", "," },
    };

    for (size_t i = 0; i < sizeof escapes / sizeof *escapes; i++)
        if (strlen(escapes[i][0]) == length && strncmp(name, escapes[i][0], length) == 0) {
            put(line, escapes[i][1], 1);
            return true;
        }
    return *name == 'u' && put_number(line, name + 1, length - 1);
}

static void put_identifier(struct fin__line *line, const char *name, size_t length)
{
    const char *end = name + length;

    if (length > 1 && name[0] == '_' && name[1] == '$')
        name++;
    while (name < end) {
        const char *close = *name == '$' ? memchr(name + 1, '$', (size_t) (end - name - 1)) : NULL;

        if (close && put_escape(line, name + 1, (size_t) (close - name - 1))) {
            name = close + 1;
        } else if (end - name > 1 && name[0] == '.' && name[1] == '.') {
            put(line, "::", 2);
            name += 2;
        } else {
            put(line, name++, 1);
        }
    }
}

/* The next identifier, which its length precedes; or NULL. */
static const char *take_identifier(const char **name, size_t *length)
{
    char *text;
    unsigned long number = isdigit((unsigned char) **name) ? strtoul(*name, &text, 10) : 0;

    if (number == 0 || strnlen(text, number) < number)
        return NULL;
    *name = text + number;
    *length = number;
    return text;
}

static bool is_hash(const char *name, size_t length)
{
    return length == HASH && *name == 'h' && strspn(name + 1, "0123456789abcdef") >= HASH - 1;
}

bool rust_demangle_legacy(const char *name, char *out, size_t size)
{
    struct fin__line line = { out, size, 0 };
    const char *identifier;
    size_t length;

    if (strncmp(name, "_ZN", 3) != 0 || size == 0)
        return false;
    name += 3;
    while ((identifier = take_identifier(&name, &length)) && *name != 'E') {
        if (line.length)
            put(&line, "::", 2);
        put_identifier(&line, identifier, length);
    }
    return identifier && is_hash(identifier, length) && line.length > 0 && line.length < size;
}
