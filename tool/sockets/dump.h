/* SPDX-License-Identifier: MIT */

/* What sock_diag(7) lists of a network namespace. */

#ifndef TOOL_DUMP_H
#define TOOL_DUMP_H

#include "common/list.h"
#include "sockets/socket.h"

struct dump {
    LIST(struct socket) sockets;
    LIST(char) names; /* of Unix sockets, terminated; at 0 is none */
    uint32_t netns;   /* that of the sockets that are added */
    /* Bits 1u << enum protocol: what the kernel would not list. Kept from dump to dump. */
    unsigned refused;
};

/* Adds the sockets of the calling thread's network namespace. Errors: -ENOMEM, those of socket(2),
 * -EPROTO. */
int dump_sockets(struct dump *dump);

void dump_free(struct dump *dump);

#endif
