/* SPDX-License-Identifier: MIT */

#include "trace/rust_names.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

enum {
    DEPTH_MAX = 64,
    STEPS_MAX = 4096 /* back references can multiply what they refer to */
};

/* A place in the name, and what has been written of it. */
struct names {
    const char *name; /* behind the prefix; back references count from here */
    size_t at, length;
    char *out;
    size_t size, used;
    unsigned depth, steps;
    bool silent, failed;
};

static void put_path(struct names *n, bool in_value);
static void put_type(struct names *n);

/* ---- reading and writing ---- */

static bool fail(struct names *n)
{
    n->failed = true;
    return false;
}

static char peek(const struct names *n)
{
    return n->at < n->length ? n->name[n->at] : '\0';
}

static bool skip(struct names *n, char wanted)
{
    if (n->failed || peek(n) != wanted)
        return false;
    n->at++;
    return true;
}

static char next(struct names *n)
{
    char c = peek(n);

    if (!c)
        fail(n);
    else
        n->at++;
    return c;
}

__attribute__((format(printf, 2, 3))) static void put(struct names *n, const char *format, ...)
{
    va_list args;
    int length;

    if (n->silent || n->failed)
        return;
    va_start(args, format);
    length = vsnprintf(n->out + n->used, n->size - n->used, format, args);
    va_end(args);
    if (length < 0 || (size_t) length >= n->size - n->used)
        fail(n);
    else
        n->used += (size_t) length;
}

static bool enter(struct names *n)
{
    if (n->failed || ++n->steps > STEPS_MAX || n->depth == DEPTH_MAX)
        return fail(n);
    n->depth++;
    return true;
}

/* ---- numbers and identifiers ---- */

static uint64_t read_decimal(struct names *n)
{
    uint64_t value = 0;

    if (skip(n, '0'))
        return 0;
    if (peek(n) < '1' || peek(n) > '9')
        fail(n);
    while (!n->failed && peek(n) >= '0' && peek(n) <= '9' && value <= n->length)
        value = value * 10 + (uint64_t) (next(n) - '0');
    return value;
}

static int digit_of(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'z')
        return c - 'a' + 10;
    return c >= 'A' && c <= 'Z' ? c - 'A' + 36 : -1;
}

/* "_" is 0, "0_" is 1. */
static uint64_t read_base62(struct names *n)
{
    uint64_t value = 0;

    if (skip(n, '_'))
        return 0;
    while (!n->failed && !skip(n, '_')) {
        int digit = digit_of(next(n));

        if (digit < 0 || value > UINT64_MAX / 64)
            fail(n);
        value = value * 62 + (uint64_t) digit;
    }
    return value + 1;
}

static uint64_t read_disambiguator(struct names *n)
{
    return skip(n, 's') ? read_base62(n) + 1 : 0;
}

struct identifier {
    const char *text;
    int length;
    bool puny; /* other letters than ASCII, as Punycode has them */
};

static struct identifier read_identifier(struct names *n)
{
    struct identifier id = { .puny = skip(n, 'u') };
    uint64_t length = read_decimal(n);

    (void) skip(n, '_');
    if (n->failed || length > n->length - n->at) {
        fail(n);
        return id;
    }
    id.text = n->name + n->at;
    id.length = (int) length;
    n->at += length;
    return id;
}

static void put_identifier(struct names *n, struct identifier id)
{
    put(n, id.puny ? "punycode{%.*s}" : "%.*s", id.length, id.text ? id.text : "");
}

/* Goes on at the place referred to, which is before this one, and comes back. */
static void follow_reference(struct names *n, void (*parse)(struct names *n))
{
    size_t start = n->at - 1;
    uint64_t to = read_base62(n);
    size_t back = n->at;

    if (n->failed || to >= start || !enter(n)) {
        fail(n);
        return;
    }
    if (!n->silent) {
        n->at = to;
        parse(n);
        n->at = back;
    }
    n->depth--;
}

/* ---- constants, types ---- */

