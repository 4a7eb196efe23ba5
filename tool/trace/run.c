/* SPDX-License-Identifier: MIT */

#include "trace/run.h"

#include "common/deadline.h"
#include "common/say.h"
#include "trace/after.h"
#include "trace/attach.h"
#include "trace/ghosts.h"
#include "trace/inspect.h"
#include "trace/leaks.h"
#include "trace/loop.h"
#include "trace/receipt.h"
#include "trace/sink.h"
#include "trace/stack.h"
#include "trace/tell.h"
#include "trace/wake.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* How long to wait for connections to end after everything else has. */
#define FINISH_MS 2050

/* ---- the beginning ---- */

static int cannot_attach(pid_t pid, int error)
{
    if (error == -ESRCH)
        return complain("there is no process %d", (int) pid);
    if (error == -EPERM || error == -EACCES)
        return complain("may not trace process %d: it is not yours, or is traced already, or "
                        "kernel.yama.ptrace_scope forbids it",
                        (int) pid);
    return complain("cannot trace process %d: %s", (int) pid, strerror(-error));
}

static int take_over(struct trace *trace, int go)
{
    bool attach = trace->options->pid;
    pid_t pid = trace->main;
    int result = attach ? attach_process(trace, pid) : attach_command(trace, pid);

    if (result < 0 && attach)
        return cannot_attach(pid, result);
    if (result < 0)
        return complain("ptrace(2) can't be used here: %s", strerror(-result));
    if (!trace->options->pid && write(go, "", 1) != 1)
        return EXIT_TROUBLE;
    return 0;
}

/* What is noted meanwhile goes to the sink. */
static int set_up(struct trace *trace, struct roster *roster)
{
    const struct trace_options *options = trace->options;

    if (sink_open(trace->sink, options, trace->main))
        return EXIT_TROUBLE;
    if (book_open(&trace->book) < 0 || tasks_open(&trace->tasks, roster) < 0)
        return complain("out of memory");
    if (options->stack && !(trace->stacks = stacks_new(options->python)))
        return complain("out of memory");
    if (fin_kernel_new(&trace->kernel) < 0)
        trace->kernel = NULL;
    if (fin__witness_open(&trace->witness) < 0)
        trace_note(trace, "no witness can be had: that a socket is unreferenced is counted only");
    return 0;
}

static void tear_down(struct trace *trace)
{
    while (trace->note_count > 0)
        free(trace->notes[--trace->note_count]);
    sink_discard(trace->sink);
    tasks_close(&trace->tasks);
    book_close(&trace->book);
    free(trace->early.at);
    trace->stacks = stacks_free(trace->stacks);
    trace->kernel = fin_kernel_free(trace->kernel);
    fin__witness_close(&trace->witness);
}

/* ---- the end ---- */

static int conclude(struct trace *trace)
{
    int status;

    if (!trace->began)
        return EXIT_TROUBLE; /* the command could not be run, and said so */
    after_wait(trace, trace->detached ? 0 : FINISH_MS);
    trace->end_ns = trace_now(trace);
    receipts_find_holders(&trace->book);
    status = sink_finish(trace->sink, trace);
    if (!status && ghosts_of_all(trace) > 0)
        status = EXIT_FOUND;
    return status;
}

/* The command's output may be a pipe that somebody reads to its end. */
static void leave_terminal(void)
{
    int null = open("/dev/null", O_RDWR | O_CLOEXEC), fd;

    for (fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++)
        dup2(null, fd);
    close(null);
    setsid();
    if (chdir("/") < 0)
        return;
}

static void report_status(int result, int status)
{
    unsigned char byte = (unsigned char) status;

    if (write(result, &byte, 1) != 1)
        return; /* the front is dead */
    close(result);
}

int trace_run(const struct trace_options *options, struct roster *roster, pid_t pid, int go,
              int result)
{
    struct sink sink = { .file = NULL };
    struct trace trace = { .options = options,
                           .sink = &sink,
                           .witness = FIN__WITNESS_INIT,
                           .began_ns = fin__now(),
                           .every_call = options->pid != 0,
                           .main = options->pid ? inspect_process(pid) : pid,
                           .ended = -1 };
    enum loop_end end;
    int status = set_up(&trace, roster);

    if (!status)
        status = take_over(&trace, go);
    close(go);
    if (!status) {
        wake_begin();
        end = loop_run(&trace);
        wake_in(0);
        trace.detached = end != LOOP_OVER;
        if (end == LOOP_DETACHED)
            leaks_look(&trace);
        attach_let_go(&trace);
        if (end != LOOP_ORPHANED)
            status = conclude(&trace);
    }
    report_status(result, status);
    tear_down(&trace);
    if (trace.detached && !options->pid) {
        leave_terminal();
        attach_keep();
    }
    return status;
}
