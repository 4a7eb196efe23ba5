/* SPDX-License-Identifier: MIT */

/* Connecting in bounded time. Deadlines are those of deadline.h. */

#ifndef TOOL_DIAL_H
#define TOOL_DIAL_H

#include <openssl/ssl.h>
#include <stdint.h>
#include <sys/socket.h>

/* Connects to one address; *ret_fd is non-blocking and CLOEXEC.
 * Errors: -ETIMEDOUT, those of socket(2) and connect(2). */
int dial(const struct sockaddr *address, socklen_t size, uint64_t deadline, int *ret_fd);

/* Handshakes as a client over `fd`, which stays the caller's.
 * Errors: -ETIMEDOUT, -ECONNRESET, -EPROTO (the OpenSSL error queue and SSL_get_verify_result
 * tell). */
int dial_tls(SSL *ssl, int fd, uint64_t deadline);

/* Waits for what an SSL call asked for by `error` (SSL_get_error). 0, or as dial_tls(). */
int wait_for_tls(int fd, int error, uint64_t deadline);

/* Lets go of a connection that is of no use. */
void hang_up(int fd);

#endif