static const char *basic_type(char c)
{
    static const char *const names[26] = {
        ['a' - 'a'] = "i8",    ['b' - 'a'] = "bool", ['c' - 'a'] = "char", ['d' - 'a'] = "f64",
        ['e' - 'a'] = "str",   ['f' - 'a'] = "f32",  ['h' - 'a'] = "u8",   ['i' - 'a'] = "isize",
        ['j' - 'a'] = "usize", ['l' - 'a'] = "i32",  ['m' - 'a'] = "u32",  ['n' - 'a'] = "i128",
        ['o' - 'a'] = "u128",  ['p' - 'a'] = "_",    ['s' - 'a'] = "i16",  ['t' - 'a'] = "u16",
        ['u' - 'a'] = "()",    ['v' - 'a'] = "...",  ['x' - 'a'] = "i64",  ['y' - 'a'] = "u64",
        ['z' - 'a'] = "!",
    };

    return c >= 'a' && c <= 'z' ? names[c - 'a'] : NULL;
}

static void put_value(struct names *n, char type)
{
    bool negative = skip(n, 'n');
    size_t start = n->at;
    uint64_t value = 0;

    while (!n->failed && !skip(n, '_')) {
        int digit = digit_of(next(n));

        if (digit < 0 || digit > 15)
            fail(n);
        value = value << 4 | (uint64_t) (digit & 15);
    }
    if (n->failed)
        return;
    if (type == 'b')
        put(n, value ? "true" : "false");
    else if (n->at - start > 17)
        put(n, "%s0x%.*s", negative ? "-" : "", (int) (n->at - start - 1), n->name + start);
    else
        put(n, "%s%" PRIu64, negative ? "-" : "", value);
}

static void put_constant(struct names *n)
{
    char type;

    if (skip(n, 'B')) {
        follow_reference(n, put_constant);
        return;
    }
    type = next(n);
    if (type == 'p')
        put(n, "_");
    else if (basic_type(type))
        put_value(n, type);
    else
        fail(n); /* structures and text: nothing that a function's name needs to be told by */
}

static void put_lifetime(struct names *n)
{
    if (skip(n, 'L'))
        (void) read_base62(n);
}

static void put_argument(struct names *n)
{
    if (peek(n) == 'L')
        put_lifetime(n);
    else if (skip(n, 'K'))
        put_constant(n);
    else
        put_type(n);
}

/* Lifetimes are not told. */
static void put_arguments(struct names *n)
{
    bool first = true;

    while (!n->failed && !skip(n, 'E')) {
        bool shown = peek(n) != 'L';

        if (shown && !first)
            put(n, ", ");
        put_argument(n);
        first = first && !shown;
    }
}

static void put_function(struct names *n)
{
    if (skip(n, 'G'))
        (void) read_base62(n);
    if (skip(n, 'U'))
        put(n, "unsafe ");
    if (skip(n, 'K')) {
        put(n, "extern \"");
        if (skip(n, 'C'))
            put(n, "C");
        else
            put_identifier(n, read_identifier(n));
        put(n, "\" ");
    }
    put(n, "fn(");
    put_arguments(n);
    put(n, ")");
    if (!skip(n, 'u')) {
        put(n, " -> ");
        put_type(n);
    }
}

/* The associated types of a trait stand among its arguments: FnBox<(), Output = ()>. */
static void put_trait(struct names *n)
{
    bool open = false;

    put_path(n, false);
    while (skip(n, 'p')) {
        if (!open && n->used && !n->silent && n->out[n->used - 1] == '>') {
            n->used--;
            put(n, ", ");
        } else {
            put(n, open ? ", " : "<");
        }
        open = true;
        put_identifier(n, read_identifier(n));
        put(n, " = ");
        put_type(n);
    }
    if (open)
        put(n, ">");
}

static void put_dyn(struct names *n)
{
    bool first = true;

    put(n, "dyn ");
    if (skip(n, 'G'))
        (void) read_base62(n);
    for (; !n->failed && !skip(n, 'E'); first = false) {
        if (!first)
            put(n, " + ");
        put_trait(n);
    }
    put_lifetime(n);
}

