/* SPDX-License-Identifier: MIT */

#include "sockets/holders.h"

#include "common/procfs.h"

#include <stdlib.h>
#include <string.h>

void holders_free(struct scan *scan)
{
    free(scan->processes.at);
    free(scan->references.at);
    free(scan->sets.at);
    free(scan->stales.at);
    *scan = (struct scan) { .hidden = false };
}

void process_look(struct process *process)
{
    enum {
        PARENT = 4,
        START_STACK = 28 /* fork(2) keeps it, execve(2) draws it anew */
    };
    char text[STAT_SIZE];
    const char *parent, *stack;

    if (process->looked)
        return;
    process->looked = true;
    parent = stat_field(process->pid, PARENT, text);
    stack = parent ? stat_find(text, START_STACK) : NULL;
    process->parent = parent ? (int32_t) strtol(parent, NULL, 10) : 0;
    process->start_stack = stack ? strtoull(stack, NULL, 10) : 0;
}

bool is_same_image(struct process *a, struct process *b)
{
    process_look(a);
    process_look(b);
    if (a->start_stack > 1 && b->start_stack > 1) /* 1: no permission to see it */
        return a->start_stack == b->start_stack;
    return strcmp(a->command, b->command) == 0;
}
