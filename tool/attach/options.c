/* SPDX-License-Identifier: MIT */

#include "attach/options.h"

#include "common/say.h"
#include "common/units.h"

#include <getopt.h>

enum {
    OPT_JSON = OPTION_BASE,
    OPT_VERSION,
    TIMEOUT_MS = 5000
};

static const char help[] =
    "usage: finack attach [OPTIONS] PID\n"
    "\n"
    "Asks a running Python program, 3.14 or later, for the connections, servers and pipes of its\n"
    "loops and the tasks that use them, and adds what finack ps says of each socket. Nothing has\n"
    "to be installed there, and nothing stays.\n"
    "\n"
    "  --json              one JSON document\n"
    "  -t, --timeout TIME  how long to wait for the answer (5s)\n"
    "  -h, --help, --version\n"
    "\n"
    "Exit status: 0 all is fine, 1 a socket is not, 2 the program could not be asked.\n";

static const struct option options[] = {
    { "json", no_argument, NULL, OPT_JSON },
    { "timeout", required_argument, NULL, 't' },
    { "help", no_argument, NULL, 'h' },
    { "version", no_argument, NULL, OPT_VERSION },
    { NULL, 0, NULL, 0 },
};

static enum parse_result take_timeout(const char *text, int32_t *ret)
{
    if (parse_time(text, ret) == 0 && *ret > 0)
        return PARSE_RUN;
    complain("--timeout '%s' is no time such as 5s", text);
    return PARSE_WRONG;
}

static enum parse_result take_option(char **argv, int id, struct attach_options *o)
{
    switch (id) {
    case OPT_JSON:
        o->json = true;
        return PARSE_RUN;
    case 't':
        return take_timeout(optarg, &o->timeout_ms);
    case 'h':
        return put_help(help);
    case OPT_VERSION:
        return put_help(NULL);
    default:
        return option_not_understood(argv, id);
    }
}

enum parse_result attach_options_parse(int argc, char **argv, struct attach_options *o)
{
    enum parse_result result = PARSE_RUN;
    int id;

    *o = (struct attach_options) { .timeout_ms = TIMEOUT_MS };
    opterr = 0;
    optind = 1;
    while (result == PARSE_RUN && (id = getopt_long(argc, argv, ":ht:", options, NULL)) != -1)
        result = take_option(argv, id, o);
    if (result == PARSE_RUN)
        result = next_number(argc, argv, "process", 1, &o->pid);
    if (result == PARSE_RUN && optind < argc)
        return one_too_many(argv[optind]);
    return result;
}
