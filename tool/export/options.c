/* SPDX-License-Identifier: MIT */

#include "export/options.h"

#include "common/say.h"
#include "common/target.h"

#include <stdio.h>
#include <string.h>

enum {
    COMMANDS = 50,
    COMMANDS_MAX = 1000
};

static const char help[] =
    "usage: finack export [OPTIONS]\n"
    "\n"
    "Serves the verdicts of 'finack ps' as Prometheus metrics, at /metrics, until interrupted. Each\n"
    "scrape looks at the machine's sockets anew, at most twice a second.\n"
    "\n"
    "  --listen ADDRESS    where to serve (default 127.0.0.1:9799); there is no password: whoever\n"
    "                      reaches another address can read the metrics\n"
    "  --commands N        at most N commands get a label of their own (default 50), the\n"
    "                      others are '(other commands)'\n"
    "  --containers        label containers too, as far as cgroups show them: the id, and the\n"
    "                      name of the pod or host; --commands counts a command once in each\n"
    "  --port PORT,...     label sockets with these ports, of either end, too\n"
    "  --netns WHICH       another network namespace, as with 'finack ps'; or all\n"
    "  -h, --help, --version\n"
    "\n"
    "Metrics: finack_sockets by verdict, state and command; the oldest leak, queues, the exporter\n"
    "itself, and what could not be looked at. No label has an address, or a port not in --port.\n"
    "\n"
    "Exit status: 0 interrupted, 2 bad usage, or the address can't be listened on.\n";

static int take_listen(const struct option_rule *rule, const char *text, void *to)
{
    struct export_options *o = to;

    if (parse_target(text, o->host, sizeof o->host, o->port, sizeof o->port))
        return EXIT_TROUBLE;
    if (strcmp(o->host, "localhost") == 0)
        snprintf(o->host, sizeof o->host, "127.0.0.1");
    if (!is_address(o->host))
        return complain("--%s '%s' is no address; write it as 127.0.0.1:9799 or [::1]:9799",
                        rule->name, text);
    return 0;
}

#define AT(member) offsetof(struct export_options, member)

static const struct option_rule rules[] = {
    { "listen", .take = take_listen },
    { "commands", .at = AT(commands), .take = option_number, .least = 1, .most = COMMANDS_MAX },
    { "containers", .at = AT(containers) },
    { "port", .at = AT(ports), .take = ps_take_numbers, .least = 1, .most = UINT16_MAX },
    { "netns", .at = AT(netns), .take = ps_take_netns },
    { .name = NULL },
};

int export_options_parse(int argc, char **argv, struct export_options *o)
{
    int result;

    *o = (struct export_options) { .host = "127.0.0.1", .port = "9799", .commands = COMMANDS };
    result = options_read(argc, argv, rules, help, false, o);
    return result == PARSE_RUN ? no_more_arguments(argc, argv) : result;
}
