/* SPDX-License-Identifier: MIT */

#include "ps/text.h"

#include "base/line.h"
#include "common/say.h"
#include "common/terminal.h"
#include "common/units.h"
#include "sockets/container.h"
#include "sockets/judge.h"
#include "sockets/sharing.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
    CELL = 512,
    HOLDERS_SHOWN = 3,
    NAME = 64, /* of a command, escaped */
    INDENT = 4,
    PLACE = 96,
    EXPLANATION_MIN = 24 /* columns that an explanation needs to stand beside its row */
};

/* ---- cells ---- */

struct view {
    const struct snapshot *snapshot;
    bool rates;
    char (*place)[PLACE]; /* the container of each process, "-" for none, "" for not looked at */
    bool contained;       /* one of those shown is in a container */
};

static const char *size_cell(uint64_t bytes, char *buf)
{
    if (bytes == 0)
        return "0";
    format_size(bytes, buf, CELL);
    return buf;
}

static const char *holders_cell(const struct view *v, const struct socket *s, char *buf)
{
    char *at = buf;

    if (s->references == 0)
        return "-";
    for (size_t i = 0; i < s->references && i < HOLDERS_SHOWN; i++) {
        const struct process *p = socket_holder(v->snapshot, s, i);

        if (i)
            *at++ = ',';
        escape(p->command, at, NAME);
        at += strlen(at);
        *at++ = '[';
        at = put_decimal(at, (uint64_t) p->pid);
        *at++ = ']';
        *at++ = ':';
        at = put_decimal(at, (uint64_t) socket_reference(v->snapshot, s, i)->fd);
    }
    if (s->references > HOLDERS_SHOWN) {
        *at++ = ',';
        *at++ = '+';
        put_decimal(at, s->references - HOLDERS_SHOWN);
    }
    return buf;
}

static const struct process *first_holder(const struct view *v, const struct socket *s)
{
    return s->references ? socket_holder(v->snapshot, s, 0) : NULL;
}

static const char *container_cell(const struct view *v, const struct socket *s)
{
    const struct process *p = first_holder(v, s);

    return p ? v->place[p - v->snapshot->scan.processes.at] : "-";
}

/* Its name inside, which in Kubernetes is the pod's, and its id. */
static void name_place(int32_t pid, char place[PLACE])
{
    struct container container;
    char host[PLACE - CONTAINER_SHORT - 2];

    container_read(pid, &container);
    escape(container.host, host, sizeof host);
    if (!*container.id)
        snprintf(place, PLACE, "-");
    else if (*host)
        snprintf(place, PLACE, "%s/%.*s", host, CONTAINER_SHORT, container.id);
    else
        snprintf(place, PLACE, "%.*s", CONTAINER_SHORT, container.id);
}

/* Each process is looked at once. */
static bool find_places(struct view *v, const struct ps_rows *rows)
{
    const struct process *all = v->snapshot->scan.processes.at, *p;

    v->place = calloc(v->snapshot->scan.processes.count + 1, sizeof *v->place);
    for (size_t i = 0; v->place && i < rows->rows.count; i++) {
        p = first_holder(v, rows->rows.at[i]);
        if (!p || *v->place[p - all])
            continue;
        name_place(p->pid, v->place[p - all]);
        if (strcmp(v->place[p - all], "-") != 0)
            v->contained = true;
    }
    return v->place != NULL;
}

enum column {
    COLUMN_VERDICT,
    COLUMN_PROTO,
    COLUMN_STATE,
    COLUMN_RECEIVE,
    COLUMN_SEND,
    COLUMN_RECEIVED,
    COLUMN_ACKED,
    COLUMN_LOCAL,
    COLUMN_REMOTE,
    COLUMN_SOCKET,
    COLUMN_CONTAINER,
    COLUMN_HOLDERS,
    COLUMNS
};

static const struct {
    const char *title;
    bool right;
} columns[COLUMNS] = {
    { "verdict", false },   { "proto", false },   { "state", false }, { "recv-q", true },
    { "send-q", true },     { "in/s", true },     { "out/s", true },  { "local", false },
    { "remote", false },    { "socket", false }, /* what `finack end --socket` takes */
    { "container", false }, { "holders", false },
};

/* Whether a column has something to say. */
static bool is_shown(const struct view *v, size_t column)
{
    if (column == COLUMN_CONTAINER)
        return v->contained;
    return v->rates || (column != COLUMN_RECEIVED && column != COLUMN_ACKED);
}

