/* SPDX-License-Identifier: MIT */

#ifndef TOOL_ATTACH_ASK_H
#define TOOL_ATTACH_ASK_H

#include <stdint.h>

/* Has the Python of that process say what its loops have, as JSON, to be freed. Returns 0, or
 * EXIT_TROUBLE after one line on stderr; either way nothing is left in the process or in its
 * files. */
int python_ask(int32_t pid, int32_t timeout_ms, char **ret_text);

#endif
