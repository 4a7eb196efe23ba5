/* SPDX-License-Identifier: MIT */

#include "trace/python.h"

#include "base/line.h"
#include "common/procfs.h"
#include "common/say.h"

#include <limits.h>
#include <stdio.h>
#include <string.h>

/* ---- where the interpreter keeps what ---- */

enum {
    RUNTIME_INTERPRETERS,
    INTERPRETER_NEXT,
    INTERPRETER_THREADS,
    THREAD_NEXT,
    THREAD_FRAME,
    THREAD_ID,
    FRAME_PREVIOUS,
    FRAME_CODE,
    FRAME_INSTRUCTION,
    FRAME_OWNER,
    CODE_FILE,
    CODE_NAME,
    CODE_LINES,
    CODE_FIRST_LINE,
    CODE_BYTES,
    OBJECT_TYPE,
    BYTES_SIZE,
    BYTES_DATA,
    TEXT_STATE,
    TEXT_LENGTH,
    TEXT_DATA, /* of what is ASCII */
    OFFSETS
};
_Static_assert(OFFSETS <= 32, "room in struct python");

/* 3.11 and 3.12: as their headers have it; the thread's frame is behind its cframe. */
static const uint16_t known[2][OFFSETS] = {
    { 40, 0, 16, 8, 56, 160, 48, 32, 56, 69, 112, 128, 136, 72, 184, 8, 16, 32, 32, 16, 48 },
    { 40, 0, 72, 8, 56, 144, 8, 0, 56, 70, 112, 128, 136, 68, 192, 8, 16, 32, 32, 16, 40 },
};
static const uint16_t frame_in_cframe[2] = { 8, 0 };

/* From 3.13 on: at which word of _Py_DebugOffsets each stands. */
static const uint8_t told[3][OFFSETS] = {
    { 5, 8, 9, 21, 23, 25, 29, 30, 31, 33, 35, 37, 38, 39, 43, 45, 65, 66, 68, 69, 70 },
    { 5, 8, 9, 24, 26, 28, 32, 33, 34, 36, 40, 42, 43, 44, 48, 51, 75, 76, 78, 79, 80 },
    { 5, 8, 9, 24, 26, 31, 40, 41, 42, 44, 48, 50, 51, 52, 56, 59, 87, 88, 90, 91, 92 },
};

enum {
    FIRST_MINOR = 11,
    FIRST_TELLING = 13,
    LAST_MINOR = 15,
    WORDS = 93,
    OFFSET_MOST = 1 << 20,
    INTERPRETERS_MAX = 16,
    THREADS_MAX = 4096,
    WALKS_MAX = 4,
    FRAMES_MAX = 256,
    TEXT_MAX = 400,
    LINES_MAX = 65536,
    IS_ENTRY = 68,           /* 3.11: of a frame */
    OWNED_BY_INTERPRETER = 3 /* frame.owner: none of the program's, from 3.12 on */
};

/* ---- memory ---- */

static uint64_t member(const struct python *p, uint64_t object, int which)
{
    return object ? memory_word(p->pid, object + p->offset[which]) : 0;
}

/* ---- finding it ---- */

struct symbols {
    uint64_t runtime, code_type, unicode_type, version;
};

static int find_symbols(Dwfl_Module *module, void **data, const char *name, Dwarf_Addr start,
                        void *arg)
{
    struct symbols *found = arg;
    int count = strstr(name, "python") ? dwfl_module_getsymtab(module) : 0;

    (void) data;
    (void) start;
    for (int i = 0; i < count; i++) {
        GElf_Sym symbol;
        GElf_Addr address;
        const char *text = dwfl_module_getsym_info(module, i, &symbol, &address, NULL, NULL, NULL);

        if (!text || symbol.st_shndx == SHN_UNDEF)
            continue;
        if (strcmp(text, "_PyRuntime") == 0)
            found->runtime = address;
        else if (strcmp(text, "PyCode_Type") == 0)
            found->code_type = address;
        else if (strcmp(text, "PyUnicode_Type") == 0)
            found->unicode_type = address;
        else if (strcmp(text, "Py_Version") == 0)
            found->version = address;
    }
    return found->runtime ? DWARF_CB_ABORT : DWARF_CB_OK;
}