/* A text, in `buf` if it is not a constant. */
static const char *text_of(const struct view *v, const struct socket *s, size_t column,
                           char buf[CELL])
{
    const struct socket_rate *rate = snapshot_rate(v->snapshot, s);

    switch (column) {
    case COLUMN_VERDICT:
        return finding_name(s->verdict);
    case COLUMN_PROTO:
        return socket_protocol_name(s->protocol);
    case COLUMN_STATE:
        return socket_state_name(s->state);
    case COLUMN_RECEIVE:
        return s->queues_unknown ? "?" : size_cell(s->receive_queue, buf);
    case COLUMN_SEND:
        return s->queues_unknown ? "?" : size_cell(s->send_queue, buf);
    case COLUMN_RECEIVED:
        return rate ? size_cell((uint64_t) rate->received, buf) : "-";
    case COLUMN_ACKED:
        return rate ? size_cell((uint64_t) rate->acked, buf) : "-";
    case COLUMN_LOCAL:
        return format_local(v->snapshot, s, buf, CELL);
    case COLUMN_REMOTE:
        return format_remote(s, buf, CELL);
    case COLUMN_SOCKET:
        put_decimal(buf, s->cookie);
        return s->cookie ? buf : "-";
    case COLUMN_CONTAINER:
        return container_cell(v, s);
    default:
        return holders_cell(v, s, buf);
    }
}

/* ---- how wide the columns are ---- */

/* Cells are formatted once to see how wide they are, and again where they are printed: kept, they
 * would take more than all that is known of the sockets. */
struct grid {
    const struct view *view;
    size_t widest[COLUMNS];
    bool shown[COLUMNS];
};

static struct grid measure(const struct view *v, const struct ps_rows *rows)
{
    struct grid grid = { .view = v };
    char cell[CELL];

    for (size_t c = 0; c < COLUMNS; c++) {
        grid.shown[c] = is_shown(v, c);
        grid.widest[c] = grid.shown[c] ? strlen(columns[c].title) : 0;
        for (size_t i = 0; grid.shown[c] && i < rows->rows.count; i++) {
            size_t length = strlen(text_of(v, rows->rows.at[i], c, cell));

            if (length > grid.widest[c])
                grid.widest[c] = length;
        }
    }
    return grid;
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
    bool colors;
};

static struct page open_page(FILE *out, size_t width)
{
    return (struct page) { out, width, width > 0 && terminal_colors(STDOUT_FILENO) };
}

/* Red for what does not end by itself, yellow for what may. */
static const char *color_of(const struct page *p, const struct socket *s)
{
    if (!p->colors || !is_ghost(s->verdict))
        return "";
    return s->verdict == FOUND_ORPHAN || s->verdict == FOUND_HALF_CLOSED || s->verdict == FOUND_HELD
        ? "\033[33m"
        : "\033[31m";
}

static const char *plain(const struct page *p)
{
    return p->colors ? "\033[m" : "";
}

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

/* `s` NULL: the titles. */
static void print_cells(const struct page *p, const struct grid *grid, const struct socket *s,
                        bool explained)
{
    char cell[CELL];

    for (size_t c = 0; c < COLUMNS; c++) {
        bool last = c + 1 == COLUMNS && !explained;

        if (!grid->shown[c])
            continue;
        print_padded(p->out, s ? text_of(grid->view, s, c, cell) : columns[c].title,
                     last ? 0 : grid->widest[c], columns[c].right);
        if (!last)
            fputc_unlocked(' ', p->out);
    }
}

/* An explanation stands beside its row if there is room for all of it, else below. */
static void print_row(const struct page *p, const struct grid *grid, const struct socket *s)
{
    char why[CELL];
    size_t width = width_of(grid) + 1;
    bool beside;

    fputs(color_of(p, s), p->out);
    explain(grid->view->snapshot, s, why, sizeof why);
    beside = *why && (p->width == 0 || width + strlen(why) <= p->width);
    print_cells(p, grid, s, beside);
    if (beside)
        fputs(why, p->out);
    fputc('\n', p->out);
    if (*why && !beside)
        print_wrapped(p, why, INDENT);
    fputs(plain(p), p->out);
}

