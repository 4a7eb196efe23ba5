/* SPDX-License-Identifier: MIT */

#include "trace/options.h"

const char trace_help[] =
    "usage: finack trace [OPTIONS] [--] COMMAND [ARGS...]\n"
    "       finack trace [OPTIONS] -p PID\n"
    "\n"
    "Follows every socket of a command, its threads and its children, from where it is made to\n"
    "where its last reference is closed. At the end it prints a receipt for each socket, and the\n"
    "ghosts: what outlived the program's close. Reads and writes run at full speed.\n"
    "\n"
    "  -o, --output FILE   write to FILE, whole or not at all, not to stderr\n"
    "  --json              one JSON document, to stdout or FILE\n"
    "  --html FILE         also write a page that draws every close\n"
    "  --stack[=WHICH]     all (default) or python\n"
    "                      show the stack of each call: all frames, or only those of Python\n"
    "  -p, --pid PID       attach to a running process (each of its system calls gets slower)\n"
    "  -h, --help, --version\n"
    "\n"
    "Ctrl-C ends the trace: it waits up to 2 s for the command to end, then detaches, prints, and\n"
    "leaves the command running; a second Ctrl-C does that at once.\n"
    "\n"
    "Exit status: 0 no ghosts, 1 ghosts, 2 bad usage, the command could not be run or attached to,\n"
    "or the output could not be written. The command's own is printed.\n";