static bool take_told(struct python *p)
{
    static const char cookie[8] = "xdebugpy";
    uint64_t words[WORDS];
    size_t count = p->minor == 13 ? 73 : p->minor == 14 ? 93 : WORDS;

    if (!memory_read(p->pid, p->runtime, words, count * sizeof *words)
        || memcmp(words, cookie, sizeof cookie) != 0 || (words[1] >> 16) != (0x0300u | p->minor))
        return false;
    p->without_gil = words[2] != 0;
    for (int i = 0; i < OFFSETS; i++) {
        p->offset[i] = words[told[p->minor - FIRST_TELLING][i]];
        if (p->offset[i] > OFFSET_MOST)
            return false;
    }
    return true;
}

static bool take_offsets(struct python *p, uint32_t version)
{
    p->minor = version >> 16 & 0xff;
    if (version >> 24 != 3 || p->minor < FIRST_MINOR || p->minor > LAST_MINOR)
        return false;
    if (p->minor >= FIRST_TELLING)
        return take_told(p);
    for (int i = 0; i < OFFSETS; i++)
        p->offset[i] = known[p->minor - FIRST_MINOR][i];
    return true;
}

/* An interpreter that starts has its symbols long before its frames. */
static bool python_look(struct python *p, Dwfl *dwfl)
{
    struct symbols found = { 0 };
    uint32_t version = 0;

    if (p->looked)
        return p->runtime;
    p->looked = true;
    (void) dwfl_getmodules(dwfl, find_symbols, &found, 0);
    if (!found.runtime || !found.code_type || !found.unicode_type
        || !memory_read(p->pid, found.version, &version, sizeof version))
        return false;
    p->runtime = found.runtime;
    p->code_type = found.code_type;
    p->unicode_type = found.unicode_type;
    if (!take_offsets(p, version))
        p->runtime = 0;
    return p->runtime;
}

/* ---- a thread ---- */

static uint64_t walk_threads(const struct python *p, pid_t tid)
{
    uint64_t interpreter = memory_word(p->pid, p->runtime + p->offset[RUNTIME_INTERPRETERS]);

    for (int i = 0; interpreter && i < INTERPRETERS_MAX; i++) {
        uint64_t thread = member(p, interpreter, INTERPRETER_THREADS);

        for (int k = 0; thread && k < THREADS_MAX; k++) {
            if (member(p, thread, THREAD_ID) == (uint64_t) tid)
                return thread;
            thread = member(p, thread, THREAD_NEXT);
        }
        interpreter = member(p, interpreter, INTERPRETER_NEXT);
    }
    return 0;
}

/* The thread that is asked for is stopped, but others run: one that ends is freed while the walk is
 * at it, and what is behind it seems not to be there. */
static uint64_t find_thread(const struct python *p, pid_t tid)
{
    uint64_t found = 0;

    for (int i = 0; !found && i < WALKS_MAX; i++)
        found = walk_threads(p, tid);
    return found;
}

static uint64_t first_frame(const struct python *p, uint64_t thread)
{
    uint64_t frame = member(p, thread, THREAD_FRAME);

    return frame && p->minor < FIRST_TELLING
        ? memory_word(p->pid, frame + frame_in_cframe[p->minor - FIRST_MINOR])
        : frame;
}

/* ---- text ---- */

/* Compact ASCII, as names of files and functions mostly are; else a question mark. */
static bool read_text(const struct python *p, uint64_t object, char text[TEXT_MAX])
{
    uint64_t length = member(p, object, TEXT_LENGTH);
    uint32_t state;
    unsigned shift = p->without_gil && p->minor > FIRST_TELLING ? 8 : 2;

    if (member(p, object, OBJECT_TYPE) != p->unicode_type
        || !memory_read(p->pid, object + p->offset[TEXT_STATE], &state, sizeof state))
        return false;
    strcpy(text, "?");
    if ((state >> (shift + 3) & 3) != 3 || length >= TEXT_MAX)
        return true;
    if (!memory_read(p->pid, object + p->offset[TEXT_DATA], text, length))
        return false;
    text[length] = '\0';
    return true;
}

/* ---- lines: Objects/locations.md ---- */

struct lines {
    const uint8_t *at, *end;
};

static uint32_t read_varint(struct lines *l)
{
    uint32_t value = 0, shift = 0;
    uint8_t byte = 0x40;

    while (l->at < l->end && byte & 0x40 && shift < 30) {
        byte = *l->at++;
        value |= (uint32_t) (byte & 0x3f) << shift;
        shift += 6;
    }
    return value;
}

static int32_t read_signed(struct lines *l)
{
    uint32_t value = read_varint(l);

    return value & 1 ? -(int32_t) (value >> 1) : (int32_t) (value >> 1);
}

