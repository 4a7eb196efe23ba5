/* SPDX-License-Identifier: MIT */

#include "trace_stack.h"

#include "say.h"

#include <elfutils/libdwfl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FRAMES_MAX 32

/* What is known of a process's memory: kept, since reading its symbols is slow. */
struct memory {
    pid_t pid;
    Dwfl *dwfl;
    struct memory *next;
};

struct stacks {
    struct memory *first;
};

static const Dwfl_Callbacks callbacks = {
    .find_elf = dwfl_linux_proc_find_elf,
    .find_debuginfo = dwfl_standard_find_debuginfo,
};

struct stacks *stacks_new(void)
{
    unsetenv("DEBUGINFOD_URLS"); /* or the network would be asked for symbols */
    return calloc(1, sizeof(struct stacks));
}

static void free_memory(struct memory *memory)
{
    dwfl_end(memory->dwfl);
    free(memory);
}

struct stacks *stacks_free(struct stacks *stacks)
{
    while (stacks && stacks->first) {
        struct memory *next = stacks->first->next;

        free_memory(stacks->first);
        stacks->first = next;
    }
    free(stacks);
    return NULL;
}

void stacks_forget(struct stacks *stacks, pid_t pid)
{
    struct memory **at, *found;

    if (!stacks)
        return;
    for (at = &stacks->first; *at && (*at)->pid != pid; at = &(*at)->next)
        ;
    found = *at;
    if (!found)
        return;
    *at = found->next;
    free_memory(found);
}

static bool read_modules(struct memory *memory)
{
    dwfl_report_begin(memory->dwfl);
    return dwfl_linux_proc_report(memory->dwfl, memory->pid) == 0
        && dwfl_report_end(memory->dwfl, NULL, NULL) == 0;
}

static struct memory *new_memory(pid_t pid)
{
    struct memory *memory = calloc(1, sizeof *memory);

    if (!memory)
        return NULL;
    memory->pid = pid;
    memory->dwfl = dwfl_begin(&callbacks);
    /* "Stopped": it is we who trace it, and the thread that is asked about is stopped. */
    if (memory->dwfl && read_modules(memory)
        && dwfl_linux_proc_attach(memory->dwfl, pid, true) == 0)
        return memory;
    free_memory(memory);
    return NULL;
}

static struct memory *memory_of(struct stacks *stacks, pid_t pid)
{
    struct memory *memory = stacks->first;

    while (memory && memory->pid != pid)
        memory = memory->next;
    if (memory)
        return memory;
    memory = new_memory(pid);
    if (memory) {
        memory->next = stacks->first;
        stacks->first = memory;
    }
    return memory;
}

/* ---- frames ---- */

struct walk {
    struct memory *memory;
    FILE *out;
    unsigned count;
    bool read_again;
};

/* A library may have been loaded since. */
static Dwfl_Module *module_at(struct walk *walk, Dwarf_Addr at)
{
    Dwfl_Module *module = dwfl_addrmodule(walk->memory->dwfl, at);

    if (module || walk->read_again)
        return module;
    walk->read_again = true;
    (void) read_modules(walk->memory);
    return dwfl_addrmodule(walk->memory->dwfl, at);
}

static void put_line(FILE *out, Dwfl_Module *module, Dwarf_Addr at)
{
    Dwfl_Line *line = dwfl_module_getsrc(module, at);
    char text[512];
    const char *file;
    int number = 0;

    file = line ? dwfl_lineinfo(line, NULL, &number, NULL, NULL, NULL) : NULL;
    if (!file)
        return;
    escape(file, text, sizeof text);
    fprintf(out, " %s:%d", text, number);
}

static void put_frame(struct walk *walk, Dwarf_Addr pc, Dwarf_Addr at)
{
    Dwfl_Module *module = module_at(walk, at);
    const char *name = module ? dwfl_module_addrname(module, at) : NULL;
    const char *file =
        module ? dwfl_module_info(module, NULL, NULL, NULL, NULL, NULL, NULL, NULL) : NULL;
    char text[512];

    fprintf(walk->out, "%s", walk->count ? "\n" : "");
    if (name) {
        escape(name, text, sizeof text);
        fputs(text, walk->out);
    } else {
        fprintf(walk->out, "0x%llx", (unsigned long long) pc);
    }
    if (file) {
        escape(file, text, sizeof text);
        fprintf(walk->out, " (%s)", text);
    }
    if (module)
        put_line(walk->out, module, at);
}

/* The address after a call may belong to the next line, or to the next function. */
static int visit(Dwfl_Frame *frame, void *arg)
{
    struct walk *walk = arg;
    bool activation;
    Dwarf_Addr pc;

    if (!dwfl_frame_pc(frame, &pc, &activation))
        return DWARF_CB_ABORT;
    put_frame(walk, pc, activation ? pc : pc - 1);
    return ++walk->count == FRAMES_MAX ? DWARF_CB_ABORT : DWARF_CB_OK;
}

char *stacks_take(struct stacks *stacks, pid_t pid, pid_t tid)
{
    struct walk walk = { .memory = memory_of(stacks, pid) };
    char *text = NULL;
    size_t size;

    if (!walk.memory)
        return NULL;
    walk.out = open_memstream(&text, &size);
    if (!walk.out)
        return NULL;
    (void) dwfl_getthread_frames(walk.memory->dwfl, tid, visit, &walk);
    fclose(walk.out);
    if (walk.count > 0)
        return text;
    free(text);
    return NULL;
}
