/* SPDX-License-Identifier: MIT */

#ifndef TOOL_ATTACH_ASK_H
#define TOOL_ATTACH_ASK_H

#include <stdint.h>

/* Has the Python of that process report what its loops have open, as JSON; free(3) it. Returns
 * 0, or EXIT_TROUBLE after one line on stderr; either way nothing is left in the process or in
 * its files. */
int python_ask(int32_t pid, int32_t timeout_ms, char **ret_text);

#endif
