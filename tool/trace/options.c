/* SPDX-License-Identifier: MIT */

#include "trace/options.h"

#include "common/say.h"
#include "common/units.h"

#include <getopt.h>
#include <string.h>

static const char help[] =
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

static int take_pid(const struct option_rule *rule, const char *text, void *to)
{
    uint64_t pid;

    (void) rule;
    if (parse_number(text, 1, INT32_MAX, &pid) < 0)
        return complain("-p '%s' is no process id", text);
    *(pid_t *) to = (pid_t) pid;
    return 0;
}

static int take_stack(const struct option_rule *rule, const char *text, void *to)
{
    struct trace_options *o = to;

    o->stack = true;
    o->python = text && strcmp(text, "python") == 0;
    if (text && !o->python && strcmp(text, "all") != 0)
        return complain("--%s '%s' is not one of all, python", rule->name, text);
    return 0;
}

#define AT(member) offsetof(struct trace_options, member)

static const struct option_rule rules[] = {
    { "output", 'o', .at = AT(output), .take = option_file },
    { "pid", 'p', .at = AT(pid), .take = take_pid },
    { "json", .at = AT(json) },
    { "html", .at = AT(html), .take = option_file },
    { "stack", .take = take_stack, .may_lack = true },
    { .name = NULL },
};

static int take_target(int argc, char **argv, struct trace_options *o)
{
    if (o->pid && optind < argc)
        return complain("-p and a command exclude each other");
    if (!o->pid && optind == argc)
        return complain("say which command, or -p PID; see 'finack trace --help'");
    o->command = argv + optind;
    return PARSE_RUN;
}

/* The command's own options are its own. */
int trace_options_parse(int argc, char **argv, struct trace_options *o)
{
    int result;

    *o = (struct trace_options) { 0 };
    result = options_read(argc, argv, rules, help, true, o);
    if (result != PARSE_RUN)
        return result;
    if (o->output && o->html && strcmp(o->output, o->html) == 0)
        return complain("-o and --html name one file; give each its own");
    return take_target(argc, argv, o);
}
