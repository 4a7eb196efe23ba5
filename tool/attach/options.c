/* SPDX-License-Identifier: MIT */

#include "attach/options.h"

#include "common/say.h"
#include "common/units.h"

enum {
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

static int take_timeout(const struct option_rule *rule, const char *text, void *to)
{
    int32_t *ms = to;

    if (parse_time(text, ms) == 0 && *ms > 0)
        return 0;
    return complain("--%s '%s' is no time such as 5s", rule->name, text);
}

#define AT(member) offsetof(struct attach_options, member)

static const struct option_rule rules[] = {
    { "json", .at = AT(json) },
    { "timeout", 't', .at = AT(timeout_ms), .take = take_timeout },
    { .name = NULL },
};

enum parse_result attach_options_parse(int argc, char **argv, struct attach_options *o)
{
    enum parse_result result;

    *o = (struct attach_options) { .timeout_ms = TIMEOUT_MS };
    result = options_read(argc, argv, rules, help, false, o);
    if (result == PARSE_RUN)
        result = next_number(argc, argv, "process", 1, &o->pid);
    return result == PARSE_RUN ? no_more_arguments(argc, argv) : result;
}
