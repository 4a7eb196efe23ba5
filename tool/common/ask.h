/* SPDX-License-Identifier: MIT */

#ifndef TOOL_ASK_H
#define TOOL_ASK_H

#include <stdbool.h>

/* Asks on the terminal, and waits for a line: true for one that begins with y. False without a
 * terminal, after one line on stderr. */
bool ask(const char *question);

#endif
