/* SPDX-License-Identifier: MIT */

/* Which of the sockets are shown, and in which order. */

#ifndef TOOL_PS_ROWS_H
#define TOOL_PS_ROWS_H

#include "look.h"
#include "ps_options.h"

struct ps_rows {
    LIST(const struct socket *) rows;
    size_t count[FINDINGS]; /* of the rows, by verdict */
};

/* Returns 0 or -ENOMEM; ps_rows_free() then, in any case. */
int ps_rows_pick(const struct look *look, const struct ps_options *o, struct ps_rows *rows);
void ps_rows_free(struct ps_rows *rows);

#endif
