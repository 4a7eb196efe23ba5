/* SPDX-License-Identifier: MIT */

#include "trace/options.h"

const char trace_help[] =
    "usage: finack trace [OPTIONS] [--] COMMAND [ARGS...]\n"
    "       finack trace [OPTIONS] -p PID\n"
    "\n"
    "Follows every socket of a command, of its threads and of its children, from where it is made\n"
    "to where its last reference goes. At the end it prints a receipt for each socket, and the\n"
    "ghosts: what outlived the program's close. Reads and writes run at full speed.\n"
    "\n"
    "  -o, --output FILE   write to FILE, whole or not at all, not to stderr\n"
    "  --json              one JSON document, to stdout or FILE\n"
    "  --html FILE         also write a page that draws every close\n"
    "  --stack[=WHICH]     all (default) or python\n"
    "                      say where in the program each call was, by its stack; of CPython\n"
    "                      programs also or only the frames of Python\n"
    "  -p, --pid PID       attach to a process that runs (every system call of it gets slower)\n"
    "  -h, --help, --version\n"
    "\n"
    "Ctrl-C ends the trace: it waits up to 2 s for a command that ends too, then detaches, prints,\n"
    "and leaves the program running; a second Ctrl-C does that at once.\n"
    "\n"
    "Exit status: 0 no ghosts, 1 ghosts, 2 bad usage, the command could not be run or attached to,\n"
    "or the output could not be written. That of the command is printed.\n";
