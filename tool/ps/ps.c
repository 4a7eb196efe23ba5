/* SPDX-License-Identifier: MIT */

#include "common/command.h"
#include "common/file.h"
#include "common/out.h"
#include "common/say.h"
#include "common/terminal.h"
#include "ps/ending.h"
#include "ps/groups.h"
#include "ps/json.h"
#include "ps/options.h"
#include "ps/record.h"
#include "ps/rows.h"
#include "ps/text.h"
#include "ps/watch.h"
#include "sockets/join.h"
#include "sockets/netns.h"

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

static int print_rows(FILE *out, const struct snapshot *snapshot, const struct ps_rows *rows,
                      const struct ps_options *o)
{
    if (o->group)
        return ps_groups_print(out, snapshot, rows, o->group);
    if (rows->rows.count)
        ps_text_rows(out, snapshot, rows, false, screen_size(STDOUT_FILENO).columns);
    return 0;
}

static size_t count_lines(const char *text, size_t size)
{
    size_t lines = 0;

    for (size_t i = 0; i < size; i++)
        lines += text[i] == '\n';
    return lines;
}

/* How many lines these are is seen once they are printed: a row may take several. */
static int print_few(FILE *out, const struct snapshot *snapshot, const struct ps_rows *rows,
                     const struct ps_options *o, struct screen_size screen)
{
    char *text = NULL;
    size_t size = 0;
    FILE *page = open_memstream(&text, &size);
    int result = page ? print_rows(page, snapshot, rows, o) : -ENOMEM;

    if (page && fclose(page) != 0)
        result = -ENOMEM;
    if (result == 0 && count_lines(text, size) >= screen.lines)
        ps_text_counts(out, rows, screen.columns);
    if (result == 0)
        fwrite(text, 1, size, out);
    free(text);
    return result;
}

/* On a terminal, what would be below the last line of the screen is above the first too. */
static int print_text(FILE *out, const struct snapshot *snapshot, const struct ps_rows *rows,
                      const struct ps_options *o)
{
    struct screen_size screen = screen_size(STDOUT_FILENO);
    bool many = rows->rows.count >= screen.lines && !o->group;
    int result;

    if (screen.lines && many)
        ps_text_counts(out, rows, screen.columns);
    if (screen.lines && !many)
        result = print_few(out, snapshot, rows, o, screen);
    else
        result = print_rows(out, snapshot, rows, o);
    ps_text_summary(out, snapshot, rows, screen.columns);
    ps_text_advice(out, rows, screen.columns);
    return result;
}

static int record_all(int fd, void *arg)
{
    const struct ps_options all = { .protocols = ~0u, .states = ~0u, .sort = SORT_PROTO };
    const struct snapshot *snapshot = arg;
    struct ps_rows rows;
    struct out out;
    int result = ps_rows_pick(snapshot, &all, &rows), written;

    if (result == 0)
        result = out_open(&out, fd);
    if (result == 0) {
        result = ps_json_print(out.file, snapshot, &rows, GROUP_NONE, false);
        written = out_close(&out);
        result = result < 0 ? result : written;
    }
    ps_rows_free(&rows);
    return result;
}

/* Of all sockets, whatever is shown: a later look may ask for others. */
static int record(struct snapshot *snapshot, const struct ps_options *o)
{
    return file_fill(o->record, record_all, snapshot);
}

static int print(const struct snapshot *snapshot, const struct ps_rows *rows,
                 const struct ps_options *o)
{
    struct out out;
    int result = out_open(&out, STDOUT_FILENO), written;

    if (result < 0)
        return complain("out of memory");
    if (o->json)
        result = ps_json_print(out.file, snapshot, rows, o->group, false);
    else
        result = print_text(out.file, snapshot, rows, o);
    written = out_close(&out);
    return result < 0 ? complain("out of memory") : put_status(written);
}

static int look_once(const struct ps_options *o, struct netns_list *spaces)
{
    struct snapshot snapshot;
    struct ps_rows rows;
    int status = snapshot_take(&snapshot, spaces);

    if (!status) {
        if (ps_rows_pick(&snapshot, o, &rows) < 0)
            status = complain("out of memory");
        if (!status && o->since)
            status = ps_record_compare(o->since, &rows);
        if (!status && o->record)
            status = record(&snapshot, o);
        if (!status)
            status = print(&snapshot, &rows, o);
        if (!status && o->end)
            status = ps_end(&snapshot, &rows, o);
        else if (!status)
            status = rows.ghosts ? EXIT_FOUND : EXIT_FINE;
        ps_rows_free(&rows);
    }
    snapshot_free(&snapshot);
    return status;
}

/* A process that was asked for is looked at where it is. */
static int make_spaces(const struct ps_options *o, struct netns_list *spaces)
{
    int status = netns_list_make(o->netns, spaces);

    for (size_t i = 0; !status && !o->netns && i < o->pids.count; i++)
        if (netns_list_add_process(spaces, (int32_t) o->pids.at[i]) < 0)
            status = complain("out of memory");
    return status;
}

int ps_main(int argc, char **argv)
{
    struct ps_options options;
    struct netns_list spaces;
    int status;
    int parsed = ps_options_parse(argc, argv, &options);

    if (parsed != PARSE_RUN)
        return parsed;
    status = make_spaces(&options, &spaces);
    if (!status)
        status = options.watch ? ps_watch(&options, &spaces) : look_once(&options, &spaces);
    netns_list_free(&spaces);
    return status;
}
