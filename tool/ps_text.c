/* SPDX-License-Identifier: MIT */

#include "ps_text.h"

#include "judge.h"
#include "say.h"
#include "units.h"

#include <stdlib.h>
#include <string.h>

enum {
    CELL = 512,
    HOLDERS_SHOWN = 3,
    INDENT = 4,
    EXPLANATION_MIN = 24 /* columns that an explanation needs to stand beside its row */
};

/* ---- cells ---- */

struct view {
    const struct look *look;
    bool rates;
};

/* Each gives a text, in `buf` (CELL) if it is not a constant. */

static const char *verdict_cell(const struct view *v, const struct socket *s, char *buf)
{
    (void) v;
    (void) buf;
    return finding_name(s->verdict);
}

static const char *proto_cell(const struct view *v, const struct socket *s, char *buf)
{
    (void) v;
    (void) buf;
    return socket_protocol_name(s->protocol);
}

static const char *state_cell(const struct view *v, const struct socket *s, char *buf)
{
    (void) v;
    (void) buf;
    return socket_state_name(s->state);
}

static const char *size_cell(uint64_t bytes, char *buf)
{
    if (bytes == 0)
        return "0";
    format_size(bytes, buf, CELL);
    return buf;
}

static const char *receive_cell(const struct view *v, const struct socket *s, char *buf)
{
    (void) v;
    return size_cell(s->receive_queue, buf);
}

static const char *send_cell(const struct view *v, const struct socket *s, char *buf)
{
    (void) v;
    return size_cell(s->send_queue, buf);
}

static const char *received_cell(const struct view *v, const struct socket *s, char *buf)
{
    (void) v;
    return s->rated ? size_cell((uint64_t) s->received_rate, buf) : "-";
}

static const char *acked_cell(const struct view *v, const struct socket *s, char *buf)
{
    (void) v;
    return s->rated ? size_cell((uint64_t) s->acked_rate, buf) : "-";
}

static const char *local_cell(const struct view *v, const struct socket *s, char *buf)
{
    format_local(v->look, s, buf, CELL);
    return buf;
}

static const char *remote_cell(const struct view *v, const struct socket *s, char *buf)
{
    format_remote(v->look, s, buf, CELL);
    return buf;
}

static const char *holders_cell(const struct view *v, const struct socket *s, char *buf)
{
    size_t used = 0;
    char name[64];

    if (s->references == 0)
        return "-";
    for (size_t i = 0; i < s->references && i < HOLDERS_SHOWN; i++) {
        const struct reference *r = &v->look->held.at[s->first_reference + i];
        const struct process *p = &v->look->scan.processes.at[r->process];

        escape(p->command, name, sizeof name);
        used += (size_t) snprintf(buf + used, CELL - used, "%s%s[%d]:%d", i ? "," : "", name,
                                  p->pid, r->fd);
    }
    if (s->references > HOLDERS_SHOWN)
        snprintf(buf + used, CELL - used, ",+%zu", s->references - HOLDERS_SHOWN);
    return buf;
}

static const struct column {
    const char *title;
    const char *(*format)(const struct view *v, const struct socket *s, char *buf);
    bool right, rate;
} columns[] = {
    { "verdict", verdict_cell, false, false }, { "proto", proto_cell, false, false },
    { "state", state_cell, false, false },     { "recv-q", receive_cell, true, false },
    { "send-q", send_cell, true, false },      { "in/s", received_cell, true, true },
    { "out/s", acked_cell, true, true },       { "local", local_cell, false, false },
    { "remote", remote_cell, false, false },   { "holders", holders_cell, false, false },
};
#define COLUMNS (sizeof columns / sizeof *columns)

/* ---- a grid of cells, each formatted once ---- */

struct grid {
    LIST(char) text;
    size_t *cell; /* where the text of each begins */
    size_t rows;
    size_t widest[COLUMNS];
    bool shown[COLUMNS];
};

static bool add_cell(struct grid *grid, size_t row, size_t column, const char *text)
{
    size_t length = strlen(text);

    if (list_need(&grid->text, length + 1) < 0)
        return false;
    memcpy(grid->text.at + grid->text.count, text, length + 1);
    grid->cell[row * COLUMNS + column] = grid->text.count;
    grid->text.count += length + 1;
    if (length > grid->widest[column])
        grid->widest[column] = length;
    return true;
}

static bool fill(struct grid *grid, const struct view *v, const struct ps_rows *rows)
{
    char cell[CELL];

    for (size_t c = 0; c < COLUMNS; c++) {
        grid->shown[c] = v->rates || !columns[c].rate;
        if (grid->shown[c])
            grid->widest[c] = strlen(columns[c].title);
    }
    for (size_t i = 0; i < grid->rows; i++)
        for (size_t c = 0; c < COLUMNS; c++) {
            if (!grid->shown[c])
                continue;
            if (!add_cell(grid, i, c, columns[c].format(v, rows->rows.at[i], cell)))
                return false;
        }
    return true;
}

static const char *text_of(const struct grid *grid, size_t row, size_t column)
{
    return grid->text.at + grid->cell[row * COLUMNS + column];
}

static size_t width_of(const struct grid *grid)
{
    size_t width = 0;

    for (size_t c = 0; c < COLUMNS; c++)
        width += grid->shown[c] ? grid->widest[c] + 1 : 0;
    return width - 1;
}

/* ---- lines ---- */

struct page {
    FILE *out;
    size_t width; /* 0: no limit */
};

