/* SPDX-License-Identifier: MIT */

/* Pictures of any closes: nothing in a name leaves its place on a page or is obeyed by a terminal,
 * and lines fit. */

#include "picture/picture.h"
#include "bytes.h"
#include "picture/page.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#define CLOSES 64
#define STAGES 4
#define LENGTH 160

static const char *const stages[STAGES] = { "first", "second", "third", "fourth" };

struct scene {
    struct picture picture;
    struct picture_close close[CLOSES];
    char title[LENGTH], names[CLOSES][LENGTH], texts[CLOSES][LENGTH];
};

static void get(const struct picture *picture, size_t index, struct picture_close *close)
{
    const struct scene *scene = picture->arg;

    *close = scene->close[index];
}

static struct picture_close take_close(struct bytes *bytes, char *name, char *text)
{
    static const char *const outcomes[] = { "graceful", "fine", "timed_out", "ghost registration" };
    uint8_t how = take_byte(bytes);
    struct picture_close close = { .outcome = outcomes[how / 2 % 4], .held = how & 1 };

    close.start_ns = take_number(bytes, take_below(bytes, 8));
    for (int i = 0; i < STAGES; i++) {
        close.stage_ns[i] = (int64_t) take_number(bytes, take_below(bytes, 8)) - 2;
        close.part[i] = (enum picture_part) take_below(bytes, PICTURE_PARTS);
    }
    close.name = take_text(bytes, name, LENGTH);
    close.text = take_text(bytes, text, LENGTH);
    close.facts = take_below(bytes, PICTURE_FACTS_MAX + 1);
    for (unsigned i = 0; i < close.facts; i++)
        close.fact[i] = (struct picture_fact) { "label", i & 1 ? name : text };
    return close;
}

static void take_scene(struct bytes *bytes, struct scene *s)
{
    s->picture = (struct picture) { .title = take_text(bytes, s->title, LENGTH),
                                    .stages = stages,
                                    .stage_count = STAGES,
                                    .get = get,
                                    .arg = s };
    for (; s->picture.count < CLOSES && bytes->left > 0; s->picture.count++) {
        size_t i = s->picture.count;

        s->close[i] = take_close(bytes, s->names[i], s->texts[i]);
    }
}

/* Read as a browser would: up to the first end of a script element. */
static void check_page(const struct picture *picture)
{
    size_t size, before = strlen(page_before_data);
    char *page = picture_page(picture, &size), *end;
    json_t *data;

    must(page && strlen(page) == size && size > before, "there is a page");
    end = strchr(page + before, '<');
    must(end && strcmp(end, page_after_data) == 0, "nothing leaves the data");
    must(end == page + before + strcspn(page + before, "\x7f\t\n\r\x1b<"), "it is one plain line");
    data = json_loadb(page + before, (size_t) (end - page) - before, 0, NULL);
    must(json_array_size(json_object_get(data, "closes")) == picture->count, "all are in the data");
    json_decref(data);
    free(page);
}

/* Columns that a line takes: an escape sequence none, a character of UTF-8 one. */
static int columns(const char *line, const char *end)
{
    int n = 0;

    for (; line < end; line++) {
        if (*line == '\x1b')
            line += strspn(line, "\x1b[0123456789;"); /* the colors alone are ours */
        else
            n += ((unsigned char) *line & 0xc0) != 0x80;
    }
    return n;
}

static void check_lines(const struct picture *picture, int width)
{
    char *text = picture_lines(picture, width);

    must(text, "there are lines");
    for (const char *at = text; *at; at += strcspn(at, "\n") + 1)
        must(columns(at, at + strcspn(at, "\n")) <= width, "a line fits");
    free(text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct scene scene;
    struct bytes bytes = { data, size };
    int width = take_byte(&bytes);

    take_scene(&bytes, &scene);
    check_page(&scene.picture);
    check_lines(&scene.picture, width);
    return 0;
}
