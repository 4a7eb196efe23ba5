/* SPDX-License-Identifier: MIT */

#include "trace/options.h"

#include "common/say.h"
#include "common/units.h"

#include <getopt.h>
#include <limits.h>
#include <string.h>

enum option_id {
    OPT_JSON = OPTION_BASE,
    OPT_HTML,
    OPT_STACK,
    OPT_VERSION,
};

static const struct option long_options[] = {
    { "output", required_argument, NULL, 'o' },      { "pid", required_argument, NULL, 'p' },
    { "json", no_argument, NULL, OPT_JSON },         { "html", required_argument, NULL, OPT_HTML },
    { "stack", optional_argument, NULL, OPT_STACK }, { "help", no_argument, NULL, 'h' },
    { "version", no_argument, NULL, OPT_VERSION },   { NULL, 0, NULL, 0 },
};

static int take_pid(const char *text, pid_t *ret)
{
    uint64_t pid;

    if (parse_number(text, 1, INT_MAX, &pid) < 0)
        return complain("-p '%s' is no process id", text);
    *ret = (pid_t) pid;
    return 0;
}

static int take_file(const char *option, const char *text, const char **ret)
{
    if (!*text)
        return complain("%s needs the name of a file", option);
    *ret = text;
    return 0;
}

static int take_stack(const char *text, struct trace_options *o)
{
    o->stack = true;
    o->python = text && strcmp(text, "python") == 0;
    if (text && !o->python && strcmp(text, "all") != 0)
        return complain("--stack '%s' is not one of all, python", text);
    return 0;
}

static int take_option(char **argv, int id, struct trace_options *o)
{
    switch (id) {
    case 'o':
        return take_file("-o", optarg, &o->output);
    case 'p':
        return take_pid(optarg, &o->pid);
    case OPT_JSON:
        o->json = true;
        return 0;
    case OPT_HTML:
        return take_file("--html", optarg, &o->html);
    case OPT_STACK:
        return take_stack(optarg, o);
    default:
        return option_not_understood(argv, id) != PARSE_RUN;
    }
}

static enum parse_result take_target(int argc, char **argv, struct trace_options *o)
{
    if (o->pid && optind < argc) {
        complain("-p and a command exclude each other");
        return PARSE_WRONG;
    }
    if (!o->pid && optind == argc) {
        complain("say which command, or -p PID; see 'finack trace --help'");
        return PARSE_WRONG;
    }
    o->command = argv + optind;
    return PARSE_RUN;
}

static bool is_one_file(const struct trace_options *o)
{
    return o->output && o->html && strcmp(o->output, o->html) == 0;
}

/* The command's own options are its own: '+' ends ours at the first word that is none. */
enum parse_result trace_options_parse(int argc, char **argv, struct trace_options *o)
{
    int id;

    *o = (struct trace_options) { 0 };
    opterr = 0;
    optind = 1;
    while ((id = getopt_long(argc, argv, "+:ho:p:", long_options, NULL)) != -1) {
        if (id == 'h' || id == OPT_VERSION)
            return put_help(id == 'h' ? trace_help : NULL);
        if (take_option(argv, id, o))
            return PARSE_WRONG;
    }
    if (is_one_file(o)) {
        complain("-o and --html name one file; give each its own");
        return PARSE_WRONG;
    }
    return take_target(argc, argv, o);
}
