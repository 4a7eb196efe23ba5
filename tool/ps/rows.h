/* SPDX-License-Identifier: MIT */

/* Which of the sockets are shown, and in which order. */

#ifndef TOOL_PS_ROWS_H
#define TOOL_PS_ROWS_H

#include "ps/options.h"
#include "sockets/snapshot.h"

/* How the rows differ from an earlier look. */
struct ps_changes {
    size_t came, changed, went;
};

struct ps_rows {
    LIST(const struct socket *) rows;
    size_t count[FINDINGS]; /* of the rows, by verdict */
    size_t ghosts;
    bool compared; /* with an earlier look: */
    struct ps_changes changes;
};

/* Returns 0 or -ENOMEM; ps_rows_free() then, in any case. */
int ps_rows_pick(const struct snapshot *snapshot, const struct ps_options *o, struct ps_rows *rows);
void ps_rows_free(struct ps_rows *rows);

#endif
