/* SPDX-License-Identifier: MIT */

/* What reading the arguments has in common, whichever the subcommand. */

#ifndef TOOL_ARGUMENTS_H
#define TOOL_ARGUMENTS_H

#include <stdint.h>

enum {
    OPTION_BASE = 256 /* ids of options that have no letter begin here */
};

enum parse_result {
    PARSE_RUN,
    PARSE_DONE,  /* help or version was printed */
    PARSE_WRONG, /* one line was printed */
};

/* The exit status if it isn't PARSE_RUN. */
int parse_status(enum parse_result parsed);

/* Says what is wrong with the option at which getopt_long(3) has just stopped, answering `id`. */
enum parse_result option_not_understood(char **argv, int id);

/* The argument that comes next, the number of a `what`; without it, or if it is none, says so. */
enum parse_result next_number(int argc, char **argv, const char *what, uint64_t least,
                              int32_t *ret);

/* Says that no further argument is wanted. */
enum parse_result one_too_many(const char *argument);

/* Prints the text of --help, or the version if that is NULL. */
enum parse_result put_help(const char *text);

#endif
