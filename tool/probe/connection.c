/* SPDX-License-Identifier: MIT */

#include "probe/connection.h"

#include "common/deadline.h"
#include "peers/dial.h"

#include <errno.h>
#include <openssl/err.h>
#include <sys/socket.h>

/* ---- TCP: what is unsent is a layer's ---- */

static int send_rest(struct connection *l)
{
    while (l->rest_size > 0) {
        ssize_t n = send(l->fd, l->rest, l->rest_size, MSG_NOSIGNAL | MSG_DONTWAIT);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -errno;
        l->rest += n;
        l->rest_size -= (size_t) n;
    }
    return 0;
}

static int rest_flush(void *arg, uint64_t *unsent)
{
    struct connection *l = arg;
    int r = send_rest(l);

    *unsent = l->rest_size;
    if (r == -EAGAIN)
        return FIN_LAYER_WANT_WRITE;
    return r < 0 ? r : FIN_LAYER_DONE;
}

static int rest_notify(void *arg)
{
    (void) arg;
    return FIN_LAYER_NONE;
}

static int rest_read(void *arg, uint64_t max, uint64_t *n)
{
    struct connection *l = arg;
    char scratch[16384];
    size_t room = max < sizeof scratch ? (size_t) max : sizeof scratch;
    ssize_t got;

    do
        got = recv(l->fd, scratch, room, MSG_DONTWAIT);
    while (got < 0 && errno == EINTR);
    if (got < 0)
        return errno == EAGAIN ? FIN_LAYER_WANT_READ : -errno;
    if (got == 0)
        return FIN_LAYER_EOF;
    *n = (uint64_t) got;
    return FIN_LAYER_DONE;
}

/* ---- speaking ---- */

static int write_tls(struct connection *l, const struct request *r)
{
    size_t n;
    int error;

    ERR_clear_error();
    if (SSL_write_ex(l->ssl, r->data, r->size, &n) == 1)
        return 0;
    error = SSL_get_error(l->ssl, 0);
    if (error != SSL_ERROR_WANT_WRITE && error != SSL_ERROR_WANT_READ)
        return error == SSL_ERROR_SYSCALL ? -ECONNRESET : -EPROTO;
    l->unfinished = (struct fin_ssl_write) { .buf = r->data, .len = r->size };
    return 0;
}

static int write_tcp(struct connection *l, const struct request *r)
{
    int error;

    l->rest = r->data;
    l->rest_size = r->size;
    error = send_rest(l);
    return error == -EAGAIN ? 0 : error;
}

static void await_response(struct connection *l, uint64_t deadline)
{
    struct pollfd pfd = { .fd = l->fd, .events = POLLIN };
    char byte;
    int r = 0;

    if (!l->ssl) {
        poll_until(&pfd, 1, deadline);
        return;
    }
    /* Being readable is not enough: TLS has messages of its own. */
    while (r == 0) {
        ERR_clear_error();
        r = SSL_peek(l->ssl, &byte, 1);
        if (r <= 0)
            r = wait_for_tls(l->fd, SSL_get_error(l->ssl, r), deadline);
    }
}

int connection_speak(struct connection *l, const struct request *r, uint64_t deadline)
{
    int error;

    if (r->size == 0)
        return 0;
    error = l->ssl ? write_tls(l, r) : write_tcp(l, r);
    if (error == 0 && r->answered)
        await_response(l, deadline);
    return error;
}

int connection_close(struct connection *l, const struct fin_policy *policy,
                     struct fin_receipt *receipt)
{
    struct fin_layer layer = FIN_LAYER_INIT;

    if (l->ssl)
        return fin_close_ssl(NULL, l->ssl, l->unfinished.buf ? &l->unfinished : NULL, policy,
                             receipt);
    if (l->rest_size == 0)
        return fin_close(NULL, l->fd, policy, receipt);
    layer.arg = l;
    layer.flush = rest_flush;
    layer.notify = rest_notify;
    layer.read = rest_read;
    return fin_close_layered(NULL, l->fd, &layer, policy, receipt);
}
