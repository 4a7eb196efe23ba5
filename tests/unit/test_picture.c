/* SPDX-License-Identifier: MIT */

/* Waterfalls: the pieces of a bar, the page's data, the lines for a terminal of any width. */

#include "picture/page.h"
#include "picture/picture.h"
#include "support.h"

#include <jansson.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum {
    MANY = 1000
};

static const char *const stages[] = { "first", "second", "third" };
static struct picture_close closes[MANY];

static void get(const struct picture *picture, size_t index, struct picture_close *close)
{
    *close = ((const struct picture_close *) picture->arg)[index];
}

static struct picture a_picture(size_t count)
{
    return (struct picture) { .title = "a title",
                              .stages = stages,
                              .stage_count = 3,
                              .count = count,
                              .get = get,
                              .arg = closes };
}

static struct picture_close a_close(int64_t first, int64_t second, int64_t third)
{
    return (struct picture_close) {
        .name = "a close",
        .outcome = "graceful",
        .text = "its receipt",
        .start_ns = 5000,
        .stage_ns = { first, second, third },
        .part = { PART_FLUSH, PART_LINGER, PART_RELEASE },
    };
}

/* ---- pieces ---- */

static size_t pieces_of(struct picture_close close, struct picture_piece *pieces)
{
    struct picture picture = a_picture(1);

    return picture_pieces(&picture, &close, pieces);
}

static void pieces_are_in_the_order_of_time(void **state)
{
    struct picture_piece pieces[PICTURE_STAGES_MAX];

    (void) state;
    assert_int_equal(pieces_of(a_close(30, 10, 20), pieces), 3);
    assert_int_equal(pieces[0].end_ns, 10);
    assert_int_equal(pieces[0].part, PART_LINGER);
    assert_int_equal(pieces[1].part, PART_RELEASE);
    assert_int_equal(pieces[2].end_ns, 30);
    assert_int_equal(pieces[2].part, PART_FLUSH);
}

static void a_stage_without_a_time_has_no_piece(void **state)
{
    struct picture_piece pieces[PICTURE_STAGES_MAX];

    (void) state;
    assert_int_equal(pieces_of(a_close(PICTURE_NOT_REACHED, PICTURE_UNVERIFIABLE, 20), pieces), 1);
    assert_int_equal(pieces[0].part, PART_RELEASE);
    assert_int_equal(pieces_of(a_close(0, 0, 0), pieces), 0);
}

static void stages_of_one_moment_have_one_piece(void **state)
{
    struct picture_piece pieces[PICTURE_STAGES_MAX];

    (void) state;
    assert_int_equal(pieces_of(a_close(10, 10, 20), pieces), 2);
    assert_int_equal(pieces[0].part, PART_FLUSH);
    assert_int_equal(pieces[1].end_ns, 20);
}

static void neighbours_of_one_part_are_one_piece(void **state)
{
    struct picture_piece pieces[PICTURE_STAGES_MAX];
    struct picture_close close = a_close(10, 15, 20);

    (void) state;
    close.part[1] = PART_FLUSH;
    assert_int_equal(pieces_of(close, pieces), 2);
    assert_int_equal(pieces[0].end_ns, 15);
}

/* ---- the page ---- */

/* The data of the page, read as a browser would: up to the first end of a script element. */
static json_t *data_of(const struct picture *picture)
{
    size_t size, before = strlen(page_before_data);
    char *page = picture_page(picture, &size), *end;
    json_t *data;

    assert_non_null(page);
    assert_int_equal(strlen(page), size);
    assert_memory_equal(page, page_before_data, before);
    end = strchr(page + before, '<');
    assert_string_equal(end, page_after_data);
    data = json_loadb(page + before, (size_t) (end - page) - before, 0, NULL);
    assert_non_null(data);
    free(page);
    return data;
}

static const char *text_at(const json_t *object, const char *key)
{
    return json_string_value(json_object_get(object, key));
}

static void the_page_has_each_close(void **state)
{
    struct picture picture = a_picture(2);
    json_t *data, *list, *close;

    (void) state;
    closes[0] = a_close(10, PICTURE_NOT_REACHED, PICTURE_UNVERIFIABLE);
    closes[1] = a_close(10, 20, 30);
    closes[1].start_ns = 4000;
    closes[1].held = true;
    data = data_of(&picture);
    list = json_object_get(data, "closes");
    assert_int_equal(json_array_size(list), 2);
    close = json_array_get(list, 0);
    assert_int_equal(json_integer_value(json_object_get(close, "start")), 1000);
    assert_string_equal(text_at(close, "outcome"), "graceful");
    assert_int_equal(json_object_size(json_object_get(close, "stages")), 2);
    assert_true(json_is_null(json_object_get(json_object_get(close, "stages"), "third")));
    close = json_array_get(list, 1);
    assert_int_equal(json_integer_value(json_object_get(close, "start")), 0);
    assert_true(json_is_true(json_object_get(close, "held")));
    assert_int_equal(json_array_size(json_object_get(close, "pieces")), 3);
    json_decref(data);
}

static void a_page_without_closes_is_fine(void **state)
{
    struct picture picture = a_picture(0);
    json_t *data = data_of(&picture);

    (void) state;
    assert_int_equal(json_array_size(json_object_get(data, "closes")), 0);
    json_decref(data);
}

