/* SPDX-License-Identifier: MIT */

#include "command.h"
#include "netns.h"
#include "ps_json.h"
#include "ps_options.h"
#include "ps_rows.h"
#include "ps_text.h"
#include "ps_watch.h"
#include "say.h"
#include "screen.h"

#include <stdlib.h>

static int print(const struct look *look, const struct ps_rows *rows, const struct ps_options *o)
{
    char *text = NULL;
    size_t size = 0, width = screen_size().columns;
    FILE *out = open_memstream(&text, &size);
    int status;

    if (!out)
        return complain("out of memory");
    if (o->json) {
        if (ps_json_print(out, look, rows, false) < 0)
            size = 0;
    } else {
        if (rows->rows.count)
            ps_text_rows(out, look, rows, false, width);
        ps_text_summary(out, look, rows, width);
    }
    status = fclose(out) == 0 ? put_out(text, size) : complain("out of memory");
    free(text);
    return status;
}

static int look_once(const struct ps_options *o, struct netns_list *spaces)
{
    struct look look;
    struct ps_rows rows;
    int status = look_take(&look, spaces);

    if (!status) {
        if (ps_rows_pick(&look, o, &rows) < 0)
            status = complain("out of memory");
        if (!status)
            status = print(&look, &rows, o);
        if (!status)
            status = rows.rows.count > rows.count[FOUND_NOTHING] ? EXIT_FOUND : EXIT_FINE;
        ps_rows_free(&rows);
    }
    look_free(&look);
    return status;
}

int ps_main(int argc, char **argv)
{
    struct ps_options options;
    struct netns_list spaces;
    int status;

    switch (ps_options_parse(argc, argv, &options)) {
    case PARSE_DONE:
        return EXIT_FINE;
    case PARSE_WRONG:
        return EXIT_TROUBLE;
    default:
        break;
    }
    status = netns_list_make(options.netns, &spaces);
    if (!status)
        status = options.watch ? ps_watch(&options, &spaces) : look_once(&options, &spaces);
    netns_list_free(&spaces);
    return status;
}
