/* SPDX-License-Identifier: MIT */

#ifndef TOOL_SCREEN_H
#define TOOL_SCREEN_H

#include <stddef.h>

struct screen_size {
    size_t columns, lines; /* 0: stdout is no terminal, or does not tell */
};

struct screen_size screen_size(void);

#endif
