/* SPDX-License-Identifier: MIT */

/* A connection to a real server: sending is begun here, and finack's close completes it. */

#ifndef TOOL_CONNECTION_H
#define TOOL_CONNECTION_H

#include "probe/request.h"

#include <finack.h>
#include <finack/openssl.h>

struct connection {
    int fd;
    SSL *ssl;                        /* NULL: TCP */
    struct fin_ssl_write unfinished; /* TLS: the write that the kernel did not take whole */
    const char *rest;                /* TCP: what the kernel did not take */
    size_t rest_size;
};

/* Sends what the kernel takes, and waits for the response if the request wants one; a server that
 * does not respond by the deadline is no error. Errors: -errno, -EPROTO. */
int connection_speak(struct connection *l, const struct request *r, uint64_t deadline);

/* As fin_close(); what is left to send is flushed. */
int connection_close(struct connection *l, const struct fin_policy *policy,
                     struct fin_receipt *receipt);

#endif
