/* SPDX-License-Identifier: MIT */

#include "session.h"

#include "common.h"

#include <errno.h>
#include <openssl/err.h>
#include <openssl/x509.h>
#include <sys/socket.h>

static SSL_CTX *client, *server;

static X509 *make_certificate(EVP_PKEY *key)
{
    X509 *certificate = X509_new();

    (void) X509_gmtime_adj(X509_getm_notBefore(certificate), -3600);
    (void) X509_gmtime_adj(X509_getm_notAfter(certificate), 3600);
    must(X509_set_pubkey(certificate, key) == 1 && X509_sign(certificate, key, EVP_sha256()) > 0,
         "a certificate");
    return certificate;
}

void session_setup(void)
{
    EVP_PKEY *key = EVP_EC_gen("P-256");
    X509 *certificate = make_certificate(key);

    client = SSL_CTX_new(TLS_client_method());
    server = SSL_CTX_new(TLS_server_method());
    must(SSL_CTX_use_certificate(server, certificate) == 1
             && SSL_CTX_use_PrivateKey(server, key) == 1,
         "a certificate");
    X509_free(certificate);
    EVP_PKEY_free(key);
}

static SSL *over(SSL_CTX *context, int fd, const struct scene *scene)
{
    SSL *ssl = SSL_new(context);
    int version = scene->v[TLS_VERSION] ? TLS1_2_VERSION : TLS1_3_VERSION;

    must(ssl && SSL_set_min_proto_version(ssl, version) && SSL_set_max_proto_version(ssl, version)
             && SSL_set_fd(ssl, fd) == 1,
         "a session");
    return ssl;
}

SSL *session_connect(int fd, const struct scene *scene)
{
    SSL *ssl = over(client, fd, scene);

    must(SSL_connect(ssl) == 1, "a handshake");
    return ssl;
}

void session_accept(struct session *session, int fd, const struct scene *scene)
{
    session->ssl = over(server, fd, scene);
    must(SSL_accept(session->ssl) == 1, "a handshake");
    SSL_set_bio(session->ssl, BIO_new(BIO_s_mem()), BIO_new(BIO_s_mem()));
}

void session_feed(struct session *session, const void *bytes, ssize_t size)
{
    (void) BIO_write(SSL_get_rbio(session->ssl), bytes, (int) size);
}

ssize_t session_read(struct session *session, void *buf, size_t size)
{
    int n;

    ERR_clear_error();
    n = SSL_read(session->ssl, buf, (int) size);
    if (n <= 0 && SSL_get_error(session->ssl, n) == SSL_ERROR_ZERO_RETURN)
        session->notified = true;
    return n > 0 ? n : 0;
}

bool session_write(struct session *session, const void *bytes, size_t size)
{
    ERR_clear_error();
    return SSL_write(session->ssl, bytes, (int) size) == (int) size;
}

void session_notify(struct session *session)
{
    ERR_clear_error();
    if (!session->said)
        (void) SSL_shutdown(session->ssl);
    session->said = true;
}

void session_update_key(struct session *session)
{
    ERR_clear_error();
    (void) SSL_key_update(session->ssl, SSL_KEY_UPDATE_REQUESTED);
}

int session_flush(struct session *session, int fd)
{
    BIO *out = SSL_get_wbio(session->ssl);
    char buf[16384], *bytes;
    long size;

    while ((size = BIO_get_mem_data(out, &bytes)) > 0) {
        size_t part = (size_t) size < sizeof buf ? (size_t) size : sizeof buf;
        ssize_t n = send(fd, bytes, part, MSG_DONTWAIT | MSG_NOSIGNAL);

        if (n < 0)
            return errno;
        (void) BIO_read(out, buf, (int) n);
    }
    return 0;
}
