/* SPDX-License-Identifier: MIT */

/* The values of --remote. */

#ifndef TOOL_PS_REMOTE_H
#define TOOL_PS_REMOTE_H

#include "sockets/socket.h"

/* What the other end's address must be: the first `bits` of it, and the port unless that is 0. */
struct ps_remote {
    int family; /* 0: any */
    uint8_t address[16];
    unsigned bits;
    uint16_t port;
};

/* "10.0.0.5", "10.0.0.0/8", "10.0.0.5:5432", "::1", "[::1]:5432", ":5432". Errors: -EINVAL. */
int remote_parse(const char *text, struct ps_remote *ret);

bool remote_fits(const struct ps_remote *remote, const struct socket *s);

#endif
