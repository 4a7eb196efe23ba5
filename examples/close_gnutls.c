/* SPDX-License-Identifier: MIT */

/* usage: close_gnutls PORT CAFILE: a layer of one's own, over GnuTLS. Asks a server that CAFILE
 * certifies as localhost for a page, and closes with close_notify. */

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <finack.h>
#include <gnutls/gnutls.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>

/* What GnuTLS says, in the words of a layer. The socket does not block while it is closed. */
static int result_of(gnutls_session_t session, ssize_t result)
{
    if (result >= 0)
        return FIN_LAYER_DONE;
    if (result == GNUTLS_E_AGAIN || result == GNUTLS_E_INTERRUPTED)
        return gnutls_record_get_direction(session) ? FIN_LAYER_WANT_WRITE : FIN_LAYER_WANT_READ;
    return result == GNUTLS_E_PUSH_ERROR || result == GNUTLS_E_PULL_ERROR ? -ECONNRESET
                                                                          : FIN_LAYER_BROKEN;
}

/* GnuTLS keeps a record that the socket did not take; writing nothing sends it. */
static int flush(void *arg, uint64_t *unsent)
{
    gnutls_session_t session = arg;
    int result = FIN_LAYER_DONE;

    *unsent = gnutls_record_check_corked(session);
    if (*unsent > 0)
        result = result_of(session, gnutls_record_uncork(session, 0));
    if (result == FIN_LAYER_DONE)
        *unsent = 0;
    return result;
}

static int notify(void *arg)
{
    return result_of(arg, gnutls_bye(arg, GNUTLS_SHUT_WR));
}

static int read_and_discard(void *arg, uint64_t max, uint64_t *n)
{
    char buffer[4096];
    ssize_t got = gnutls_record_recv(arg, buffer, max < sizeof buffer ? max : sizeof buffer);

    if (got == 0)
        return FIN_LAYER_ANSWERED;
    if (got == GNUTLS_E_PREMATURE_TERMINATION)
        return FIN_LAYER_EOF;
    if (got < 0)
        return result_of(arg, got);
    *n = (uint64_t) got;
    return FIN_LAYER_DONE;
}

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

static gnutls_session_t greet(int fd, const char *ca_file, gnutls_certificate_credentials_t trust)
{
    gnutls_session_t session;

    if (gnutls_init(&session, GNUTLS_CLIENT | GNUTLS_NO_SIGNAL) < 0
        || gnutls_certificate_set_x509_trust_file(trust, ca_file, GNUTLS_X509_FMT_PEM) < 1
        || gnutls_credentials_set(session, GNUTLS_CRD_CERTIFICATE, trust) < 0
        || gnutls_set_default_priority(session) < 0)
        exit(2);
    gnutls_session_set_verify_cert(session, "localhost", 0);
    gnutls_transport_set_int(session, fd);
    if (gnutls_handshake(session) < 0)
        exit(2);
    return session;
}

static int close_tls(gnutls_session_t session, int fd)
{
    struct fin_policy policy = FIN_POLICY_INIT;
    struct fin_receipt receipt = FIN_RECEIPT_INIT;
    struct fin_layer layer = FIN_LAYER_INIT;
    char line[400];

    layer.arg = session;
    layer.flush = flush;
    layer.notify = notify;
    layer.read = read_and_discard;
    policy.courtesy = FIN_COURTESY_FULL;
    if (fcntl(fd, F_SETFL, O_NONBLOCK) < 0) /* the callbacks may not block */
        return 2;
    if (fin_close_layered(NULL, fd, &layer, &policy, &receipt) < 0)
        return 2;
    fin_receipt_format(&receipt, line, sizeof line);
    puts(line);
    return receipt.outcome != FIN_OUTCOME_GRACEFUL;
}

int main(int argc, char **argv)
{
    static const char request[] = "GET / HTTP/1.0\r\n\r\n";
    gnutls_certificate_credentials_t trust;
    gnutls_session_t session;
    int fd, status;

    if (argc != 3) {
        fprintf(stderr, "usage: close_gnutls PORT CAFILE\n");
        return 2;
    }
    if (gnutls_certificate_allocate_credentials(&trust) < 0)
        return 2;
    fd = dial(atoi(argv[1]));
    session = greet(fd, argv[2], trust);
    if (gnutls_record_send(session, request, sizeof request - 1) < 0)
        return 2;
    status = close_tls(session, fd);
    gnutls_deinit(session); /* frees memory only: the socket is closed already */
    gnutls_certificate_free_credentials(trust);
    return status;
}
