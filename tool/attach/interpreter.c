/* SPDX-License-Identifier: MIT */

/* _Py_DebugOffsets, at the start of _PyRuntime, begins with a word that no other data has: so it is
 * found without symbols, and where the file is not to be seen from here. */

#include "attach/interpreter.h"

#include "common/procfs.h"
#include "common/say.h"
#include "kernel/proc.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>

#ifndef SYS_epoll_wait
#define SYS_epoll_wait (-1)
#endif

enum {
    MAJOR = 3,
    FIRST_MINOR = 14,
    LAST_MINOR = 15,
    OFFSET_MOST = 1 << 20,
    INTERPRETERS_MAX = 64,
    THREADS_MAX = 4096,
    PIECE = 1 << 16,
    LOOKS = 5 /* at a list that changes meanwhile */
};

/* Which word of _Py_DebugOffsets has what. */
enum {
    WORD_COOKIE,
    WORD_VERSION,
    WORD_FREE_THREADED,
    WORD_INTERPRETERS = 5,
    WORD_NEXT_INTERPRETER = 8,
    WORD_THREADS,
    WORD_MAIN_THREAD,
    WORD_NEXT_THREAD = 24,
};

/* ... and where it differs: pending and path count from `support`. */
static const struct layout {
    unsigned native_id, breaker, support, enabled, pending, path;
} layouts[] = {
    { 28, 89, 90, 91, 92, 93 },
    { 31, 105, 106, 107, 108, 109 },
};

enum {
    WORDS = 110
};

/* ---- finding it ---- */

struct search {
    struct interpreter *in;
    uint64_t words[WORDS];
    bool is_python; /* something is loaded that is called so */
    bool refused;
};

/* Is it what it looks like? The program may have the cookie for a search of its own. */
static bool is_runtime(struct search *s, uint64_t at)
{
    return memory_read(s->in->pid, at, s->words, sizeof s->words)
        && s->words[WORD_VERSION] >> 24 == MAJOR && s->words[WORD_INTERPRETERS] < OFFSET_MOST;
}

static bool search_piece(struct search *s, uint64_t from, size_t size)
{
    static uint64_t piece[PIECE / sizeof(uint64_t)];
    uint64_t cookie;

    memcpy(&cookie, "xdebugpy", sizeof cookie);
    if (!memory_read(s->in->pid, from, piece, size)) {
        s->refused |= errno == EPERM;
        return false;
    }
    for (size_t i = 0; i < size / sizeof *piece; i++)
        if (piece[i] == cookie && is_runtime(s, from + i * sizeof *piece)) {
            s->in->runtime = from + i * sizeof *piece;
            return true;
        }
    return false;
}

/* A line of /proc/PID/maps: only what a file's data segment became can have it. */
static bool search_line(struct search *s, const char *line)
{
    unsigned long long start, end;
    char rights[5];
    int name = 0;

    if (sscanf(line, "%llx-%llx %4s %*s %*s %*s %n", &start, &end, rights, &name) < 3
        || !name // NOLINT
        || line[name] != '/')
        return false;
    s->is_python |= strstr(line + name, "python") != NULL;
    s->in->has_uvloop |= strstr(line + name, "/uvloop/") != NULL;
    if (s->in->runtime || strncmp(rights, "rw", 2) != 0)
        return false;
    for (; start < end; start += PIECE)
        if (search_piece(s, start, end - start < PIECE ? end - start : PIECE))
            return true;
    return false;
}

static int search_all(struct search *s)
{
    char path[32], *line = NULL;
    size_t size = 0;
    FILE *maps;

    snprintf(path, sizeof path, "/proc/%d/maps", s->in->pid);
    maps = fopen(path, "re");
    if (!maps)
        return -errno;
    errno = 0;
    while (getline(&line, &size, maps) > 0)
        search_line(s, line);
    if (ferror(maps))
        s->refused = true;
    free(line);
    (void) fclose(maps);
    return 0;
}

/* ---- can it be asked? ---- */