/* By how many lines an entry goes on; *none: it has no line. Leaves its columns out. */
static int32_t read_entry(struct lines *l, unsigned kind, bool *none)
{
    int32_t delta = 0;

    *none = kind == 15;
    if (kind == 14 || kind == 13)
        delta = read_signed(l);
    else if (kind >= 10 && kind <= 12)
        delta = (int32_t) kind - 10;
    if (kind == 14) {
        read_varint(l);
        read_varint(l);
        read_varint(l);
    } else if (kind >= 10 && kind <= 12) {
        l->at += 2;
    } else if (kind < 10) {
        l->at += 1;
    }
    return delta;
}

/* The line of the instruction at `offset` bytes; 0: none. */
static int32_t find_line(struct lines l, int32_t line, uint64_t offset)
{
    uint64_t end = 0;

    while (l.at < l.end) {
        uint8_t first = *l.at++;
        bool none;

        line += read_entry(&l, first >> 3 & 15, &none);
        end += 2 * ((first & 7u) + 1);
        if (l.at > l.end)
            return 0;
        if (offset < end)
            return none ? 0 : line;
    }
    return 0;
}

static int32_t line_of(const struct python *p, uint64_t code, uint64_t frame)
{
    static uint8_t table[LINES_MAX];
    uint64_t lines = member(p, code, CODE_LINES), size = member(p, lines, BYTES_SIZE);
    uint64_t instruction = member(p, frame, FRAME_INSTRUCTION);
    uint64_t start = code + p->offset[CODE_BYTES];
    int32_t first;

    if (p->without_gil || size == 0 || size > sizeof table || instruction < start
        || !memory_read(p->pid, lines + p->offset[BYTES_DATA], table, size)
        || !memory_read(p->pid, code + p->offset[CODE_FIRST_LINE], &first, sizeof first))
        return 0;
    return find_line((struct lines) { table, table + size }, first, instruction - start);
}

/* ---- frames ---- */

static bool put_frame(const struct python *p, uint64_t code, uint64_t frame,
                      struct python_frame *ret)
{
    struct fin__line text = { ret->text, sizeof ret->text, 0 };
    char name[TEXT_MAX], file[TEXT_MAX], escaped[TEXT_MAX];
    int32_t line;

    if (member(p, code, OBJECT_TYPE) != p->code_type
        || !read_text(p, member(p, code, CODE_NAME), name)
        || !read_text(p, member(p, code, CODE_FILE), file))
        return false;
    line = line_of(p, code, frame);
    escape(name, escaped, sizeof escaped);
    fin__put(&text, "%.100s (python) ", escaped);
    escape(file, escaped, sizeof escaped);
    fin__put(&text, "%.380s", escaped);
    if (line > 0)
        fin__put(&text, ":%d", line);
    return true;
}

/* From 3.12 on a frame of the interpreter's own stands below those of one call of it. */
static bool is_entry(const struct python *p, uint64_t frame, uint8_t below)
{
    uint8_t entry = 0;

    if (p->minor > FIRST_MINOR)
        return below >= OWNED_BY_INTERPRETER;
    return memory_read(p->pid, frame + IS_ENTRY, &entry, 1) && entry;
}

static uint8_t owner_of(const struct python *p, uint64_t frame)
{
    uint8_t owner = OWNED_BY_INTERPRETER;

    return frame && memory_read(p->pid, frame + p->offset[FRAME_OWNER], &owner, 1)
        ? owner
        : OWNED_BY_INTERPRETER;
}

size_t python_frames(struct python *p, Dwfl *dwfl, pid_t tid, struct python_frame *frames,
                     size_t max)
{
    uint64_t frame;
    size_t count = 0;

    if (!python_look(p, dwfl))
        return 0;
    frame = first_frame(p, find_thread(p, tid));
    for (int i = 0; frame && i < FRAMES_MAX && count < max; i++) {
        uint64_t previous = member(p, frame, FRAME_PREVIOUS);
        uint64_t code = member(p, frame, FRAME_CODE) & ~(uint64_t) 7; /* tags, from 3.14 on */

        if ((p->minor == FIRST_MINOR || owner_of(p, frame) < OWNED_BY_INTERPRETER)
            && put_frame(p, code, frame, &frames[count])) {
            frames[count].entry = is_entry(p, frame, owner_of(p, previous));
            count++;
        }
        frame = previous;
    }
    return count;
}
