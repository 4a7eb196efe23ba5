/* SPDX-License-Identifier: MIT */

/* Texts of any bytes, numbers of any size: units, escaping, and receipts as lines and as JSON. */

#include "bytes.h"
#include "common/say.h"
#include "common/units.h"
#include "probe/json.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#define LENGTH 600

/* ---- units ---- */

static void check_units(struct bytes *bytes)
{
    char text[LENGTH], buf[32];
    uint64_t number = take_number(bytes, 8), size;
    int32_t ms;

    format_time((int64_t) number, buf, sizeof buf);
    must(number > 9999 * UINT64_C(86400000000000) || strlen(buf) <= 5, "a time is short");
    format_size(number, buf, sizeof buf);
    must(number >= UINT64_C(1) << 40 || strlen(buf) <= 5, "a size is short");
    (void) take_text(bytes, text, sizeof text);
    if (parse_time(text, &ms) == 0)
        must(ms >= 0 && ms <= FIN_TIME_MAX_MS, "a time is in its range");
    if (parse_size(text, &size) == 0)
        must(*text >= '0' && *text <= '9', "a size begins with a digit");
    if (parse_number(text, 3, number, &size) == 0)
        must(size >= 3 && size <= number, "a number is in its range");
}

/* ---- escaping ---- */

static void check_escape(struct bytes *bytes)
{
    size_t room = 1 + (size_t) take_number(bytes, 2) % LENGTH;
    char text[LENGTH], *buf = malloc(room);

    must(buf, "memory");
    (void) take_text(bytes, text, sizeof text);
    escape(text, buf, room);
    must(is_harmless(buf) && !strchr(buf, '\n'), "nothing is obeyed");
    for (const char *at = buf; *at; at++)
        must((unsigned char) *at < 0x7f, "it is ASCII");
    free(buf);
}

/* ---- receipts ---- */

static void take_holders(struct bytes *bytes, struct fin_receipt *r)
{
    r->holders = take_byte(bytes);
    for (unsigned i = 0; i < FIN_RECEIPT_HOLDERS; i++) {
        r->holder[i].pid = take_signed(bytes, 4);
        r->holder[i].fd = take_signed(bytes, 4);
        (void) take_text(bytes, r->holder[i].command, sizeof r->holder[i].command);
    }
}

static struct fin_receipt take_receipt(struct bytes *bytes)
{
    struct fin_receipt r = FIN_RECEIPT_INIT;

    r.outcome = take_signed(bytes, 1);
    r.phase = take_signed(bytes, 1);
    r.end = take_signed(bytes, 1);
    r.held = take_signed(bytes, 1);
    r.error = take_signed(bytes, 2);
    r.unverifiable = (uint32_t) take_number(bytes, 2);
    for (int i = 0; i < FIN_STAGES; i++)
        r.stage_ns[i] = (int64_t) take_number(bytes, take_below(bytes, 9));
    r.unsent = take_number(bytes, 8);
    r.unacked = take_number(bytes, 8);
    r.discarded = take_number(bytes, 8);
    r.accepted = take_number(bytes, 8);
    r.forced = take_byte(bytes) & 1;
    r.tombstone = take_byte(bytes) & 1;
    r.search = take_signed(bytes, 1);
    take_holders(bytes, &r);
    return r;
}

static void check_line(const struct fin_receipt *r, size_t room)
{
    char whole[4096], *part = malloc(room ? room : 1);
    int length = fin_receipt_format(r, whole, sizeof whole);

    must(part && length > 0 && length == (int) strlen(whole), "a line is as long as it says");
    must(is_harmless(whole) && !strchr(whole, '\n'), "nothing is obeyed");
    must(fin_receipt_format(r, part, room) == length, "its length is known before");
    if (room)
        must(strlen(part) == (room <= (size_t) length ? room - 1 : (size_t) length)
                 && strncmp(part, whole, strlen(part)) == 0,
             "what fits is there");
    free(part);
}

static void check_receipt(struct bytes *bytes)
{
    size_t room = (size_t) take_number(bytes, 2) % LENGTH;
    struct probe_result result = { .peer = "x", .closed = true, .receipt = take_receipt(bytes) };
    json_t *value;
    char *text;

    check_line(&result.receipt, room);
    text = json_format(&result, 1);
    must(text, "JSON can be made");
    must(is_harmless(text), "nothing is obeyed");
    value = json_loads(text, 0, NULL);
    must(json_array_size(value) == 1, "JSON has the close");
    json_decref(value);
    free(text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static void (*const checks[])(struct bytes *) = { check_units, check_escape, check_receipt };
    struct bytes bytes = { data, size };

    checks[take_below(&bytes, 3)](&bytes);
    return 0;
}
