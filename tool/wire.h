/* SPDX-License-Identifier: MIT */

/* An embedded peer's end of a connection, TCP or TLS. TLS runs over memory, so that what the kernel
 * says (EOF, RST) and what TLS says (close_notify) are told apart exactly. */

#ifndef TOOL_WIRE_H
#define TOOL_WIRE_H

#include <openssl/ssl.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct wire {
    int fd;
    SSL *ssl;       /* NULL: TCP */
    uint64_t bytes; /* of the program's, without TLS framing */
    bool notified;  /* close_notify came */
    bool eof;       /* FIN was read */
    int error;      /* errno of the read that failed, or EPROTO for broken TLS */
};

/* Takes `fd` (non-blocking). Errors: -ENOMEM, and `fd` is still the caller's. */
int wire_open(struct wire *w, int fd, SSL_CTX *ctx);

/* Closes it. */
void wire_close(struct wire *w);

/* Goes on with the handshake: 1 done, 0 more input is needed. Errors: -EPROTO, those of send(2). */
int wire_handshake(struct wire *w);

/* Reads once: 1 something came, 0 nothing is there, -1 the stream is over (eof or error is set). */
int wire_receive(struct wire *w);

static inline bool wire_over(const struct wire *w)
{
    return w->eof || w->error;
}

/* Sends. Errors: -EAGAIN (TLS keeps what is left, wire_flush() goes on), those of send(2). */
int wire_send(struct wire *w, const void *data, size_t size);
int wire_flush(struct wire *w);

/* Sends close_notify; nothing for TCP. Errors: those of wire_send(). */
int wire_notify(struct wire *w);

#endif
