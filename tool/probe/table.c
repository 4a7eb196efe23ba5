/* SPDX-License-Identifier: MIT */

#include "probe/table.h"

#include "common/units.h"

#include <string.h>

enum {
    WIDEST = 300
};

enum cell {
    CELL_PEER,
    CELL_OUTCOME,
    CELL_PHASE,
    CELL_END,
    CELL_STAGE,
    CELL_SAW,
    CELL_BYTES,
    CELL_VERDICT,
};

struct column {
    const char *title;
    enum cell cell;
    int stage;
    bool right;     /* aligned to the right */
    bool with_view; /* only for embedded peers */
};

void format_view(const struct peer_view *view, char *buf, size_t size)
{
    snprintf(buf, size, "%s%s%s", view->notified ? "N " : "", view->eof ? "EOF " : "",
             view->reset ? "RST " : "");
    if (*buf)
        buf[strlen(buf) - 1] = '\0';
    else
        snprintf(buf, size, "-");
}

static const char *format_stage(const struct fin_receipt *r, int stage, char *buf)
{
    if (r->stage_ns[stage] < 0)
        return r->unverifiable & (1u << stage) ? "?" : "-";
    format_time(r->stage_ns[stage], buf, WIDEST);
    return buf;
}

/* A text, in `buf` if it is not a constant. */
static const char *text_of(const struct column *c, const struct probe_result *r, char buf[WIDEST])
{
    static const char *const verdicts[] = { "-", "ok", "UNEXPECTED" };

    switch (c->cell) {
    case CELL_PEER:
        snprintf(buf, WIDEST, "%s%s", r->peer, r->tls ? " *" : "");
        return buf;
    case CELL_OUTCOME:
        return fin_outcome_name(r->receipt.outcome);
    case CELL_PHASE:
        return r->receipt.phase == FIN_PHASE_NONE ? "-" : fin_phase_name(r->receipt.phase);
    case CELL_END:
        return fin_end_name(r->receipt.end);
    case CELL_STAGE:
        return format_stage(&r->receipt, c->stage, buf);
    case CELL_SAW:
        format_view(&r->view, buf, WIDEST);
        return buf;
    case CELL_BYTES:
        format_size(r->view.bytes, buf, WIDEST);
        return buf;
    default:
        return verdicts[r->verdict];
    }
}

static const struct column columns[] = {
    { "peer", CELL_PEER, 0, false, false },
    { "outcome", CELL_OUTCOME, 0, false, false },
    { "phase", CELL_PHASE, 0, false, false },
    { "end", CELL_END, 0, false, false },
    { "flush", CELL_STAGE, FIN_STAGE_FLUSHED, true, false },
    { "notif", CELL_STAGE, FIN_STAGE_NOTIFIED, true, false },
    { "answd", CELL_STAGE, FIN_STAGE_ANSWERED, true, false },
    { "shut", CELL_STAGE, FIN_STAGE_SHUT, true, false },
    { "acked", CELL_STAGE, FIN_STAGE_ACKED, true, false },
    { "eof", CELL_STAGE, FIN_STAGE_EOF, true, false },
    { "unwat", CELL_STAGE, FIN_STAGE_UNWATCHED, true, false },
    { "relsd", CELL_STAGE, FIN_STAGE_RELEASED, true, false },
    { "unref", CELL_STAGE, FIN_STAGE_UNREFERENCED, true, false },
    { "finis", CELL_STAGE, FIN_STAGE_FINISHED, true, false },
    { "gone", CELL_STAGE, FIN_STAGE_GONE, true, false },
    { "peer saw", CELL_SAW, 0, false, true },
    { "bytes", CELL_BYTES, 0, true, true },
    { "ok?", CELL_VERDICT, 0, false, true },
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
        size_t length = results[i].closed ? strlen(text_of(c, &results[i], cell)) : 0;

        widest = length > widest ? length : widest;
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
        fprintf(out, "%s%*s", gap,
                c->right   ? widths[i]
                    : last ? 0
                           : -widths[i],
                result ? text_of(c, result, cell) : c->title);
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

int table_width(const struct probe_result *results, size_t count, int proof)
{
    int all = -1; /* the first has no gap before it */

    for (size_t i = 0; i < COLUMNS; i++) {
        int one = width(&columns[i], results, count, proof);

        all += one ? one + 1 : 0;
    }
    return all;
}
