/* SPDX-License-Identifier: MIT */

#ifndef FIN_TLS_QUIC_H
#define FIN_TLS_QUIC_H

#include <openssl/opensslv.h>
#include <openssl/ssl.h>
#include <stdbool.h>

#if OPENSSL_VERSION_NUMBER >= 0x30200000L
static inline bool is_quic(SSL *ssl)
{
    return SSL_is_quic(ssl);
}
#else
static inline bool is_quic(SSL *ssl)
{
    (void) ssl;
    return false;
}
#endif

#endif
