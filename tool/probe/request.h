/* SPDX-License-Identifier: MIT */

#ifndef TOOL_REQUEST_H
#define TOOL_REQUEST_H

#include "probe/options.h"

#include <stdbool.h>
#include <stddef.h>

/* What is sent before the close. */
struct request {
    char *data; /* NULL: nothing */
    size_t size;
    bool answered; /* wait for the response to begin */
};

/* The longest file that --send takes. */
#define REQUEST_MAX (64u << 20)

/* Loads the file or composes the GET. Returns 0, or EXIT_TROUBLE after one line on stderr. */
int request_make(const struct probe_options *o, struct request *r);
void request_free(struct request *r);

#endif