/* Words, in as many lines as they take; a word that is wider than the page is cut into pieces. */
static void print_wrapped(const struct page *p, const char *text, size_t indent)
{
    size_t room;

    if (p->width && indent >= p->width)
        indent = 0;
    room = p->width - indent;
    while (*text) {
        size_t length = strlen(text), cut = length;

        if (p->width && length > room) {
            for (cut = room; cut > 0 && text[cut] != ' '; cut--)
                ;
            cut = cut ? cut : room;
        }
        fprintf(p->out, "%*s%.*s\n", (int) indent, "", (int) cut, text);
        text += cut;
        text += strspn(text, " ");
    }
}

static void print_padded(FILE *out, const char *text, size_t width, bool right)
{
    static const char blanks[] = "                                        ";
    size_t length = strlen(text), pad = width > length ? width - length : 0;

    if (!right)
        fwrite_unlocked(text, 1, length, out);
    for (; pad >= sizeof blanks; pad -= sizeof blanks - 1)
        fwrite_unlocked(blanks, 1, sizeof blanks - 1, out);
    fwrite_unlocked(blanks, 1, pad, out);
    if (right)
        fwrite_unlocked(text, 1, length, out);
}

/* ---- as a table ---- */

static void print_titles(const struct page *p, const struct grid *grid, bool explained)
{
    for (size_t c = 0; c < COLUMNS; c++) {
        bool last = c + 1 == COLUMNS && !explained;

        if (!grid->shown[c])
            continue;
        print_padded(p->out, columns[c].title, last ? 0 : grid->widest[c], columns[c].right);
        if (!last)
            fputc(' ', p->out);
    }
    fputs(explained ? "why\n" : "\n", p->out);
}

static void print_cells(const struct page *p, const struct grid *grid, size_t row, bool explained)
{
    for (size_t c = 0; c < COLUMNS; c++) {
        bool last = c + 1 == COLUMNS && !explained;

        if (!grid->shown[c])
            continue;
        print_padded(p->out, text_of(grid, row, c), last ? 0 : grid->widest[c], columns[c].right);
        if (!last)
            fputc_unlocked(' ', p->out);
    }
}

/* An explanation stands beside its row if there is room for all of it, else below. */
static void print_row(const struct page *p, const struct view *v, const struct grid *grid,
                      size_t row, const struct socket *s)
{
    char why[CELL];
    size_t width = width_of(grid) + 1;
    bool beside;

    explain(v->look, s, why, sizeof why);
    beside = *why && (p->width == 0 || width + strlen(why) <= p->width);
    print_cells(p, grid, row, beside);
    if (beside)
        fputs(why, p->out);
    fputc('\n', p->out);
    if (*why && !beside)
        print_wrapped(p, why, INDENT);
}

static void print_table(const struct page *p, const struct view *v, const struct grid *grid,
                        const struct ps_rows *rows)
{
    print_titles(p, grid, p->width == 0 || p->width >= width_of(grid) + 1 + EXPLANATION_MIN);
    for (size_t i = 0; i < grid->rows; i++)
        print_row(p, v, grid, i, rows->rows.at[i]);
}

/* ---- a block of lines for each, where a row is too wide ---- */

static void print_block(const struct page *p, const struct view *v, const struct grid *grid,
                        size_t row, const struct socket *s)
{
    char line[3 * CELL];

    snprintf(line, sizeof line, "%s %s %s", text_of(grid, row, 0), text_of(grid, row, 1),
             text_of(grid, row, 2));
    print_wrapped(p, line, 0);
    for (size_t c = 3; c < COLUMNS; c++) {
        if (!grid->shown[c] || (columns[c].right && strcmp(text_of(grid, row, c), "0") == 0))
            continue;
        snprintf(line, sizeof line, "%s %s", columns[c].title, text_of(grid, row, c));
        print_wrapped(p, line, 1);
    }
    explain(v->look, s, line, CELL);
    print_wrapped(p, line, 1);
}

void ps_text_rows(FILE *out, const struct look *look, const struct ps_rows *rows, bool rates,
                  size_t width)
{
    struct page page = { out, width };
    struct view view = { look, rates };
    struct grid grid = { .rows = rows->rows.count };

    grid.cell = calloc(grid.rows * COLUMNS + 1, sizeof *grid.cell);
    if (grid.cell && fill(&grid, &view, rows)) {
        if (width == 0 || width_of(&grid) <= width)
            print_table(&page, &view, &grid, rows);
        else
            for (size_t i = 0; i < grid.rows; i++)
                print_block(&page, &view, &grid, i, rows->rows.at[i]);
    } else {
        fputs("out of memory\n", out);
    }
    free(grid.cell);
    free(grid.text.at);
}

void ps_text_line(FILE *out, const char *text, size_t width)
{
    print_wrapped(&(struct page) { out, width }, text, 0);
}

/* ---- the summary ---- */

static void put_blind(const char *text, void *arg)
{
    const struct page *p = arg;
    char line[256];

    snprintf(line, sizeof line, "not looked at: %s", text);
    print_wrapped(p, line, 0);
}

void ps_text_summary(FILE *out, const struct look *look, const struct ps_rows *rows, size_t width)
{
    struct page page = { out, width };
    char line[400];
    size_t used;

    used = (size_t) snprintf(line, sizeof line, "%zu socket%s", rows->rows.count,
                             rows->rows.count == 1 ? "" : "s");
    for (int f = 0; f < FINDINGS; f++)
        if (rows->count[f])
            used +=
                (size_t) snprintf(line + used, sizeof line - used, "%s %zu %s",
                                  strchr(line, ':') ? "," : ":", rows->count[f], finding_name(f));
    print_wrapped(&page, line, 0);
    blind_describe(&look->blind, put_blind, &page);
}