static int no_permission(int32_t pid)
{
    return complain("no permission to ask process %d: that needs the same user, and with Yama "
                    "kernel.yama.ptrace_scope=0; or root",
                    pid);
}

static int check_version(const struct search *s)
{
    static const char instead[] = "; let it call finack.report_on(signal.SIGUSR1) instead";
    unsigned minor = s->in->runtime ? (unsigned) (s->words[WORD_VERSION] >> 16 & 0xff) : 0;
    int32_t pid = s->in->pid;

    if (minor == 0 && !s->is_python)
        return complain("process %d runs no Python", pid);
    if (minor < FIRST_MINOR)
        return complain("the Python of process %d is older than 3.14, and can't be asked%s", pid,
                        instead);
    if (minor > LAST_MINOR)
        return complain("the Python of process %d is 3.%u, which this finack does not know%s", pid,
                        minor, instead);
    if (s->words[WORD_FREE_THREADED])
        return complain("the Python of process %d has no GIL, which is not supported yet%s", pid,
                        instead);
    s->in->minor = minor;
    return 0;
}

/* The main interpreter is the first that was made, and so the last of the list. */
static uint64_t main_interpreter(const struct search *s)
{
    uint64_t state = memory_word(s->in->pid, s->in->runtime + s->words[WORD_INTERPRETERS]),
             next = state;

    for (int i = 0; i < INTERPRETERS_MAX && next; i++) {
        state = next;
        next = memory_word(s->in->pid, state + s->words[WORD_NEXT_INTERPRETER]);
    }
    return state;
}

static int locate(struct search *s)
{
    const struct layout *l = &layouts[s->in->minor - FIRST_MINOR];
    uint64_t support = s->words[l->support];
    int32_t enabled = 0;

    s->in->breaker = s->words[l->breaker];
    s->in->pending = support + s->words[l->pending];
    s->in->path = support + s->words[l->path];
    s->in->state = main_interpreter(s);
    if (!s->in->state
        || !memory_read(s->in->pid, s->in->state + s->words[l->enabled], &enabled, sizeof enabled))
        return complain("the Python of process %d is starting or ending", s->in->pid);
    if (enabled != 1)
        return complain("the Python of process %d forbids it (PYTHON_DISABLE_REMOTE_DEBUG, "
                        "-X disable-remote-debug, or built so)",
                        s->in->pid);
    return 0;
}

int interpreter_find(struct interpreter *in, int32_t pid)
{
    struct search search = { .in = in };
    int result;

    *in = (struct interpreter) { .pid = pid };
    result = search_all(&search);
    if (result == -ENOENT || result == -ESRCH)
        return complain("there is no process %d", pid);
    if (result == -EACCES || result == -EPERM || (search.refused && !in->runtime))
        return no_permission(pid);
    if (result < 0)
        return complain("cannot look at process %d: %s", pid, strerror(-result));
    result = check_version(&search);
    return result ? result : locate(&search);
}

/* ---- threads ---- */

/* The kernel's number of a thread in its own pid namespace, which is what Python knows. */
static int32_t number_inside(int32_t pid, int32_t tid)
{
    char text[4096];
    int n = read_proc(text, sizeof text, "/proc/%d/task/%d/status", pid, tid);
    const char *line = n > 0 ? strstr(text, "\nNSpid:") : NULL, *end;

    if (!line)
        return tid;
    end = strchr(line + 1, '\n');
    while (end && end > line && end[-1] != '\t')
        end--;
    return end ? (int32_t) strtol(end, NULL, 10) : tid;
}

static enum python_doing look(int32_t pid, int32_t tid)
{
    char text[256];
    long number;

    if (tid == 0 || read_proc(text, sizeof text, "/proc/%d/task/%d/syscall", pid, tid) <= 0)
        return WAITS_OTHERWISE;
    if (strncmp(text, "running", 7) == 0)
        return COMPUTES;
    number = strtol(text, NULL, 10);
    return number == SYS_epoll_wait || number == SYS_epoll_pwait || number == SYS_epoll_pwait2
        ? WAITS_FOR_EVENTS
        : WAITS_OTHERWISE;
}

