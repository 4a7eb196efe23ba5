/* SPDX-License-Identifier: MIT */

/* libfinack-openssl: closing a TLS connection of OpenSSL 3 over a socket. */

#ifndef FINACK_OPENSSL_H
#define FINACK_OPENSSL_H

#include <finack.h>
#include <openssl/ssl.h>

#ifdef __cplusplus
extern "C" {
#endif

/* A write that the program began and did not finish: the arguments of the SSL_write() that gave
 * SSL_ERROR_WANT_WRITE or SSL_ERROR_WANT_READ. OpenSSL can complete the record from these alone. */
struct fin_ssl_write {
    const void *buf;
    size_t len;
};

/* Closes the connection under `ssl` and the socket that carries it, as fin_close() does, with TLS:
 * an unfinished write is completed, close_notify sent, and input drained through the session, so
 * that the receipt can say whether the peer's stream was truncated.
 *
 * `unfinished` is the write that was interrupted, or NULL if there is none. If there is one and it
 * is not passed, or can't be completed in time, the stream ends in RST, even if the session has
 * died since: the peer must not take a stream that ends in half a record for a whole one. Its
 * buffer stays the caller's and may have moved. In the receipt `unsent` counts its bytes that are
 * not in the kernel, by whole records, and all of them before its first record got there; a write
 * that was not passed is not counted.
 *
 * The SSL object stays the caller's, to be freed by SSL_free(), which does not close anything: its
 * BIO is replaced, SSL_OP_IGNORE_UNEXPECTED_EOF and quiet shutdown are cleared, and after success
 * reading and writing it fails. On failure all of these are as they were. No close_notify is sent
 * in the middle of a handshake or after a fatal TLS error (stage `notified` stays empty). A FIN
 * without close_notify is such an error too. After one the outcome is truncated. Under quiet
 * shutdown the program's SSL_shutdown() claims a close_notify that was not sent: that is ignored.
 * What the program set by SSL_set_shutdown() can't be told from the truth, and is believed. The
 * thread's error queue is left as it was. Nothing else may use `ssl` meanwhile. The handle's
 * thread.
 *
 * Errors: as fin_close(), and -EINVAL (ssl is NULL, unfinished without buf), -ENOTCONN (no socket
 * BIO, different descriptors for reading and writing, or a descriptor that is no connected stream),
 * -EOPNOTSUPP (kernel TLS is in use, QUIC, a filter BIO between session and socket, a BIO that
 * can't be kept from closing its descriptor), -ENOMEM. */
FIN_API int fin_close_ssl(struct fin_kernel *kernel, SSL *ssl,
                          const struct fin_ssl_write *unfinished, const struct fin_policy *policy,
                          struct fin_receipt *receipt);

/* fin_closer_submit() for a TLS connection, with the rules of fin_close_ssl(). `ssl` and what
 * `unfinished` points to must live until the completion, which may free them. */
FIN_API int fin_closer_submit_ssl(struct fin_closer *closer, SSL *ssl,
                                  const struct fin_ssl_write *unfinished,
                                  const struct fin_policy *policy, fin_closed_fn closed, void *arg,
                                  uint64_t *op);

#ifdef __cplusplus
}
#endif

#endif
