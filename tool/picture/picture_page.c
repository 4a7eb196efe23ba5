/* SPDX-License-Identifier: MIT */

#include "common/say.h"
#include "picture/page.h"
#include "picture/picture.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum {
    TEXT_MAX = 8192
};

/* Names come from anywhere: what a page or a terminal could obey is spelt out. */
static json_t *printable(const char *text)
{
    char buf[TEXT_MAX];

    escape(text, buf, sizeof buf);
    return json_string(buf);
}

/* The same, but lines stay lines. */
static json_t *printable_lines(const char *text)
{
    char *buf = NULL;
    char line[TEXT_MAX];
    size_t size;
    FILE *out = open_memstream(&buf, &size);
    json_t *string;

    while (out && *text) {
        size_t length = strcspn(text, "\n");
        char *copy = strndup(text, length);

        escape(copy ? copy : "", line, sizeof line);
        free(copy);
        text += length + (text[length] == '\n');
        fprintf(out, "%s%s", line, *text ? "\n" : "");
    }
    if (out)
        fclose(out);
    string = buf ? json_string(buf) : NULL;
    free(buf);
    return string;
}

static json_t *stages_of(const struct picture *picture, const struct picture_close *close)
{
    json_t *object = json_object();
    size_t i;

    for (i = 0; i < picture->stage_count; i++) {
        int64_t ns = close->stage_ns[i];

        if (ns != PICTURE_NOT_REACHED)
            json_object_set_new(object, picture->stages[i],
                                ns < 0 ? json_null() : json_integer(ns));
    }
    return object;
}

static json_t *pieces_of(const struct picture *picture, const struct picture_close *close)
{
    struct picture_piece pieces[PICTURE_STAGES_MAX];
    size_t count = picture_pieces(picture, close, pieces), i;
    json_t *array = json_array();

    for (i = 0; i < count; i++)
        json_array_append_new(
            array, json_pack("[I, i]", (json_int_t) pieces[i].end_ns, (int) pieces[i].part));
    return array;
}

static json_t *facts_of(const struct picture_close *close)
{
    json_t *array = json_array();
    unsigned i;

    for (i = 0; i < close->facts; i++)
        json_array_append_new(
            array, json_pack("[s, o]", close->fact[i].label, printable(close->fact[i].value)));
    return array;
}

static json_t *close_of(const struct picture *picture, const struct picture_close *close,
                        uint64_t first)
{
    return json_pack("{s:o, s:s, s:I, s:b, s:o, s:o, s:o, s:o}", "name", printable(close->name),
                     "outcome", close->outcome, "start", (json_int_t) (close->start_ns - first),
                     "held", close->held, "stages", stages_of(picture, close), "pieces",
                     pieces_of(picture, close), "facts", facts_of(close), "text",
                     printable_lines(close->text));
}

static uint64_t first_start(const struct picture *picture)
{
    struct picture_close close;
    uint64_t first = UINT64_MAX;
    size_t i;

    for (i = 0; i < picture->count; i++) {
        picture->get(picture, i, &close);
        if (close.start_ns < first)
            first = close.start_ns;
    }
    return first;
}

static json_t *closes_of(const struct picture *picture)
{
    uint64_t first = first_start(picture);
    struct picture_close close;
    json_t *array = json_array();
    size_t i;

    for (i = 0; i < picture->count; i++) {
        picture->get(picture, i, &close);
        if (json_array_append_new(array, close_of(picture, &close, first)) < 0) {
            json_decref(array);
            return NULL;
        }
    }
    return array;
}

static json_t *names_of(const struct picture *picture, bool parts)
{
    size_t count = parts ? PICTURE_PARTS : picture->stage_count, i;
    json_t *array = json_array();

    for (i = 0; i < count; i++)
        json_array_append_new(
            array,
            json_string(parts ? picture_part_name((enum picture_part) i) : picture->stages[i]));
    return array;
}

static json_t *data_of(const struct picture *picture)
{
    char made[64];
    time_t now = time(NULL);
    struct tm utc;

    strftime(made, sizeof made, "%Y-%m-%d %H:%M:%S UTC", gmtime_r(&now, &utc));
    return json_pack("{s:o, s:s, s:o, s:o, s:o}", "title", printable(picture->title), "made", made,
                     "stages", names_of(picture, false), "parts", names_of(picture, true), "closes",
                     closes_of(picture));
}

/* In a script element nothing but '<' means anything to HTML. */
static int put_json(const char *text, size_t size, void *arg)
{
    FILE *out = arg;
    size_t i;

    for (i = 0; i < size; i++)
        if (text[i] == '<')
            fputs("\\u003c", out);
        else
            putc(text[i], out);
    return ferror(out) ? -1 : 0;
}

char *picture_page(const struct picture *picture, size_t *ret_size)
{
    char *text = NULL;
    FILE *out = open_memstream(&text, ret_size);
    json_t *data = out ? data_of(picture) : NULL;
    bool failed = !data;

    if (data) {
        fputs(page_before_data, out);
        failed = json_dump_callback(data, put_json, out, JSON_COMPACT | JSON_ENSURE_ASCII) < 0;
        fputs(page_after_data, out);
    }
    json_decref(data);
    if (out && fclose(out) == 0 && !failed)
        return text;
    free(text);
    return NULL;
}
