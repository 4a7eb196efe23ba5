/* SPDX-License-Identifier: MIT */

/* The options of `finack end` and `finack heal`. */

#ifndef TOOL_END_OPTIONS_H
#define TOOL_END_OPTIONS_H

#include "common/arguments.h"

#include <stdbool.h>
#include <stdint.h>

struct end_options {
    bool reset, yes, dry;
    uint64_t socket; /* 0: not said */
    int32_t pid, fd; /* heal: no fd */
};

int end_options_parse(int argc, char **argv, struct end_options *o);
int heal_options_parse(int argc, char **argv, struct end_options *o);

#endif
