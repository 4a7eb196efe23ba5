/* SPDX-License-Identifier: MIT */

/* usage: close_tls PORT CAFILE: the same over TLS, to a server that CAFILE certifies as
 * localhost. */

#include <arpa/inet.h>
#include <finack/openssl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>

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

static SSL *greet(int fd, const char *ca_file)
{
    SSL_CTX *ctx = SSL_CTX_new(TLS_client_method());
    SSL *ssl;

    if (!ctx || SSL_CTX_load_verify_locations(ctx, ca_file, NULL) != 1)
        exit(2);
    SSL_CTX_set_verify(ctx, SSL_VERIFY_PEER, NULL);
    ssl = SSL_new(ctx);
    SSL_CTX_free(ctx);
    if (!ssl || SSL_set1_host(ssl, "localhost") != 1 || SSL_set_fd(ssl, fd) != 1
        || SSL_connect(ssl) != 1)
        exit(2);
    return ssl;
}

static int close_tls(SSL *ssl)
{
    struct fin_policy policy = FIN_POLICY_INIT;
    struct fin_receipt receipt = FIN_RECEIPT_INIT;
    char line[400];
    int result;

    policy.courtesy = FIN_COURTESY_FULL; /* wait for the peer's close_notify too */
    result = fin_close_ssl(NULL, ssl, NULL, &policy, &receipt);
    if (result < 0)
        return result; /* nothing was closed */
    SSL_free(ssl);     /* frees memory only: the socket is closed already */
    fin_receipt_format(&receipt, line, sizeof line);
    puts(line);
    return receipt.outcome != FIN_OUTCOME_GRACEFUL;
}

int main(int argc, char **argv)
{
    static const char request[] = "GET / HTTP/1.0\r\n\r\n";
    SSL *ssl;

    if (argc != 3) {
        fprintf(stderr, "usage: close_tls PORT CAFILE\n");
        return 2;
    }
    ssl = greet(dial(atoi(argv[1])), argv[2]);
    if (SSL_write(ssl, request, sizeof request - 1) <= 0)
        return 2;
    return close_tls(ssl) ? 1 : 0;
}
