/* SPDX-License-Identifier: MIT */

/* Reading the arguments, whichever the subcommand. */

#ifndef TOOL_ARGUMENTS_H
#define TOOL_ARGUMENTS_H

#include "common/say.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* What comes of it: PARSE_RUN, or the exit status. */
enum parse_result {
    PARSE_RUN = -1,
    PARSE_DONE = EXIT_FINE,     /* help or version was printed */
    PARSE_WRONG = EXIT_TROUBLE, /* one line was printed */
};

/* An option. */
struct option_rule {
    const char *name;
    char letter; /* 0: it has none */
    size_t at;   /* where its value goes: the offset in what the options are read into */
    /* Puts the value there. 0, or EXIT_TROUBLE after one line on stderr. NULL: it has no value, and
     * a bool becomes true. */
    int (*take)(const struct option_rule *rule, const char *text, void *to);
    uint32_t least, most;     /* numbers, or what the words stand for */
    const char *(*word)(int); /* the words */
    bool may_lack;            /* its value, with '=', or no text */
};

/* Reads the options; behind the last rule is one without a name. --help, with that text, and
 * --version are understood too. Arguments are from argv[optind] on; `before_arguments`: all that is
 * behind the first of them is an argument too. */
int options_read(int argc, char **argv, const struct option_rule *rules, const char *help,
                 bool before_arguments, void *to);

/* For option_rule.take. */
int option_file(const struct option_rule *rule, const char *text, void *to);   /* const char * */
int option_number(const struct option_rule *rule, const char *text, void *to); /* uint64_t */
int option_word(const struct option_rule *rule, const char *text, void *to);   /* int, or an enum */

/* Which of the words it is, however a person writes it: "time-wait", "TIME_WAIT". -1: none, and
 * that was told. */
int option_find_word(const struct option_rule *rule, const char *text);

/* The argument that comes next, the number of a `what`; without it, or if it is none, says so. */
int next_number(int argc, char **argv, const char *what, uint64_t least, int32_t *ret);

/* Says that no further argument is wanted, if there is one. */
int no_more_arguments(int argc, char **argv);

#endif
