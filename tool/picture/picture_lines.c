/* SPDX-License-Identifier: MIT */

#include "common/say.h"
#include "common/units.h"
#include "picture/picture.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    MANY = 40,    /* of more closes, */
    SLOWEST = 20, /* that many are shown */
    NARROWEST = 12,
    WIDEST = 200,
    NAME_MAX_WIDTH = 44,
    TIME_WIDTH = 6, /* and a blank before it */
    EIGHTHS = 8     /* block characters divide a column by so many */
};

struct canvas {
    FILE *out;
    const struct picture *picture;
    int width, name, bar, outcome; /* columns */
    bool with_time, with_outcome;
    int64_t longest;
    unsigned parts; /* bit 1u << part: is on the canvas */
    bool held;      /* so is a held one */
};

struct row {
    size_t index;
    int64_t took;
};

static const int colors[PICTURE_PARTS] = { 34, 33, 35, 36, 32, 90 }; /* SGR; + 10: as background */

static int64_t took(const struct picture *picture, const struct picture_close *close)
{
    struct picture_piece pieces[PICTURE_STAGES_MAX];
    size_t count = picture_pieces(picture, close, pieces);

    return count ? pieces[count - 1].end_ns : 0;
}

static int slower(const void *a, const void *b)
{
    const struct row *x = a, *y = b;

    if (x->took != y->took)
        return x->took < y->took ? 1 : -1;
    return x->index < y->index ? -1 : 1;
}

static void widen(int *column, const char *text)
{
    if ((int) strlen(text) > *column)
        *column = (int) strlen(text);
}

/* Which closes to show; also finds what the columns need. Returns how many, or -1 without
 * memory. */
static int choose(struct canvas *c, struct row **ret_rows)
{
    size_t count = c->picture->count, i;
    struct row *rows = calloc(count + 1, sizeof *rows);
    struct picture_close close;
    char name[WIDEST];

    if (!rows)
        return -1;
    for (i = 0; i < count; i++) {
        c->picture->get(c->picture, i, &close);
        rows[i] = (struct row) { i, took(c->picture, &close) };
        if (rows[i].took > c->longest)
            c->longest = rows[i].took;
        escape(close.name, name, sizeof name);
        widen(&c->name, name);
        widen(&c->outcome, close.outcome);
    }
    if (count > MANY)
        qsort(rows, count, sizeof *rows, slower);
    *ret_rows = rows;
    return count > MANY ? SLOWEST : (int) count;
}

static void lay_out(struct canvas *c)
{
    int share = c->width * 2 / 5, most = share < NAME_MAX_WIDTH ? share : NAME_MAX_WIDTH;

    c->name = c->name < most ? c->name : most;
    c->with_time = c->width >= 32;
    c->with_outcome = c->width >= 56;
    c->bar = c->width - c->name - 1 - (c->with_time ? TIME_WIDTH : 0)
        - (c->with_outcome ? c->outcome + 1 : 0);
}

static void put_name(struct canvas *c, const char *name)
{
    char text[WIDEST];

    escape(name, text, sizeof text);
    if ((int) strlen(text) > c->name)
        fprintf(c->out, "%.*s\u2026 ", c->name - 1, text);
    else
        fprintf(c->out, "%-*s ", c->name, text);
}

/* A column's left part is of one color, and the rest is of another or empty. */
static void put_cell(struct canvas *c, const signed char *eighth)
{
    int run = 1;

    while (run < EIGHTHS && eighth[run] == eighth[0])
        run++;
    if (run < EIGHTHS && eighth[run] >= 0)
        fprintf(c->out, "\x1b[%d;%dm", colors[eighth[0]], colors[eighth[run]] + 10);
    else
        fprintf(c->out, "\x1b[%dm", colors[eighth[0]]);
    fprintf(c->out, "\xe2\x96%c\x1b[0m", 0x90 - run); /* U+2588 to U+258F */
}

static void put_bar(struct canvas *c, const struct picture_close *close)
{
    struct picture_piece pieces[PICTURE_STAGES_MAX];
    size_t count = picture_pieces(c->picture, close, pieces), i;
    signed char eighths[WIDEST * EIGHTHS];
    int room = c->bar * EIGHTHS, used = 0, column;

    memset(eighths, -1, sizeof eighths);
    for (i = 0; i < count; i++) {
        int end = (int) ((double) pieces[i].end_ns / (double) c->longest * room);

        c->parts |= 1u << pieces[i].part;
        if (i + 1 == count && end == 0)
            end = 1; /* no time is too short to be seen */
        for (; used < end; used++)
            eighths[used] = (signed char) pieces[i].part;
    }
    for (column = 0; column < c->bar; column++)
        if (eighths[column * EIGHTHS] >= 0)
            put_cell(c, eighths + column * EIGHTHS);
        else
            fputs(close->held ? "\x1b[31m\u254c\x1b[0m" : " ", c->out);
}

static void put_row(struct canvas *c, const struct row *row)
{
    struct picture_close close;
    char text[16];

    c->picture->get(c->picture, row->index, &close);
    c->held |= close.held;
    put_name(c, close.name);
    put_bar(c, &close);
    format_time(row->took, text, sizeof text);
    if (c->with_time)
        fprintf(c->out, " %5s", text);
    if (c->with_outcome)
        fprintf(c->out, " %s", close.outcome);
    fputc('\n', c->out);
}

static void put_scale(struct canvas *c)
{
    char text[16];

    format_time(c->longest, text, sizeof text);
    fprintf(c->out, "%*s0%*s\n", c->name + 1, "", c->bar - 1, text);
}

/* Begins a new line where the next word would not fit. */
static void put_key(struct canvas *c, int *column, int color, const char *glyph, const char *word)
{
    int need = 2 + (int) strlen(word);

    if (*column > 0 && *column + 2 + need > c->width) {
        fputc('\n', c->out);
        *column = 0;
    }
    fprintf(c->out, "%s\x1b[%dm%s\x1b[0m %s", *column ? "  " : "", color, glyph, word);
    *column += need + (*column ? 2 : 0);
}

static void put_legend(struct canvas *c)
{
    int column = 0, part;

    for (part = 0; part < PICTURE_PARTS; part++)
        if (c->parts & (1u << part))
            put_key(c, &column, colors[part], "\u2588",
                    picture_part_name((enum picture_part) part));
    if (c->held)
        put_key(c, &column, 31, "\u254c", "held");
    if (column > 0)
        fputc('\n', c->out);
}

static void put_count(struct canvas *c, int shown)
{
    char text[64];

    snprintf(text, sizeof text, "%d slowest of %zu:", shown, c->picture->count);
    fprintf(c->out, "%.*s\n", c->width, text);
}

static void draw(struct canvas *c)
{
    struct row *rows = NULL;
    int shown = choose(c, &rows), i;

    if (shown > 0) {
        lay_out(c);
        if ((size_t) shown < c->picture->count)
            put_count(c, shown);
        for (i = 0; i < shown; i++)
            put_row(c, &rows[i]);
        put_scale(c);
        put_legend(c);
    }
    free(rows);
}

char *picture_lines(const struct picture *picture, int width)
{
    struct canvas canvas = { .picture = picture, .longest = 1 };
    char *text = NULL;
    size_t size;

    canvas.width = width < WIDEST ? width : WIDEST;
    canvas.out = open_memstream(&text, &size);
    if (!canvas.out)
        return NULL;
    if (width >= NARROWEST)
        draw(&canvas);
    if (fclose(canvas.out) == 0)
        return text;
    free(text);
    return NULL;
}
