/* SPDX-License-Identifier: MIT */

/* What a receipt of a traced socket says besides its times. */

#ifndef TOOL_TRACE_RECEIPT_H
#define TOOL_TRACE_RECEIPT_H

#include "trace/book.h"

/* enum fin_end: how the stream ended for the peer, as known at the last close. */
int receipt_end(const struct thing *socket);

/* enum fin_answer: does anything refer to it? */
int receipt_held(const struct thing *socket);

/* Of the kernel's connection ("TIME_WAIT"), or NULL. */
const char *receipt_state(const struct thing *socket);

/* Searches /proc once for the holders of all sockets that are still held. */
void receipts_find_holders(struct book *book);

#endif
