/* SPDX-License-Identifier: MIT */

/* TLS for both ends. The program's end is OpenSSL over the socket, as programs use it; the peer's
 * works on buffers, so that the peer sees what the socket itself says. */

#ifndef SESSION_H
#define SESSION_H

#include "scene.h"

#include <openssl/ssl.h>
#include <sys/types.h>

struct session {
    SSL *ssl;
    bool notified; /* the other side's close_notify was read */
    bool said;     /* our own went out */
};

/* A certificate and contexts for this process and those that it forks. */
void session_setup(void);

/* Handshakes over a blocking socket. */
SSL *session_connect(int fd, const struct scene *scene);
void session_accept(struct session *session, int fd, const struct scene *scene);

/* The peer's. `feed` takes what came from the socket; `read` gives plaintext or 0. */
void session_feed(struct session *session, const void *bytes, ssize_t size);
ssize_t session_read(struct session *session, void *buf, size_t size);
bool session_write(struct session *session, const void *bytes, size_t size);
void session_notify(struct session *session);
void session_update_key(struct session *session);

/* Sends what the peer's session has to send, as far as the socket takes it. 0 or an errno. */
int session_flush(struct session *session, int fd);

#endif