static void note_tid(python_threads *list, const uint64_t *native, int32_t inside, int32_t tid)
{
    for (size_t i = 0; i < list->count; i++)
        if (native[i] == (uint64_t) inside)
            list->at[i].tid = tid;
}

static void note_tids(int32_t pid, python_threads *list, const uint64_t *native)
{
    struct fin__folder tasks;
    char path[32];
    int32_t tid;

    snprintf(path, sizeof path, "/proc/%d/task", pid);
    if (fin__folder_open(&tasks, AT_FDCWD, path) < 0)
        return;
    while (fin__folder_next(&tasks, &tid) > 0)
        note_tid(list, native, number_inside(pid, tid), tid);
    fin__folder_close(&tasks);
}

static int compare(const void *one, const void *other)
{
    const struct python_thread *a = one, *b = other;

    return a->doing != b->doing ? (a->doing > b->doing) - (a->doing < b->doing)
                                : (a->tid > b->tid) - (a->tid < b->tid);
}

static void choose(int32_t pid, python_threads *list)
{
    for (size_t i = 0; i < list->count; i++)
        list->at[i].doing = look(pid, list->at[i].tid);
    if (list->at[0].doing == WAITS_OTHERWISE)
        list->at[0].doing = IS_MAIN;
    qsort(list->at, list->count, sizeof *list->at, compare);
    while (list->at[list->count - 1].doing == WAITS_OTHERWISE)
        list->count--;
}

/* Each once, the main one first. */
static int list_threads(const struct interpreter *in, const uint64_t *words, python_threads *list)
{
    uint64_t main_thread = memory_word(in->pid, in->state + words[WORD_MAIN_THREAD]);
    uint64_t state = memory_word(in->pid, in->state + words[WORD_THREADS]);

    if (!main_thread)
        return -ESRCH;
    if (list_add(list, (struct python_thread) { main_thread, 0, IS_MAIN }) < 0)
        return -ENOMEM;
    for (int i = 0; i < THREADS_MAX && state; i++) {
        if (state != main_thread
            && list_add(list, (struct python_thread) { state, 0, IS_MAIN }) < 0)
            return -ENOMEM;
        state = memory_word(in->pid, state + words[WORD_NEXT_THREAD]);
    }
    return 0;
}

int interpreter_threads(const struct interpreter *in, python_threads *list)
{
    const struct layout *l = &layouts[in->minor - FIRST_MINOR];
    uint64_t words[WORDS], *native;
    int result;

    *list = (python_threads) { NULL, 0, 0 };
    if (!memory_read(in->pid, in->runtime, words, sizeof words))
        return -ESRCH;
    result = list_threads(in, words, list);
    if (result < 0)
        return result;
    native = calloc(list->count, sizeof *native);
    if (!native)
        return -ENOMEM;
    for (size_t i = 0; i < list->count; i++)
        native[i] = memory_word(in->pid, list->at[i].state + words[l->native_id]);
    note_tids(in->pid, list, native);
    free(native);
    choose(in->pid, list);
    return 0;
}

static bool is_listed(const struct interpreter *in, const uint64_t *words, uint64_t state)
{
    uint64_t at = memory_word(in->pid, in->state + words[WORD_THREADS]);

    for (int i = 0; i < THREADS_MAX && at && at != state; i++)
        at = memory_word(in->pid, at + words[WORD_NEXT_THREAD]);
    return at && at == state;
}

/* A list that was read while it changed may seem to end too early. */
bool interpreter_has(const struct interpreter *in, const struct python_thread *thread)
{
    uint64_t words[WORDS];
    bool found = false;

    if (!memory_read(in->pid, in->runtime, words, sizeof words))
        return false;
    for (int i = 0; i < LOOKS && !found; i++)
        found = is_listed(in, words, thread->state);
    return found;
}
