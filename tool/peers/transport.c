/* SPDX-License-Identifier: MIT */

#include "peers/transport.h"

#include <errno.h>
#include <openssl/err.h>
#include <sys/socket.h>
#include <unistd.h>

static int attach_memory(SSL *ssl)
{
    BIO *in = BIO_new(BIO_s_mem());
    BIO *out = BIO_new(BIO_s_mem());

    if (!in || !out) {
        BIO_free(in);
        BIO_free(out);
        return -ENOMEM;
    }
    SSL_set_bio(ssl, in, out);
    SSL_set_accept_state(ssl);
    return 0;
}

int transport_open(struct transport *w, int fd, SSL_CTX *ctx)
{
    *w = (struct transport) { .fd = fd };
    if (!ctx)
        return 0;
    w->ssl = SSL_new(ctx);
    if (w->ssl && attach_memory(w->ssl) == 0)
        return 0;
    SSL_free(w->ssl);
    return -ENOMEM;
}

void transport_close(struct transport *w)
{
    SSL_free(w->ssl);
    close(w->fd);
    w->ssl = NULL;
    w->fd = -1;
}

static void consume(BIO *out, size_t n)
{
    char scratch[4096];

    while (n > 0) {
        int some = BIO_read(out, scratch, n < sizeof scratch ? (int) n : (int) sizeof scratch);

        if (some <= 0)
            return;
        n -= (size_t) some;
    }
}

int transport_flush(struct transport *w)
{
    BIO *out = w->ssl ? SSL_get_wbio(w->ssl) : NULL;
    char *data;
    long left;

    while (out && (left = BIO_get_mem_data(out, &data)) > 0) {
        ssize_t n = send(w->fd, data, (size_t) left, MSG_NOSIGNAL);

        if (n < 0)
            return -errno;
        consume(out, (size_t) n);
    }
    return 0;
}

/* Counts what the records that are here carry. */
static void decrypt(struct transport *w)
{
    char scratch[16384];
    size_t n;
    int result;

    ERR_clear_error();
    while ((result = SSL_read_ex(w->ssl, scratch, sizeof scratch, &n)) == 1)
        w->bytes += n;
    switch (SSL_get_error(w->ssl, result)) {
    case SSL_ERROR_ZERO_RETURN:
        w->notified = true;
        break;
    case SSL_ERROR_WANT_READ:
        break;
    default:
        w->error = EPROTO;
    }
}

int transport_handshake(struct transport *w)
{
    int result, flushed;

    if (!w->ssl)
        return 1;
    ERR_clear_error();
    result = SSL_do_handshake(w->ssl);
    flushed = transport_flush(w);
    if (flushed < 0)
        return flushed;
    if (result == 1) {
        decrypt(w); /* what came along with the last message of the handshake */
        return 1;
    }
    return SSL_get_error(w->ssl, result) == SSL_ERROR_WANT_READ ? 0 : -EPROTO;
}

static void peers_transport_take(struct transport *w, const char *data, size_t n)
{
    if (!w->ssl) {
        w->bytes += n;
        return;
    }
    if (BIO_write(SSL_get_rbio(w->ssl), data, (int) n) != (int) n)
        w->error = ENOMEM;
    else if (SSL_is_init_finished(w->ssl))
        decrypt(w);
}

int transport_receive(struct transport *w)
{
    char data[16384];
    ssize_t n;

    if (transport_over(w))
        return -1;
    n = recv(w->fd, data, sizeof data, 0);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return 0;
    if (n < 0)
        w->error = errno;
    else if (n == 0)
        w->eof = true;
    else
        peers_transport_take(w, data, (size_t) n);
    return transport_over(w) ? -1 : 1;
}

int transport_send(struct transport *w, const void *data, size_t size)
{
    size_t written;
    int r = transport_flush(w);

    if (r < 0)
        return r;
    if (!w->ssl)
        return send(w->fd, data, size, MSG_NOSIGNAL) < 0 ? -errno : 0;
    ERR_clear_error();
    if (SSL_write_ex(w->ssl, data, size, &written) != 1)
        return -EPROTO;
    return transport_flush(w);
}

void transport_notify(struct transport *w)
{
    if (!w->ssl)
        return;
    ERR_clear_error();
    if (SSL_shutdown(w->ssl) >= 0)
        (void) transport_flush(w);
}
