/* SPDX-License-Identifier: MIT */

/* What `finack export` was asked to do. */

#ifndef TOOL_EXPORT_OPTIONS_H
#define TOOL_EXPORT_OPTIONS_H

#include "common/arguments.h"
#include "ps/options.h"

struct export_options {
    char host[256], port[6];
    const char *netns; /* NULL: our own */
    struct ps_numbers ports;
    uint64_t commands; /* label values at most */
    bool containers;   /* are labels too */
};

int export_options_parse(int argc, char **argv, struct export_options *o);

#endif
