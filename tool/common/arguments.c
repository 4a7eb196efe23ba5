/* SPDX-License-Identifier: MIT */

#include "common/arguments.h"

#include "common/say.h"
#include "common/units.h"

#include <getopt.h>
#include <string.h>

/* getopt_long(3) keeps no text of its own for what it did not understand. */
int parse_status(enum parse_result parsed)
{
    return parsed == PARSE_WRONG ? EXIT_TROUBLE : EXIT_FINE;
}

enum parse_result option_not_understood(char **argv, int id)
{
    const char *text = argv[optind - 1];

    if (id == ':')
        complain("%s needs a value; see 'finack %s --help'", text, speaks_as());
    else if (optopt > 0 && strncmp(text, "--", 2) == 0 && strchr(text, '='))
        complain("%.*s takes no value; see 'finack %s --help'", (int) strcspn(text, "="), text,
                 speaks_as());
    else if (optopt > 0 && optopt < OPTION_BASE)
        complain("unknown option '-%c'; see 'finack %s --help'", optopt, speaks_as());
    else
        complain("unknown or ambiguous option '%s'; see 'finack %s --help'", text, speaks_as());
    return PARSE_WRONG;
}

enum parse_result next_number(int argc, char **argv, const char *what, uint64_t least, int32_t *ret)
{
    uint64_t number;

    if (optind >= argc) {
        complain("say which %s; see 'finack %s --help'", what, speaks_as());
        return PARSE_WRONG;
    }
    if (parse_number(argv[optind], least, INT32_MAX, &number) < 0) {
        complain("'%s' is not the number of a %s", argv[optind], what);
        return PARSE_WRONG;
    }
    optind++;
    *ret = (int32_t) number;
    return PARSE_RUN;
}

enum parse_result one_too_many(const char *argument)
{
    complain("'%s' is one too many; see 'finack %s --help'", argument, speaks_as());
    return PARSE_WRONG;
}

enum parse_result put_help(const char *text)
{
    return (text ? put_out(text, strlen(text)) : put_version()) ? PARSE_WRONG : PARSE_DONE;
}
