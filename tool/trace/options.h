/* SPDX-License-Identifier: MIT */

/* What `finack trace` was asked to do. */

#ifndef TOOL_TRACE_OPTIONS_H
#define TOOL_TRACE_OPTIONS_H

#include "common/arguments.h"

#include <stdbool.h>
#include <sys/types.h>

struct trace_options {
    const char *output; /* NULL: text to stderr, JSON to stdout */
    const char *html;   /* NULL: none */
    bool json, stack;
    bool python;    /* --stack=python */
    pid_t pid;      /* attach to it; 0: run the command */
    char **command; /* ends with NULL */
};

int trace_options_parse(int argc, char **argv, struct trace_options *o);

#endif
