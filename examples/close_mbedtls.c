/* SPDX-License-Identifier: MIT */

/* usage: close_mbedtls PORT CAFILE: a layer of one's own, over Mbed TLS. Asks a server that CAFILE
 * certifies as localhost for a page, and closes with close_notify. */

#include <arpa/inet.h>
#include <errno.h>
#include <finack.h>
#include <mbedtls/ctr_drbg.h>
#include <mbedtls/entropy.h>
#include <mbedtls/net_sockets.h>
#include <mbedtls/ssl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

struct session {
    int fd;
    int flags; /* of each send and recv; MSG_DONTWAIT from the close on */
    mbedtls_ssl_context ssl;
    mbedtls_ssl_config config;
    mbedtls_x509_crt trust;
    mbedtls_entropy_context entropy;
    mbedtls_ctr_drbg_context random;
};

static int send_bytes(void *arg, const unsigned char *bytes, size_t size)
{
    const struct session *s = arg;
    ssize_t n = send(s->fd, bytes, size, s->flags | MSG_NOSIGNAL);

    if (n >= 0)
        return (int) n;
    return errno == EAGAIN || errno == EINTR ? MBEDTLS_ERR_SSL_WANT_WRITE
                                             : MBEDTLS_ERR_NET_CONN_RESET;
}

static int recv_bytes(void *arg, unsigned char *bytes, size_t size)
{
    const struct session *s = arg;
    ssize_t n = recv(s->fd, bytes, size, s->flags);

    if (n >= 0)
        return (int) n;
    return errno == EAGAIN || errno == EINTR ? MBEDTLS_ERR_SSL_WANT_READ
                                             : MBEDTLS_ERR_NET_CONN_RESET;
}

/* ---- the layer ---- */

static int result_of(int result)
{
    switch (result) {
    case MBEDTLS_ERR_SSL_WANT_READ:
        return FIN_LAYER_WANT_READ;
    case MBEDTLS_ERR_SSL_WANT_WRITE:
        return FIN_LAYER_WANT_WRITE;
    case MBEDTLS_ERR_NET_CONN_RESET:
        return -ECONNRESET;
    default:
        return result < 0 ? FIN_LAYER_BROKEN : FIN_LAYER_DONE;
    }
}

/* This program writes until all is written, so that nothing is left here. */
static int flush(void *arg, uint64_t *unsent)
{
    (void) arg;
    *unsent = 0;
    return FIN_LAYER_DONE;
}

static int notify(void *arg)
{
    struct session *s = arg;

    return result_of(mbedtls_ssl_close_notify(&s->ssl));
}

static int read_and_discard(void *arg, uint64_t max, uint64_t *n)
{
    struct session *s = arg;
    unsigned char buffer[4096];
    int got = mbedtls_ssl_read(&s->ssl, buffer, max < sizeof buffer ? max : sizeof buffer);

    if (got == MBEDTLS_ERR_SSL_PEER_CLOSE_NOTIFY)
        return FIN_LAYER_ANSWERED;
    if (got == 0 || got == MBEDTLS_ERR_SSL_CONN_EOF)
        return FIN_LAYER_EOF;
    if (got < 0)
        return result_of(got);
    *n = (uint64_t) got;
    return FIN_LAYER_DONE;
}

/* ---- the program ---- */

static int dial(int port)
{
    struct sockaddr_in to = { 0 };
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    to.sin_family = AF_INET;
    to.sin_port = htons((uint16_t) port);
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (fd < 0 || connect(fd, (struct sockaddr *) &to, sizeof to) < 0) {
        perror("connect");
        exit(2);
    }
    return fd;
}

static int greet(struct session *s, const char *ca_file)
{
    mbedtls_ssl_init(&s->ssl);
    mbedtls_ssl_config_init(&s->config);
    mbedtls_x509_crt_init(&s->trust);
    mbedtls_entropy_init(&s->entropy);
    mbedtls_ctr_drbg_init(&s->random);
    if (mbedtls_x509_crt_parse_file(&s->trust, ca_file) != 0
        || mbedtls_ctr_drbg_seed(&s->random, mbedtls_entropy_func, &s->entropy, NULL, 0) != 0
        || mbedtls_ssl_config_defaults(&s->config, MBEDTLS_SSL_IS_CLIENT,
                                       MBEDTLS_SSL_TRANSPORT_STREAM, MBEDTLS_SSL_PRESET_DEFAULT)
            != 0)
        return -1;
    mbedtls_ssl_conf_ca_chain(&s->config, &s->trust, NULL);
    mbedtls_ssl_conf_rng(&s->config, mbedtls_ctr_drbg_random, &s->random);
    if (mbedtls_ssl_setup(&s->ssl, &s->config) != 0
        || mbedtls_ssl_set_hostname(&s->ssl, "localhost") != 0)
        return -1;
    mbedtls_ssl_set_bio(&s->ssl, s, send_bytes, recv_bytes, NULL);
    return mbedtls_ssl_handshake(&s->ssl);
}

static int close_tls(struct session *s)
{
    struct fin_policy policy = FIN_POLICY_INIT;
    struct fin_receipt receipt = FIN_RECEIPT_INIT;
    struct fin_layer layer = FIN_LAYER_INIT;
    char line[400];

    layer.arg = s;
    layer.flush = flush;
    layer.notify = notify;
    layer.read = read_and_discard;
    policy.courtesy = FIN_COURTESY_FULL;
    s->flags = MSG_DONTWAIT; /* the callbacks may not block */
    if (fin_close_layered(NULL, s->fd, &layer, &policy, &receipt) < 0)
        return 2;
    fin_receipt_format(&receipt, line, sizeof line);
    puts(line);
    return receipt.outcome != FIN_OUTCOME_GRACEFUL;
}

static void free_session(struct session *s)
{
    mbedtls_ssl_free(&s->ssl); /* frees memory only: the socket is closed already */
    mbedtls_ssl_config_free(&s->config);
    mbedtls_x509_crt_free(&s->trust);
    mbedtls_ctr_drbg_free(&s->random);
    mbedtls_entropy_free(&s->entropy);
}

int main(int argc, char **argv)
{
    static const char request[] = "GET / HTTP/1.0\r\n\r\n";
    struct session session = { 0 };
    int status;

    if (argc != 3) {
        fprintf(stderr, "usage: close_mbedtls PORT CAFILE\n");
        return 2;
    }
    session.fd = dial(atoi(argv[1]));
    if (greet(&session, argv[2]) != 0
        || mbedtls_ssl_write(&session.ssl, (const unsigned char *) request, strlen(request)) < 0)
        return 2;
    status = close_tls(&session);
    free_session(&session);
    return status;
}
