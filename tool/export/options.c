/* SPDX-License-Identifier: MIT */

#include "export/options.h"

#include "common/say.h"
#include "common/target.h"
#include "common/units.h"

#include <getopt.h>
#include <stdio.h>
#include <string.h>

enum {
    COMMANDS = 50,
    COMMANDS_MAX = 1000
};

enum option_id {
    OPT_LISTEN = OPTION_BASE,
    OPT_COMMANDS,
    OPT_CONTAINERS,
    OPT_PORT,
    OPT_NETNS,
    OPT_VERSION,
};

static const struct option long_options[] = {
    { "listen", required_argument, NULL, OPT_LISTEN },
    { "commands", required_argument, NULL, OPT_COMMANDS },
    { "containers", no_argument, NULL, OPT_CONTAINERS },
    { "port", required_argument, NULL, OPT_PORT },
    { "netns", required_argument, NULL, OPT_NETNS },
    { "help", no_argument, NULL, 'h' },
    { "version", no_argument, NULL, OPT_VERSION },
    { NULL, 0, NULL, 0 },
};

static int take_listen(const char *text, struct export_options *o)
{
    if (parse_target(text, o->host, sizeof o->host, o->port, sizeof o->port))
        return EXIT_TROUBLE;
    if (strcmp(o->host, "localhost") == 0)
        snprintf(o->host, sizeof o->host, "127.0.0.1");
    if (!is_address(o->host))
        return complain("--listen '%s' is no address; write it as 127.0.0.1:9799 or [::1]:9799",
                        text);
    return 0;
}

static int take_commands(const char *text, uint64_t *commands)
{
    if (parse_number(text, 1, COMMANDS_MAX, commands) < 0)
        return complain("--commands '%s' is not a number from 1 to %d", text, COMMANDS_MAX);
    return 0;
}

static int take_value(int id, const char *text, struct export_options *o)
{
    switch (id) {
    case OPT_LISTEN:
        return take_listen(text, o);
    case OPT_COMMANDS:
        return take_commands(text, &o->commands);
    case OPT_CONTAINERS:
        o->containers = true;
        return 0;
    case OPT_PORT:
        return ps_take_ports(text, &o->ports);
    default:
        return ps_take_netns(text, &o->netns);
    }
}

static enum parse_result take_option(char **argv, int id, struct export_options *o)
{
    if (id < OPTION_BASE && id != 'h')
        return option_not_understood(argv, id);
    if (id == 'h' || id == OPT_VERSION)
        return put_help(id == 'h' ? export_help : NULL);
    return take_value(id, optarg, o) ? PARSE_WRONG : PARSE_RUN;
}

enum parse_result export_options_parse(int argc, char **argv, struct export_options *o)
{
    enum parse_result result = PARSE_RUN;
    int id;

    *o = (struct export_options) { .host = "127.0.0.1", .port = "9799", .commands = COMMANDS };
    opterr = 0;
    optind = 1;
    while (result == PARSE_RUN && (id = getopt_long(argc, argv, ":h", long_options, NULL)) != -1)
        result = take_option(argv, id, o);
    if (result == PARSE_RUN && optind < argc)
        return one_too_many(argv[optind]);
    return result;
}
