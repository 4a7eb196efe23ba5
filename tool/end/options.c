/* SPDX-License-Identifier: MIT */

#include "end/options.h"

#include "common/say.h"
#include "common/units.h"

#include <getopt.h>

enum option_id {
    OPT_VERSION = OPTION_BASE,
};

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

static const struct option end_long[] = {
    { "socket", required_argument, NULL, 's' },
    { "reset", no_argument, NULL, 'r' },
    { "yes", no_argument, NULL, 'y' },
    { "dry-run", no_argument, NULL, 'n' },
    { "help", no_argument, NULL, 'h' },
    { "version", no_argument, NULL, OPT_VERSION },
    { NULL, 0, NULL, 0 },
};

static const struct option heal_long[] = {
    { "yes", no_argument, NULL, 'y' },
    { "dry-run", no_argument, NULL, 'n' },
    { "help", no_argument, NULL, 'h' },
    { "version", no_argument, NULL, OPT_VERSION },
    { NULL, 0, NULL, 0 },
};

static enum parse_result take_socket(const char *text, uint64_t *socket)
{
    if (parse_number(text, 1, UINT64_MAX, socket) == 0)
        return PARSE_RUN;
    complain("--socket '%s' is no id of a socket, as finack ps shows it", text);
    return PARSE_WRONG;
}

static enum parse_result take_option(char **argv, int id, const char *help, struct end_options *o)
{
    switch (id) {
    case 's':
        return take_socket(optarg, &o->socket);
    case 'r':
        o->reset = true;
        return PARSE_RUN;
    case 'y':
        o->yes = true;
        return PARSE_RUN;
    case 'n':
        o->dry = true;
        return PARSE_RUN;
    case 'h':
        return put_help(help);
    case OPT_VERSION:
        return put_help(NULL);
    default:
        return option_not_understood(argv, id);
    }
}

static enum parse_result options_parse(int argc, char **argv, const char *letters,
                                       const struct option *options, const char *help,
                                       struct end_options *o)
{
    enum parse_result result = PARSE_RUN;
    int id;

    *o = (struct end_options) { .fd = -1 };
    opterr = 0;
    optind = 1;
    while (result == PARSE_RUN && (id = getopt_long(argc, argv, letters, options, NULL)) != -1)
        result = take_option(argv, id, help, o);
    if (result == PARSE_RUN)
        result = next_number(argc, argv, "process", 1, &o->pid);
    if (result == PARSE_RUN && options == end_long)
        result = next_number(argc, argv, "descriptor", 0, &o->fd);
    if (result == PARSE_RUN && optind < argc)
        return one_too_many(argv[optind]);
    return result;
}

enum parse_result end_options_parse(int argc, char **argv, struct end_options *o)
{
    enum parse_result result = options_parse(argc, argv, ":s:rynh", end_long, end_help, o);

    if (result != PARSE_RUN || o->socket || !o->yes || o->dry)
        return result;
    complain("--yes needs --socket: the descriptor may be another socket by now");
    return PARSE_WRONG;
}

enum parse_result heal_options_parse(int argc, char **argv, struct end_options *o)
{
    return options_parse(argc, argv, ":ynh", heal_long, heal_help, o);
}
