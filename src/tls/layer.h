/* SPDX-License-Identifier: MIT */

/* A TLS session as the layer above a socket that is being closed, for every driver. */

#ifndef FIN_TLS_LAYER_H
#define FIN_TLS_LAYER_H

#include <finack/openssl.h>
#include <stdbool.h>

struct fin__ssl;

/* Puts a BIO of our own under `ssl` and clears the options that would fake an answer. The socket's
 * number goes to *fd; the session and the socket stay the caller's, and so does unfinished->buf,
 * which must live until fin__ssl_detach().
 *
 * Errors: -EINVAL, -ENOTCONN, -EOPNOTSUPP, -ENOMEM, as fin_close_ssl(). */
int fin__ssl_attach(SSL *ssl, const struct fin_ssl_write *unfinished, struct fin__ssl **ret,
                    int *fd);

/* The callbacks to close with; they live until fin__ssl_detach(). A long flush pauses with
 * FIN_LAYER_WANT_WRITE while the socket is writable still: wait for the level, not for an edge. */
const struct fin_layer *fin__ssl_layer(const struct fin__ssl *tls);

/* Frees `tls`. If the socket was `closed`, the session keeps a BIO without a descriptor, and so
 * is its former BIO; else the session is restored, which is right only as long as no callback
 * has run. NULL is fine. Returns NULL. */
struct fin__ssl *fin__ssl_detach(struct fin__ssl *tls, bool closed);

#endif
