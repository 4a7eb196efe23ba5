/* SPDX-License-Identifier: MIT */

/* Calls to the TLS layer by itself, for the tests of it. */

#ifndef TLS_CALLS_H
#define TLS_CALLS_H

#include "tls/layer.h"

#include "tls_pair.h"

#include <stdint.h>

struct fin__ssl *layer_attach(SSL *ssl, const void *buf, size_t len, int fd);

/* What fin__ssl_attach() says to a session that it must refuse. */
int layer_refused(SSL *ssl);

int layer_flush(struct fin__ssl *tls, uint64_t *unsent);
uint64_t layer_unsent(struct fin__ssl *tls);
int layer_notify(struct fin__ssl *tls);
int layer_read(struct fin__ssl *tls, uint64_t max, uint64_t *n);

/* Flush and notify that have nothing in their way. */
void layer_farewell(struct fin__ssl *tls);

/* SSL_get_error() of the peer's next read. */
int layer_peer_error(struct pair *pair);

/* The peer can't read what we sent: a fatal alert comes, and the flag of close_notify with it. */
void layer_fatal_alert(struct pair *pair);

/* Ends a test: the layer leaves a session that can do no harm. */
void layer_finish(struct pair *pair, struct fin__ssl *tls);

/* TCP and Unix, TLS 1.2 and 1.3; no descriptor may be left. */
void layer_for_each_pair(void (*test)(enum pair_kind kind, int version));

#endif
