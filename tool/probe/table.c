/* SPDX-License-Identifier: MIT */

#include "probe/table.h"

#include "common/units.h"

#include <string.h>

enum {
    WIDEST = 300
};

struct column {
    const char *title;
    void (*format)(const struct probe_result *r, int stage, char *buf);
    int stage;
    bool right;     /* aligned to the right */
    bool with_view; /* only for embedded peers */
};

static void probe_table_put(char *buf, const char *text)
{
    snprintf(buf, WIDEST, "%s", text);
}

static void peer_cell(const struct probe_result *r, int stage, char *buf)
{
    (void) stage;
    snprintf(buf, WIDEST, "%s%s", r->peer, r->tls ? " *" : "");
}

static void outcome_cell(const struct probe_result *r, int stage, char *buf)
{
    (void) stage;
    probe_table_put(buf, fin_outcome_name(r->receipt.outcome));
}

static void phase_cell(const struct probe_result *r, int stage, char *buf)
{
    (void) stage;
    probe_table_put(buf,
                    r->receipt.phase == FIN_PHASE_NONE ? "-" : fin_phase_name(r->receipt.phase));
}

static void end_cell(const struct probe_result *r, int stage, char *buf)
{
    (void) stage;
    probe_table_put(buf, fin_end_name(r->receipt.end));
}

static void stage_cell(const struct probe_result *r, int stage, char *buf)
{
    if (r->receipt.stage_ns[stage] >= 0)
        format_time(r->receipt.stage_ns[stage], buf, WIDEST);
    else
        probe_table_put(buf, r->receipt.unverifiable & (1u << stage) ? "?" : "-");
}

void format_view(const struct peer_view *view, char *buf, size_t size)
{
    snprintf(buf, size, "%s%s%s", view->notified ? "N " : "", view->eof ? "EOF " : "",
             view->reset ? "RST " : "");
    if (*buf)
        buf[strlen(buf) - 1] = '\0';
    else
        snprintf(buf, size, "-");
}

static void saw_cell(const struct probe_result *r, int stage, char *buf)
{
    (void) stage;
    format_view(&r->view, buf, WIDEST);
}

static void bytes_cell(const struct probe_result *r, int stage, char *buf)
{
    (void) stage;
    format_size(r->view.bytes, buf, WIDEST);
}

static void verdict_cell(const struct probe_result *r, int stage, char *buf)
{
    static const char *const words[] = { "-", "ok", "UNEXPECTED" };

    (void) stage;
    probe_table_put(buf, words[r->verdict]);
}

static const struct column columns[] = {
    { "peer", peer_cell, 0, false, false },
    { "outcome", outcome_cell, 0, false, false },
    { "phase", phase_cell, 0, false, false },
    { "end", end_cell, 0, false, false },
    { "flush", stage_cell, FIN_STAGE_FLUSHED, true, false },
    { "notif", stage_cell, FIN_STAGE_NOTIFIED, true, false },
    { "answd", stage_cell, FIN_STAGE_ANSWERED, true, false },
    { "shut", stage_cell, FIN_STAGE_SHUT, true, false },
    { "acked", stage_cell, FIN_STAGE_ACKED, true, false },
    { "eof", stage_cell, FIN_STAGE_EOF, true, false },
    { "unwat", stage_cell, FIN_STAGE_UNWATCHED, true, false },
    { "relsd", stage_cell, FIN_STAGE_RELEASED, true, false },
    { "unref", stage_cell, FIN_STAGE_UNREFERENCED, true, false },
    { "finis", stage_cell, FIN_STAGE_FINISHED, true, false },
    { "gone", stage_cell, FIN_STAGE_GONE, true, false },
    { "peer saw", saw_cell, 0, false, true },
    { "bytes", bytes_cell, 0, true, true },
    { "ok?", verdict_cell, 0, false, true },
};
#define COLUMNS (sizeof columns / sizeof *columns)

static bool wanted(const struct column *c, const struct probe_result *results, size_t count,
                   int proof)
{
    size_t i;

    if (c->with_view)
        return count > 0 && results[0].has_view;
    if (c->stage <= proof)
        return true;
    for (i = 0; i < count; i++)
        if (results[i].receipt.stage_ns[c->stage] >= 0
            || results[i].receipt.unverifiable & (1u << c->stage))
            return true;
    return false;
}

/* 0: the column is left out. */
static int width(const struct column *c, const struct probe_result *results, size_t count,
                 int proof)
{
    size_t widest = strlen(c->title), i;
    char cell[WIDEST];

    if (!wanted(c, results, count, proof))
        return 0;
    for (i = 0; i < count; i++) {
        if (!results[i].closed)
            continue;
        c->format(&results[i], c->stage, cell);
        if (strlen(cell) > widest)
            widest = strlen(cell);
    }
    return (int) widest;
}

static void print_row(FILE *out, const struct probe_result *result, const int *widths)
{
    char cell[WIDEST];
    const char *gap = "";
    size_t i;

    for (i = 0; i < COLUMNS; i++) {
        const struct column *c = &columns[i];
        bool last = i + 1 == COLUMNS;

        if (!widths[i])
            continue;
        probe_table_put(cell, c->title);
        if (result)
            c->format(result, c->stage, cell);
        fprintf(out, "%s%*s", gap, c->right ? widths[i] : last ? 0 : -widths[i], cell);
        gap = " ";
    }
    fputc('\n', out);
}

void table_print(FILE *out, const struct probe_result *results, size_t count, int proof)
{
    int widths[COLUMNS];
    size_t i;

    for (i = 0; i < COLUMNS; i++)
        widths[i] = width(&columns[i], results, count, proof);
    print_row(out, NULL, widths);
    for (i = 0; i < count; i++)
        if (results[i].closed)
            print_row(out, &results[i], widths);
}
