/* SPDX-License-Identifier: MIT */

#include "ps/ending.h"

#include "common/say.h"
#include "sockets/ending.h"
#include "sockets/sharing.h"

#include <stdio.h>

static bool may_end(const struct socket *s)
{
    return s->references > 0 && s->cookie && s->inode
        && (s->verdict == FOUND_LEAKED || s->verdict == FOUND_HALF_CLOSED
            || s->verdict == FOUND_STALLED);
}

/* One of its descriptors is as good as another. */
static int end_one(const struct snapshot *snapshot, const struct socket *s)
{
    int32_t pid = socket_holder(snapshot, s, 0)->pid, fd = socket_reference(snapshot, s, 0)->fd;
    struct fin_receipt receipt = FIN_RECEIPT_INIT;
    char text[900], line[1400];
    struct ending e;
    int result = ending_open(&e, pid, fd, s->cookie);

    if (result < 0)
        return ending_complain(pid, fd, result);
    result = ending_finish(&e, false, &receipt);
    if (result < 0)
        return ending_complain(pid, fd, result);
    (void) fin_receipt_format(&receipt, text, sizeof text);
    result = snprintf(line, sizeof line, "%s: %s\n", e.text, text);
    if (put_out(line, (size_t) result))
        return EXIT_TROUBLE;
    return receipt.outcome == FIN_OUTCOME_GRACEFUL ? EXIT_FINE : EXIT_FOUND;
}

int ps_end(const struct snapshot *snapshot, const struct ps_rows *rows, const struct ps_options *o)
{
    size_t count = 0;
    char question[64];
    int status = EXIT_FINE;

    for (size_t i = 0; i < rows->rows.count; i++)
        count += may_end(rows->rows.at[i]);
    snprintf(question, sizeof question, "end %zu connection%s?", count, count == 1 ? "" : "s");
    if (count && !o->yes && !ask(question))
        return EXIT_FOUND;
    for (size_t i = 0; i < rows->rows.count; i++) {
        int one = may_end(rows->rows.at[i]) ? end_one(snapshot, rows->rows.at[i]) : EXIT_FINE;

        status = one > status ? one : status;
    }
    return status;
}