static void print_table(const struct page *p, const struct grid *grid, const struct ps_rows *rows)
{
    bool explained = p->width == 0 || p->width >= width_of(grid) + 1 + EXPLANATION_MIN;

    print_cells(p, grid, NULL, explained);
    fputs(explained ? "why\n" : "\n", p->out);
    for (size_t i = 0; i < rows->rows.count; i++)
        print_row(p, grid, rows->rows.at[i]);
}

/* ---- a block of lines for each, where a row is too wide ---- */

static void print_block(const struct page *p, const struct grid *grid, const struct socket *s)
{
    char line[3 * CELL], cell[CELL];
    const char *text;

    snprintf(line, sizeof line, "%s %s %s", finding_name(s->verdict),
             socket_protocol_name(s->protocol), socket_state_name(s->state));
    print_wrapped(p, line, 0);
    for (size_t c = COLUMN_STATE + 1; c < COLUMNS; c++) {
        text = text_of(grid->view, s, c, cell);
        if (!grid->shown[c] || (columns[c].right && strcmp(text, "0") == 0))
            continue;
        snprintf(line, sizeof line, "%s %s", columns[c].title, text);
        print_wrapped(p, line, 1);
    }
    explain(grid->view->snapshot, s, line, CELL);
    print_wrapped(p, line, 1);
}

void ps_text_rows(FILE *out, const struct snapshot *snapshot, const struct ps_rows *rows,
                  bool rates, size_t width)
{
    struct page page = open_page(out, width);
    struct view view = { .snapshot = snapshot, .rates = rates };
    struct grid grid;

    if (!find_places(&view, rows)) {
        fputs("out of memory\n", out);
        return;
    }
    grid = measure(&view, rows);
    if (width == 0 || width_of(&grid) <= width)
        print_table(&page, &grid, rows);
    else
        for (size_t i = 0; i < rows->rows.count; i++)
            print_block(&page, &grid, rows->rows.at[i]);
    free(view.place);
}

void ps_text_line(FILE *out, const char *text, size_t width)
{
    print_wrapped(&(struct page) { .out = out, .width = width }, text, 0);
}

/* ---- the summary ---- */

void ps_text_counts(FILE *out, const struct ps_rows *rows, size_t width)
{
    struct page page = open_page(out, width);
    char text[400];
    struct fin__line line = { text, sizeof text, 0 };
    const char *gap = ":";

    fin__put(&line, "%zu socket%s", rows->rows.count, rows->rows.count == 1 ? "" : "s");
    for (int f = 0; f < FINDINGS; f++)
        if (rows->count[f]) {
            fin__put(&line, "%s %zu %s", gap, rows->count[f], finding_name(f));
            gap = ",";
        }
    print_wrapped(&page, text, 0);
}

void ps_text_advice(FILE *out, const struct ps_rows *rows, size_t width)
{
    static const char *const advice[FINDINGS] = {
        [FOUND_STALE] = "finack heal PID removes the entries; mend the program that closed the "
                        "descriptor before it took it out of the epoll set",
        [FOUND_DEAD] = "the program has to close it; only its descriptor is left",
        [FOUND_STALLED] = "see why the peer does not read; finack end --reset PID FD gives it up",
        [FOUND_LEAKED] = "the program has to close it; until then, finack end PID FD ends the "
                         "connection, and finack trace --stack -p PID shows who makes such sockets",
        [FOUND_UNSERVED] = "see why the program does not accept, or end it",
        [FOUND_HALF_CLOSED] = "the peer has to close; finack end PID FD does not wait for it",
        [FOUND_HELD] =
            "close it in the process that does not need it, or start that one without it",
    };
    char line[300];

    for (int f = 0; f < FINDINGS; f++) {
        if (!rows->count[f] || !advice[f])
            continue;
        snprintf(line, sizeof line, "what to do about %s: %s", finding_name(f), advice[f]);
        ps_text_line(out, line, width);
    }
}

void ps_text_summary(FILE *out, const struct snapshot *snapshot, const struct ps_rows *rows,
                     size_t width)
{
    struct page page = open_page(out, width);
    char line[200];

    ps_text_counts(out, rows, width);
    if (rows->compared) {
        snprintf(line, sizeof line, "since then: %zu came, %zu changed, %zu went",
                 rows->changes.came, rows->changes.changed, rows->changes.went);
        print_wrapped(&page, line, 0);
    }
    ps_text_blind(out, &snapshot->blind, width);
}
