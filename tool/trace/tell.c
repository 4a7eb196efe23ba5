/* SPDX-License-Identifier: MIT */

#include "trace/tell.h"

#include "common/deadline.h"
#include "common/procfs.h"
#include "trace/call.h"
#include "trace/sink.h"
#include "trace/stack.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define NAME_NS 100000000ull

uint64_t trace_now(const struct trace *trace)
{
    return fin__now() - trace->began_ns;
}

void trace_stamp(const struct trace *trace, uint64_t *ns)
{
    if (*ns == NEVER)
        *ns = trace_now(trace);
}

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
    sink_note(trace->sink, note);
}

/* Threads give themselves names; to ask at each event would cost as much as the rest of it. */
static void renew_name(struct task *task)
{
    uint64_t now = fin__now();

    if (now - task->named_ns < NAME_NS)
        return;
    task->named_ns = now;
    process_command(task->tid, task->command);
}

static char *stack_of(struct trace *trace, const struct task *task)
{
    char *stack = stacks_take(trace->stacks, task->process->pid, task->tid);

    if (!stack && stacks_given_up(trace->stacks))
        trace_note(trace, "no more stacks: a file of process %d could not be read to its end",
                   (int) task->process->pid);
    return stack;
}

static struct place place_of(struct trace *trace, struct task *task, const char *call, int fd)
{
    struct place place = { .ns = trace_now(trace), .call = call, .fd = fd };

    if (!task)
        return place;
    if (!call)
        place.call = task->call ? task->call->name : "";
    if (!task->exiting)
        renew_name(task);
    place.pid = task->process->pid;
    place.tid = task->tid;
    memcpy(place.command, task->command, sizeof place.command);
    if (trace->stacks && !task->exiting)
        place.stack = stack_of(trace, task);
    return place;
}

void trace_tell(struct trace *trace, struct task *task, struct event event, int fd,
                struct place *keep)
{
    struct place place = place_of(trace, task, event.call, fd);

    event.place = &place;
    sink_event(trace->sink, &event);
    if (!keep) {
        free(place.stack);
        return;
    }
    free(keep->stack);
    *keep = place;
}
