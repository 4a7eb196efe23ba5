/* SPDX-License-Identifier: MIT */

#ifndef TOOL_RESULT_H
#define TOOL_RESULT_H

#include "peers/peers.h"

#include <finack.h>
#include <stdbool.h>
#include <stddef.h>

enum verdict {
    VERDICT_NONE, /* nothing was expected */
    VERDICT_OK,
    VERDICT_UNEXPECTED,
};

/* One close. */
struct probe_result {
    const char *peer; /* printable; not owned */
    bool tls;
    bool closed; /* the receipt is filled */
    struct fin_receipt receipt;
    bool has_view; /* an embedded peer: */
    struct peer_view view;
    enum verdict verdict;
};

#endif
