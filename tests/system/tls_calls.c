/* SPDX-License-Identifier: MIT */

#include "tls_calls.h"

#include <errno.h>
#include <openssl/err.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
/* cmocka needs the standard headers before it */
#include <cmocka.h>

struct fin__ssl *layer_attach(SSL *ssl, const void *buf, size_t len, int fd)
{
    struct fin_ssl_write unfinished = { buf, len };
    struct fin__ssl *tls = NULL;
    int got = -1;

    assert_int_equal(fin__ssl_attach(ssl, buf ? &unfinished : NULL, &tls, &got), 0);
    assert_int_equal(got, fd);
    return tls;
}

int layer_refused(SSL *ssl)
{
    struct fin__ssl *tls = NULL;
    int fd = -7;
    int r = fin__ssl_attach(ssl, NULL, &tls, &fd);

    assert_null(tls);
    assert_int_equal(fd, -7);
    return r;
}

int layer_flush(struct fin__ssl *tls, uint64_t *unsent)
{
    const struct fin_layer *layer = fin__ssl_layer(tls);

    return layer->flush(layer->arg, unsent);
}

uint64_t layer_unsent(struct fin__ssl *tls)
{
    const struct fin_layer *layer = fin__ssl_layer(tls);

    return layer->unsent(layer->arg);
}

int layer_notify(struct fin__ssl *tls)
{
    const struct fin_layer *layer = fin__ssl_layer(tls);

    return layer->notify(layer->arg);
}

int layer_read(struct fin__ssl *tls, uint64_t max, uint64_t *n)
{
    const struct fin_layer *layer = fin__ssl_layer(tls);

    *n = 0;
    return layer->read(layer->arg, max, n);
}

void layer_farewell(struct fin__ssl *tls)
{
    uint64_t unsent = 1;

    assert_int_equal(layer_flush(tls, &unsent), FIN_LAYER_DONE);
    assert_int_equal(unsent, 0);
    assert_int_equal(layer_notify(tls), FIN_LAYER_DONE);
}

int layer_peer_error(struct pair *pair)
{
    char byte;
    int n;

    ERR_clear_error();
    n = SSL_read(pair->theirs, &byte, 1);
    return SSL_get_error(pair->theirs, n);
}

void layer_finish(struct pair *pair, struct fin__ssl *tls)
{
    char byte;

    fin__ssl_detach(tls, true);
    close(pair->fd);
    assert_true(SSL_read(pair->ours, &byte, 1) <= 0);
    assert_true(SSL_write(pair->ours, "x", 1) <= 0);
    pair_close(pair, true);
}

static const int versions[] = { TLS1_2_VERSION, TLS1_3_VERSION };
static const enum pair_kind kinds[] = { PAIR_TCP, PAIR_UNIX };

void layer_for_each_pair(void (*test)(enum pair_kind kind, int version))
{
    int before = descriptors_open();

    for (size_t i = 0; i < 4; i++)
        test(kinds[i % 2], versions[i / 2]);
    assert_int_equal(descriptors_open(), before);
}

void layer_fatal_alert(struct pair *pair)
{
    static const char garbage[] = "\x17\x03\x03\x00\x20"
                                  "0123456789012345678901234567890";

    assert_int_equal(send(pair->fd, garbage, sizeof garbage, MSG_NOSIGNAL), sizeof garbage);
    assert_int_equal(layer_peer_error(pair), SSL_ERROR_SSL);
}
