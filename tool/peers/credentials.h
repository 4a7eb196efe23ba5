/* SPDX-License-Identifier: MIT */

/* A certificate for 127.0.0.1, [::1] and localhost, made at run time, and the two sides that use
 * it. No file is read or written. */

#ifndef TOOL_CREDENTIALS_H
#define TOOL_CREDENTIALS_H

#include <openssl/ssl.h>

struct credentials {
    SSL_CTX *server; /* shows the certificate */
    SSL_CTX *client; /* trusts it and nothing else */
};

/* Errors: -ENOMEM for whatever OpenSSL could not do. */
int credentials_make(struct credentials *c);

/* Fine with zeroed ones. */
void credentials_free(struct credentials *c);

#endif
