/* SPDX-License-Identifier: MIT */

#include "end/options.h"

#include "common/say.h"
#include "common/units.h"

static const char end_help[] =
    "usage: finack end [OPTIONS] PID FD\n"
    "\n"
    "Ends the connection behind a descriptor of another process, which goes on. The descriptor stays\n"
    "open there until the program closes it.\n"
    "\n"
    "  -s, --socket ID   only if it is this socket: the id that finack ps shows\n"
    "  -r, --reset       by RST; without it by FIN, and waits for the peer, 5s at most\n"
    "  -y, --yes         do not ask\n"
    "  -n, --dry-run     say what would be ended, and do nothing\n"
    "  -h, --help, --version\n"
    "\n"
    "Exit status: 0 ended, 1 the peer did not answer, or you said no, 2 it could not be done.\n";

static const char heal_help[] =
    "usage: finack heal [OPTIONS] PID\n"
    "\n"
    "Removes stale entries from the epoll sets of a process: those of sockets whose descriptor was\n"
    "closed while another kept the socket. The program can't remove them itself.\n"
    "\n"
    "  -y, --yes         do not ask\n"
    "  -n, --dry-run     say which there are, and do nothing\n"
    "  -h, --help, --version\n"
    "\n"
    "Exit status: 0 none is left, 1 some are, 2 it could not be done.\n";

static int take_socket(const struct option_rule *rule, const char *text, void *to)
{
    if (parse_number(text, 1, UINT64_MAX, to) == 0)
        return 0;
    return complain("--%s '%s' is no id of a socket, as finack ps shows it", rule->name, text);
}

#define AT(member) offsetof(struct end_options, member)

/* Those of heal are the last. */
static const struct option_rule rules[] = {
    { "socket", 's', .at = AT(socket), .take = take_socket },
    { "reset", 'r', .at = AT(reset) },
    { "yes", 'y', .at = AT(yes) },
    { "dry-run", 'n', .at = AT(dry) },
    { .name = NULL },
};

int end_options_parse(int argc, char **argv, struct end_options *o)
{
    int result;

    *o = (struct end_options) { .socket = 0 };
    result = options_read(argc, argv, rules, end_help, false, o);
    if (result == PARSE_RUN)
        result = next_number(argc, argv, "process", 1, &o->pid);
    if (result == PARSE_RUN)
        result = next_number(argc, argv, "descriptor", 0, &o->fd);
    if (result == PARSE_RUN)
        result = no_more_arguments(argc, argv);
    if (result != PARSE_RUN || o->socket || !o->yes || o->dry)
        return result;
    return complain("--yes needs --socket: the descriptor may be another socket by now");
}

int heal_options_parse(int argc, char **argv, struct end_options *o)
{
    int result;

    *o = (struct end_options) { .fd = -1 };
    result = options_read(argc, argv, &rules[2], heal_help, false, o);
    if (result == PARSE_RUN)
        result = next_number(argc, argv, "process", 1, &o->pid);
    return result == PARSE_RUN ? no_more_arguments(argc, argv) : result;
}
