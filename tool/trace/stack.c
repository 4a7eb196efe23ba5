/* SPDX-License-Identifier: MIT */

#include "trace/stack.h"

#include "common/say.h"
#include "trace/debug_files.h"
#include "trace/lines.h"
#include "trace/perf_map.h"
#include "trace/python.h"

#include <elfutils/libdwfl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define FRAMES_MAX 32
#define PYTHON_MAX 32

/* What is known of a process's memory: kept, since reading its symbols is slow. */
struct memory {
    pid_t pid;
    Dwfl *dwfl;
    struct python python;
    struct perf_map map;
    struct memory *next;
};

struct stacks {
    struct memory *first;
    timer_t watch;
    bool python; /* nothing but Python's frames */
    bool given_up;
};

static const Dwfl_Callbacks callbacks = {
    .find_elf = debug_find_elf,
    .find_debuginfo = debug_find_info,
};

/* ---- a way out ---- */

/* A traced program may have files whose reading never ends, so that libdw waits for ever; the
 * program, and whoever started us, would wait with it. */
#define WAITED_NS 5000000000ull

static struct {
    volatile sig_atomic_t open;
    sigjmp_buf jump;
    uint64_t began_ns, busy_ns;
} way_out;

static uint64_t read_ns(clockid_t clock)
{
    struct timespec t;

    clock_gettime(clock, &t);
    return (uint64_t) t.tv_sec * 1000000000 + (uint64_t) t.tv_nsec;
}

/* Time that was worked counts not: who works holds locks of the heap's, and gets done. */
static void look_at_watch(int signal)
{
    (void) signal;
    if (way_out.open
        && read_ns(CLOCK_MONOTONIC) - way_out.began_ns
            > read_ns(CLOCK_THREAD_CPUTIME_ID) - way_out.busy_ns + WAITED_NS)
        siglongjmp(way_out.jump, 1);
}

static void set_watch(const struct stacks *stacks, bool on)
{
    const struct itimerspec often = { { .tv_sec = on }, { .tv_sec = on } };

    way_out.began_ns = read_ns(CLOCK_MONOTONIC);
    way_out.busy_ns = read_ns(CLOCK_THREAD_CPUTIME_ID);
    way_out.open = on;
    timer_settime(stacks->watch, 0, &often, NULL);
}

struct stacks *stacks_new(bool python)
{
    struct sigevent event = { .sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGVTALRM };
    struct stacks *stacks = calloc(1, sizeof *stacks);

    unsetenv("DEBUGINFOD_URLS"); /* or the network would be asked for symbols */
    if (!stacks)
        return NULL;
    stacks->python = python;
    signal(SIGVTALRM, look_at_watch);
    if (timer_create(CLOCK_MONOTONIC, &event, &stacks->watch) == 0)
        return stacks;
    free(stacks);
    return NULL;
}

static int forget_lines(Dwfl_Module *module, void **data, const char *name, Dwarf_Addr start,
                        void *arg)
{
    (void) data;
    (void) name;
    (void) start;
    (void) arg;
    lines_forget(module);
    return DWARF_CB_OK;
}

static void free_memory(struct memory *memory)
{
    perf_map_free(&memory->map);
    if (memory->dwfl)
        (void) dwfl_getmodules(memory->dwfl, forget_lines, NULL, 0);
    dwfl_end(memory->dwfl);
    free(memory);
}

struct stacks *stacks_free(struct stacks *stacks)
{
    if (stacks)
        timer_delete(stacks->watch);
    while (stacks && stacks->first && !stacks->given_up) {
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

    if (!stacks || stacks->given_up)
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
    memory->python.pid = pid;
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
    struct python_frame frames[PYTHON_MAX];
    size_t frame_count, frame_next;
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
    int number = 0;
    const char *file = lines_find(module, at, &number);
    char text[512];

    if (!file)
        return;
    escape(file, text, sizeof text);
    fprintf(out, " %s:%d", text, number);
}

static void put_name(FILE *out, const char *name)
{
    char text[512], *made;

    escape(lines_demangle(name, &made), text, sizeof text);
    fputs(text, out);
    free(made);
}

/* The frames of one call of the interpreter, or all that are left. */
static void put_python(struct walk *walk, bool all)
{
    bool entry = false;

    while (walk->frame_next < walk->frame_count && (all || !entry)) {
        const struct python_frame *frame = &walk->frames[walk->frame_next++];

        fprintf(walk->out, "%s%s", walk->count++ ? "\n" : "", frame->text);
        entry = frame->entry;
    }
}

static void put_frame(struct walk *walk, Dwarf_Addr pc, Dwarf_Addr at)
{
    Dwfl_Module *module = module_at(walk, at);
    const char *name = module ? dwfl_module_addrname(module, at) : NULL;
    const char *file =
        module ? dwfl_module_info(module, NULL, NULL, NULL, NULL, NULL, NULL, NULL) : NULL;
    char text[512], mapped[512];

    if (name && walk->frame_count && strncmp(name, "_PyEval_EvalFrameDefault", 24) == 0) {
        put_python(walk, false);
        return;
    }
    fprintf(walk->out, "%s", walk->count++ ? "\n" : "");
    if (name)
        put_name(walk->out, name);
    else if (perf_map_find(&walk->memory->map, walk->memory->pid, at, mapped, sizeof mapped))
        put_name(walk->out, mapped);
    else
        fprintf(walk->out, "0x%llx", (unsigned long long) pc);
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
    return walk->count >= FRAMES_MAX ? DWARF_CB_ABORT : DWARF_CB_OK;
}

static char *stack_take(struct stacks *stacks, pid_t pid, pid_t tid)
{
    struct walk walk = { .memory = memory_of(stacks, pid) };
    char *text = NULL;
    size_t size;

    if (!walk.memory)
        return NULL;
    walk.out = open_memstream(&text, &size);
    if (!walk.out)
        return NULL;
    walk.frame_count =
        python_frames(&walk.memory->python, walk.memory->dwfl, tid, walk.frames, PYTHON_MAX);
    if (!stacks->python)
        (void) dwfl_getthread_frames(walk.memory->dwfl, tid, visit, &walk);
    put_python(&walk, true); /* what the C stack did not lead to */
    fclose(walk.out);
    if (walk.count > 0)
        return text;
    free(text);
    return NULL;
}

bool stacks_given_up(const struct stacks *stacks)
{
    return stacks->given_up;
}

char *stacks_take(struct stacks *stacks, pid_t pid, pid_t tid)
{
    char *text;

    if (stacks->given_up)
        return NULL;
    if (sigsetjmp(way_out.jump, 1)) {
        set_watch(stacks, false);
        stacks->given_up = true;
        return NULL;
    }
    set_watch(stacks, true);
    text = stack_take(stacks, pid, tid);
    set_watch(stacks, false);
    return text;
}