static void put_tuple(struct names *n)
{
    size_t start = n->used;

    put(n, "(");
    put_arguments(n);
    put(n,
        !n->silent && !n->failed && n->used > start + 1
                && !memchr(n->out + start, ',', n->used - start)
            ? ",)"
            : ")");
}

static void put_array(struct names *n, bool sized)
{
    put(n, "[");
    put_type(n);
    if (sized) {
        put(n, "; ");
        put_constant(n);
    }
    put(n, "]");
}

static void put_pointer(struct names *n, const char *kind)
{
    put(n, "%s", kind);
    put_lifetime(n);
    put_type(n);
}

static void put_other_type(struct names *n, char c)
{
    switch (c) {
    case 'A':
    case 'S':
        put_array(n, c == 'A');
        break;
    case 'T':
        put_tuple(n);
        break;
    case 'R':
    case 'Q':
        put_pointer(n, c == 'R' ? "&" : "&mut ");
        break;
    case 'P':
    case 'O':
        put_pointer(n, c == 'P' ? "*const " : "*mut ");
        break;
    case 'F':
        put_function(n);
        break;
    case 'D':
        put_dyn(n);
        break;
    case 'B':
        follow_reference(n, put_type);
        break;
    default:
        n->at--;
        put_path(n, false);
    }
}

static void put_type(struct names *n)
{
    char c;

    if (!enter(n))
        return;
    c = next(n);
    if (basic_type(c))
        put(n, "%s", basic_type(c));
    else if (!n->failed)
        put_other_type(n, c);
    n->depth--;
}

/* ---- paths ---- */

/* Where an implementation stands is not told. */
static void skip_path(struct names *n)
{
    bool silent = n->silent;

    n->silent = true;
    (void) read_disambiguator(n);
    put_path(n, false);
    n->silent = silent;
}

static void put_nested(struct names *n, bool in_value)
{
    char space = next(n);
    uint64_t number;
    struct identifier id;

    put_path(n, in_value);
    number = read_disambiguator(n);
    id = read_identifier(n);
    if (space >= 'A' && space <= 'Z') {
        put(n, "::{%s", space == 'C' ? "closure" : space == 'S' ? "shim" : "");
        if (space != 'C' && space != 'S')
            put(n, "%c", space);
        if (id.length) {
            put(n, ":");
            put_identifier(n, id);
        }
        put(n, "#%" PRIu64 "}", number);
    } else if (id.length) {
        put(n, "::");
        put_identifier(n, id);
    }
}

static void put_implementation(struct names *n, char kind)
{
    if (kind != 'Y')
        skip_path(n);
    put(n, "<");
    put_type(n);
    if (kind != 'M') {
        put(n, " as ");
        put_path(n, false);
    }
    put(n, ">");
}

static void put_generic(struct names *n, bool in_value)
{
    put_path(n, in_value);
    put(n, in_value ? "::<" : "<");
    put_arguments(n);
    put(n, ">");
}

static void put_value_path(struct names *n)
{
    put_path(n, true);
}

static void put_type_path(struct names *n)
{
    put_path(n, false);
}

static void put_path(struct names *n, bool in_value)
{
    char kind;

    if (!enter(n))
        return;
    kind = next(n);
    switch (kind) {
    case 'C':
        (void) read_disambiguator(n);
        put_identifier(n, read_identifier(n));
        break;
    case 'N':
        put_nested(n, in_value);
        break;
    case 'M':
    case 'X':
    case 'Y':
        put_implementation(n, kind);
        break;
    case 'I':
        put_generic(n, in_value);
        break;
    case 'B':
        follow_reference(n, in_value ? put_value_path : put_type_path);
        break;
    default:
        fail(n);
    }
    n->depth--;
}

bool rust_demangle(const char *name, char *out, size_t size)
{
    struct names n = { .name = name + 2, .out = out, .size = size };

    if (strncmp(name, "_R", 2) != 0 || !name[2] || name[2] < 'A' || name[2] > 'Z' || size == 0)
        return false;
    n.length = strcspn(n.name, ".$@");
    put_path(&n, true);
    return !n.failed && n.used > 0;
}
