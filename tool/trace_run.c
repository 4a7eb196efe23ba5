/* SPDX-License-Identifier: MIT */

#include "trace_run.h"

#include "deadline.h"
#include "say.h"
#include "trace_after.h"
#include "trace_ghosts.h"
#include "trace_look.h"
#include "trace_loop.h"
#include "trace_stack.h"
#include "trace_wake.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* How long a connection may take to end once all else has. */
#define FINISH_MS 2050
#define NAME_NS 100000000ull

uint64_t trace_now(const struct trace *trace)
{
    return now_ns() - trace->began_ns;
}

/* ---- what is told ---- */

void trace_note(struct trace *trace, const char *format, ...)
{
    va_list args;
    char *note;
    size_t i;
    int n;

    va_start(args, format);
    n = vasprintf(&note, format, args);
    va_end(args);
    if (n < 0)
        return;
    for (i = 0; i < trace->note_count && strcmp(trace->notes[i], note) != 0; i++)
        ;
    if (i < trace->note_count || i == sizeof trace->notes / sizeof *trace->notes) {
        free(note);
        return;
    }
    trace->notes[trace->note_count++] = note;
    sink_note(&trace->sink, note);
}

/* Threads give themselves names; to ask at each event would cost as much as the rest of it. */
static void renew_name(struct task *task)
{
    uint64_t now = now_ns();

    if (now - task->named_ns < NAME_NS)
        return;
    task->named_ns = now;
    look_command(task->tid, task->command);
}

static struct place place_of(struct trace *trace, struct task *task, const char *call, int fd)
{
    struct place place = { .ns = trace_now(trace), .call = call, .fd = fd };

    if (!task)
        return place;
    if (!task->exiting)
        renew_name(task);
    place.pid = task->process->pid;
    place.tid = task->tid;
    memcpy(place.command, task->command, sizeof place.command);
    if (trace->stacks && !task->exiting)
        place.stack = stacks_take(trace->stacks, place.pid, place.tid);
    return place;
}

void trace_tell(struct trace *trace, struct task *task, struct event event, const char *call,
                int fd, struct place *keep)
{
    struct place place = place_of(trace, task, call, fd);

    event.place = &place;
    sink_event(&trace->sink, &event);
    if (!keep) {
        free(place.stack);
        return;
    }
    free(keep->stack);
    *keep = place;
}

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
    int result = attach ? loop_attach(trace, pid) : loop_seize(trace, pid);

    if (result < 0 && attach)
        return cannot_attach(pid, result);
    if (result < 0)
        return complain("ptrace(2) is of no use here: %s", strerror(-result));
    if (!trace->options->pid && write(go, "", 1) != 1)
        return EXIT_TROUBLE;
    return 0;
}

/* What is noted meanwhile goes to the sink. */
static int set_up(struct trace *trace, struct roster *roster)
{
    const struct trace_options *options = trace->options;

    if (sink_open(&trace->sink, options, trace->main))
        return EXIT_TROUBLE;
    if (book_open(&trace->book) < 0 || tasks_open(&trace->tasks, roster) < 0)
        return complain("out of memory");
    if (options->stack && !(trace->stacks = stacks_new()))
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
    sink_discard(&trace->sink);
    tasks_close(&trace->tasks);
    book_close(&trace->book);
    free(trace->early);
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
    status = sink_finish(&trace->sink, trace);
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
    struct trace trace = { .options = options,
                           .witness = FIN__WITNESS_INIT,
                           .began_ns = now_ns(),
                           .every_call = options->pid != 0,
                           .main = options->pid ? look_process(pid) : pid,
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
        loop_let_go(&trace);
        if (end != LOOP_ORPHANED)
            status = conclude(&trace);
    }
    report_status(result, status);
    tear_down(&trace);
    if (trace.detached && !options->pid) {
        leave_terminal();
        loop_keep();
    }
    return status;
}
