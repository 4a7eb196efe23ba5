/* SPDX-License-Identifier: MIT */

#ifndef TOOL_TRUST_H
#define TOOL_TRUST_H

#include "probe/options.h"

#include <openssl/ssl.h>

/* The client's context, as the options say. Returns 0, or EXIT_TROUBLE after one line on stderr. */
int trust_make(const struct probe_options *o, SSL_CTX **ret);

/* A connection in the making that asks for, and will verify, the server's name. NULL: no memory. */
SSL *trust_session(const struct probe_options *o, SSL_CTX *ctx);

/* Why a handshake failed with `error` (dial_tls()), with what to do about it. */
void trust_explain(SSL *ssl, int error, char *buf, size_t size);

#endif
