/* SPDX-License-Identifier: MIT */

/* An embedded peer's end of a connection, TCP or TLS. TLS runs over memory, so that what the kernel
 * says (EOF, RST) and what TLS says (close_notify) are told apart exactly. */

#ifndef TOOL_TRANSPORT_H
#define TOOL_TRANSPORT_H

#include <openssl/ssl.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct transport {
    int fd;
    SSL *ssl;       /* NULL: TCP */
    uint64_t bytes; /* of the program's, without TLS framing */
    bool notified;  /* close_notify came */
    bool eof;       /* FIN was read */
    int error;      /* errno of the read that failed, or EPROTO for broken TLS */
};

/* Takes `fd` (non-blocking). Errors: -ENOMEM, and `fd` is still the caller's. */
int transport_open(struct transport *w, int fd, SSL_CTX *ctx);

/* Closes it. */
void transport_close(struct transport *w);

/* Goes on with the handshake: 1 done, 0 more input is needed. Errors: -EPROTO, those of send(2). */
int transport_handshake(struct transport *w);

/* Reads once: 1 something came, 0 nothing is there, -1 the stream is over (eof or error is set). */
int transport_receive(struct transport *w);

static inline bool transport_over(const struct transport *w)
{
    return w->eof || w->error;
}

/* Sends. Errors: -EAGAIN (TLS keeps what is left, transport_flush() goes on), those of send(2). */
int transport_send(struct transport *w, const void *data, size_t size);
int transport_flush(struct transport *w);

/* Sends close_notify, as far as that goes; nothing for TCP. */
void transport_notify(struct transport *w);

#endif
