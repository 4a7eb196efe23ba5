/* SPDX-License-Identifier: MIT */

/* CPython's own frames, read from the memory of a stopped thread; nothing runs in the process.
 * From 3.13 on the interpreter has a table of its offsets (_Py_DebugOffsets), for 3.11 and 3.12
 * they are in here. */

#ifndef TOOL_TRACE_PYTHON_H
#define TOOL_TRACE_PYTHON_H

#include <elfutils/libdwfl.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct python_frame {
    char text[512]; /* printable: "function (python) file:line" */
    bool entry;     /* the C code below it called the interpreter anew */
};

/* What is known of a process's interpreter. */
struct python {
    pid_t pid;
    bool looked;      /* for the symbols */
    uint64_t runtime; /* _PyRuntime, 0: there is none */
    uint64_t code_type, unicode_type;
    unsigned minor;
    bool without_gil;
    uint64_t offset[32];
};

/* Fills at most `max` frames, innermost first, and returns how many. A frame that fails a check
 * is left out. */
size_t python_frames(struct python *python, Dwfl *dwfl, pid_t tid, struct python_frame *frames,
                     size_t max);

#endif