static void hostile_names_stay_names(void **state)
{
    static const char hostile[] = "</script><!--<script>\x1b[31m\n\xff\xe2\x80\xae&quot;\"'";
    static const char harmless[] =
        "</script><!--<script>\\x1b[31m\\x0a\\xff\\xe2\\x80\\xae&quot;\"'";
    static const char lines[] = "</script><!--<script>\\x1b[31m\n\\xff\\xe2\\x80\\xae&quot;\"'";
    struct picture picture = a_picture(1);
    json_t *data, *close, *fact;

    (void) state;
    picture.title = hostile;
    closes[0] = a_close(10, 20, 30);
    closes[0].name = closes[0].text = hostile;
    closes[0].fact[0] = (struct picture_fact) { "label", hostile };
    closes[0].facts = 1;
    data = data_of(&picture);
    close = json_array_get(json_object_get(data, "closes"), 0);
    fact = json_array_get(json_array_get(json_object_get(close, "facts"), 0), 1);
    assert_string_equal(text_at(data, "title"), harmless);
    assert_string_equal(text_at(close, "name"), harmless);
    assert_string_equal(text_at(close, "text"), lines);
    assert_string_equal(json_string_value(fact), harmless);
    json_decref(data);
}

/* ---- lines ---- */

/* Columns that a line takes: an escape sequence none, a character of UTF-8 one. */
static int columns(const char *line, const char *end)
{
    int n = 0;

    while (line < end) {
        if (*line == '\x1b')
            line += strcspn(line, "m");
        else
            n += ((unsigned char) *line & 0xc0) != 0x80;
        line++;
    }
    return n;
}

/* Returns the number of lines. */
static int check_lines(const char *text, int width)
{
    int lines = 0;

    for (; *text; text += strcspn(text, "\n") + 1, lines++)
        assert_in_range(columns(text, text + strcspn(text, "\n")), 1, width);
    return lines;
}

static void lines_fit_any_width(void **state)
{
    struct picture picture = a_picture(3);
    int width;

    (void) state;
    closes[0] = a_close(100000, 1000000000, 1000100000);
    closes[1] = a_close(1, 2, 3);
    closes[1].name = "a name that is longer than any terminal of a usual width would like it to be";
    closes[2] = a_close(PICTURE_NOT_REACHED, PICTURE_NOT_REACHED, PICTURE_NOT_REACHED);
    closes[2].held = true;
    for (width = 0; width <= 400; width++) {
        char *text = picture_lines(&picture, width);
        int lines;

        assert_non_null(text);
        lines = check_lines(text, width);
        assert_true(width < 12 ? lines == 0 : lines >= 5);
        free(text);
    }
}

static void long_words_fit_too(void **state)
{
    struct picture picture = a_picture(50);
    int width;

    (void) state;
    for (width = 0; width < 50; width++) {
        closes[width] = a_close(100000, (int64_t) 400 * 86400 * 1000000000, PICTURE_NOT_REACHED);
        closes[width].outcome = "ghost registration";
    }
    for (width = 12; width <= 120; width += 3) {
        char *text = picture_lines(&picture, width);

        assert_non_null(text);
        check_lines(text, width);
        free(text);
    }
}

static void many_closes_give_the_slowest(void **state)
{
    struct picture picture = a_picture(MANY);
    char names[MANY][16];
    char *text;
    int i;

    (void) state;
    for (i = 0; i < MANY; i++) {
        snprintf(names[i], sizeof names[i], "number-%d", i);
        closes[i] = a_close(i, PICTURE_NOT_REACHED, PICTURE_NOT_REACHED);
        closes[i].name = names[i];
    }
    text = picture_lines(&picture, 80);
    assert_non_null(text);
    assert_memory_equal(text, "20 slowest of 1000:\nnumber-999 ", 31);
    assert_non_null(strstr(text, "\nnumber-980 "));
    assert_null(strstr(text, "number-979"));
    free(text);
}

static void lines_obey_no_name(void **state)
{
    struct picture picture = a_picture(1);
    char *text;

    (void) state;
    closes[0] = a_close(10, 20, 30);
    closes[0].name = "\x1b]0;x\a\xc3\xa9";
    text = picture_lines(&picture, 100);
    assert_non_null(text);
    assert_non_null(strstr(text, "\\x1b]0;x\\x07\\xc3\\xa9 "));
    free(text);
}

static void nothing_to_show_is_no_line(void **state)
{
    struct picture picture = a_picture(0);
    char *text = picture_lines(&picture, 80);

    (void) state;
    assert_string_equal(text, "");
    free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        GUARDED(pieces_are_in_the_order_of_time),
        GUARDED(a_stage_without_a_time_has_no_piece),
        GUARDED(stages_of_one_moment_have_one_piece),
        GUARDED(neighbours_of_one_part_are_one_piece),
        GUARDED(the_page_has_each_close),
        GUARDED(a_page_without_closes_is_fine),
        GUARDED(hostile_names_stay_names),
        GUARDED(lines_fit_any_width),
        GUARDED(long_words_fit_too),
        GUARDED(many_closes_give_the_slowest),
        GUARDED(lines_obey_no_name),
        GUARDED(nothing_to_show_is_no_line),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
