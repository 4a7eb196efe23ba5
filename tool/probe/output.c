/* SPDX-License-Identifier: MIT */

#include "probe/output.h"

#include "common/file.h"
#include "common/say.h"
#include "common/terminal.h"
#include "probe/json.h"
#include "probe/picture.h"
#include "probe/table.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static size_t longest_line(const char *text)
{
    size_t longest = 0;

    while (*text) {
        size_t length = strcspn(text, "\n");

        longest = length > longest ? length : longest;
        text += length + (text[length] != '\0');
    }
    return longest;
}

static void print_picture(FILE *out, const struct picture *picture, int width)
{
    char *lines = picture_lines(picture, width);

    if (lines)
        fputs(lines, out);
    free(lines);
}

/* A table that wraps helps nobody: a narrow terminal gets the picture alone. */
static void print_drawn(FILE *out, const char *table, const char *legend,
                        const struct picture *picture)
{
    int width = terminal_width(STDOUT_FILENO);
    size_t needed = longest_line(table);

    if (needed <= (size_t) width)
        fprintf(out, "%s%s\n", table, legend);
    print_picture(out, picture, width);
    if (needed > (size_t) width)
        fprintf(out, "The table of all times needs %zu columns.\n", needed);
    fputc('\n', out);
}

static char *table_format(const struct probe_result *results, size_t count, int proof)
{
    char *text = NULL;
    size_t size;
    FILE *out = open_memstream(&text, &size);

    if (!out)
        return NULL;
    table_print(out, results, count, proof);
    if (fclose(out) == 0)
        return text;
    free(text);
    return NULL;
}

static char *text_format(const char *table, const char *legend, const struct picture *picture,
                         const char *note)
{
    char *text = NULL;
    size_t size;
    FILE *out = table ? open_memstream(&text, &size) : NULL;

    if (!out)
        return NULL;
    if (terminal_draws(STDOUT_FILENO))
        print_drawn(out, table, legend, picture);
    else
        fprintf(out, "%s%s", table, legend);
    fputs(note, out);
    if (fclose(out) == 0)
        return text;
    free(text);
    return NULL;
}

static int put_text(char *text)
{
    int status = text ? put_out(text, strlen(text)) : complain("out of memory");

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
    char *table;
    int status, page = EXIT_FINE;

    if (probe_picture_make(&drawn, o, results, count) < 0)
        return complain("out of memory");
    if (o->json) {
        status = put_text(json_format(results, count));
    } else {
        table = table_format(results, count, o->policy.proof);
        status = put_text(text_format(table, legend, &drawn.picture, note));
        free(table);
    }
    if (o->html_file)
        page = write_page(&drawn.picture, o->html_file);
    probe_picture_free(&drawn);
    return status ? status : page;
}
