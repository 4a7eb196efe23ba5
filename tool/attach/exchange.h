/* SPDX-License-Identifier: MIT */

/* A folder that the process can see, with the script for it and the file for its answer. */

#ifndef TOOL_EXCHANGE_H
#define TOOL_EXCHANGE_H

#include "attach/interpreter.h"

struct exchange {
    int parent, folder, answer; /* descriptors, or -1 */
    char name[40];              /* of the folder */
    char script[SCRIPT_PATH];   /* as the process sees it */
};

/* Returns 0 or a negative errno; exchange_close() then, in any case: it removes all of it. */
int exchange_open(struct exchange *x, int32_t pid);
void exchange_close(struct exchange *x);

/* 1 if the answer is there, as a text to be freed; 0 if it is not, or not all; or a negative
 * errno. */
int exchange_read(const struct exchange *x, char **ret_text);

#endif
