/* SPDX-License-Identifier: MIT */

#include "trace/sink.h"

#include "common/file.h"
#include "common/say.h"
#include "common/terminal.h"
#include "trace/json.h"
#include "trace/picture.h"
#include "trace/text.h"
#include "trace/trace.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* A stream of its own: complaints are not to wait in a buffer. */
static FILE *open_live(struct sink *sink)
{
    return out_open(&sink->out, STDERR_FILENO) < 0 ? NULL : sink->out.file;
}

/* Text without a file is read while it comes; a file, and JSON, are whole or not at all. */
int sink_open(struct sink *sink, const struct trace_options *options, pid_t pid)
{
    *sink = (struct sink) { .options = options, .live = !options->json && !options->output };
    sink->file = sink->live ? open_live(sink) : open_memstream(&sink->text, &sink->size);
    if (!sink->file)
        return complain("cannot begin to write: %s", strerror(errno));
    if (options->json)
        json_begin(sink->file, options, pid);
    return 0;
}

void sink_event(struct sink *sink, const struct event *event)
{
    if (sink->options->json)
        json_event(sink->file, event, !sink->some);
    else
        text_event(sink->file, event);
    sink->some = true;
}

void sink_note(struct sink *sink, const char *note)
{
    if (!sink->options->json)
        fprintf(sink->file, "note: %s\n", note);
}

void sink_pause(struct sink *sink)
{
    if (sink->live)
        fflush(sink->file);
}

static int put_whole(struct sink *sink)
{
    int result = fclose(sink->file);

    sink->file = NULL;
    if (result != 0)
        return complain("out of memory");
    return sink->options->output ? file_write(sink->options->output, sink->text, sink->size)
                                 : put_out(sink->text, sink->size);
}

static int finish_live(struct sink *sink)
{
    sink->file = NULL;
    return put_status(out_close(&sink->out));
}

/* Everything but the page; `picture` NULL: without one. */
static int put_end(struct sink *sink, const struct trace *trace, const struct picture *picture)
{
    char *lines = picture ? picture_lines(picture, terminal_width(STDERR_FILENO)) : NULL;

    if (sink->options->json)
        json_end(sink->file, trace);
    else
        text_end(sink->file, trace, lines ? lines : "");
    free(lines);
    return sink->live ? finish_live(sink) : put_whole(sink);
}

static int put_page(const struct sink *sink, const struct picture *picture)
{
    size_t size;
    char *page = picture_page(picture, &size);
    int status = page ? file_write(sink->options->html, page, size) : complain("out of memory");

    free(page);
    return status;
}

int sink_finish(struct sink *sink, const struct trace *trace)
{
    bool draw = sink->live && terminal_draws(STDERR_FILENO);
    struct trace_picture drawn;
    int status, page = 0;

    if (!draw && !sink->options->html)
        return put_end(sink, trace, NULL);
    if (trace_picture_make(&drawn, trace) < 0)
        return complain("out of memory");
    status = put_end(sink, trace, draw ? &drawn.picture : NULL);
    if (sink->options->html)
        page = put_page(sink, &drawn.picture);
    trace_picture_free(&drawn);
    return status ? status : page;
}

void sink_discard(struct sink *sink)
{
    if (sink->file)
        fclose(sink->file);
    sink->file = NULL;
    free(sink->text);
    sink->text = NULL;
}
