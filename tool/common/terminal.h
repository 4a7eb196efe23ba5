/* SPDX-License-Identifier: MIT */

/* What a terminal can show. */

#ifndef TOOL_TERMINAL_H
#define TOOL_TERMINAL_H

#include <stdbool.h>
#include <stddef.h>

/* A terminal that moves its cursor: not a file or pipe, and TERM is neither unset nor "dumb". */
bool terminal_moves(int fd);

/* One to draw on: it moves, the locale's characters are UTF-8, and NO_COLOR is not set. */
bool terminal_draws(int fd);

/* One to show colors on: it moves, and NO_COLOR is not set. */
bool terminal_colors(int fd);

struct screen_size {
    size_t columns, lines; /* 0: it is no terminal, or does not tell */
};

struct screen_size screen_size(int fd);

/* In columns, 80 if it does not say. */
int terminal_width(int fd);

#endif
