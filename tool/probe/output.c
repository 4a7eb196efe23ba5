/* SPDX-License-Identifier: MIT */

#include "probe/output.h"

#include "common/file.h"
#include "common/out.h"
#include "common/say.h"
#include "common/terminal.h"
#include "probe/json.h"
#include "probe/picture.h"
#include "probe/table.h"

#include <stdlib.h>
#include <unistd.h>

/* On a terminal that draws, with a picture below the table. A table that wraps helps nobody: a
 * narrow terminal gets the picture alone. */
static void print_text(FILE *out, const struct probe_result *results, size_t count,
                       const struct probe_options *o, const char *legend,
                       const struct picture *picture)
{
    bool draws = terminal_draws(STDOUT_FILENO);
    int width = terminal_width(STDOUT_FILENO),
        needed = table_width(results, count, o->policy.proof);
    char *lines = draws ? picture_lines(picture, width) : NULL;

    if (!draws || needed <= width) {
        table_print(out, results, count, o->policy.proof);
        fprintf(out, "%s%s", legend, draws ? "\n" : "");
    }
    fputs(lines ? lines : "", out);
    if (draws && needed > width)
        fprintf(out, "The table of all times needs %d columns.\n", needed);
    fputs(draws ? "\n" : "", out);
    free(lines);
}

static int print_json(FILE *out, const struct probe_result *results, size_t count)
{
    char *text = json_format(results, count);
    int status = text ? EXIT_FINE : complain("out of memory");

    fputs(text ? text : "", out);
    free(text);
    return status;
}

static int write_page(const struct picture *picture, const char *path)
{
    size_t size;
    char *page = picture_page(picture, &size);
    int status = page ? file_write(path, page, size) : complain("out of memory");

    free(page);
    return status;
}

int output_results(const struct probe_result *results, size_t count, const struct probe_options *o,
                   const char *legend, const char *note)
{
    struct probe_picture drawn;
    struct out out;
    int status = EXIT_FINE, written, page = EXIT_FINE;

    if (probe_picture_make(&drawn, o, results, count) < 0)
        return complain("out of memory");
    if (out_open(&out, STDOUT_FILENO) < 0) {
        probe_picture_free(&drawn);
        return complain("out of memory");
    }
    if (o->json) {
        status = print_json(out.file, results, count);
    } else {
        print_text(out.file, results, count, o, legend, &drawn.picture);
        fputs(note, out.file);
    }
    written = put_status(out_close(&out));
    status = status ? status : written;
    if (o->html_file)
        page = write_page(&drawn.picture, o->html_file);
    probe_picture_free(&drawn);
    return status ? status : page;
}
