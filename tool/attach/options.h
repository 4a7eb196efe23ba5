/* SPDX-License-Identifier: MIT */

#ifndef TOOL_ATTACH_OPTIONS_H
#define TOOL_ATTACH_OPTIONS_H

#include "common/arguments.h"

#include <stdbool.h>
#include <stdint.h>

struct attach_options {
    int32_t pid;
    int32_t timeout_ms;
    bool json;
};

enum parse_result attach_options_parse(int argc, char **argv, struct attach_options *o);

#endif
