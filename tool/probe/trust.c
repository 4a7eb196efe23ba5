/* SPDX-License-Identifier: MIT */

#include "probe/trust.h"

#include "common/say.h"
#include "common/target.h"

#include <errno.h>
#include <openssl/err.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <string.h>

static int load_trust(SSL_CTX *ctx, const char *file)
{
    FILE *readable;

    if (!file)
        return SSL_CTX_set_default_verify_paths(ctx) == 1
            ? 0
            : complain("no system trust store; use --cafile FILE");
    readable = fopen(file, "re");
    if (!readable)
        return complain("cannot read --cafile '%s': %s", file, strerror(errno));
    fclose(readable);
    ERR_clear_error();
    if (SSL_CTX_load_verify_file(ctx, file) == 1)
        return 0;
    return complain("--cafile '%s' holds no certificate in PEM form", file);
}

int trust_make(const struct probe_options *o, SSL_CTX **ret)
{
    SSL_CTX *ctx = SSL_CTX_new(TLS_client_method());

    if (!ctx)
        return complain("out of memory");
    SSL_CTX_set_verify(ctx, o->insecure ? SSL_VERIFY_NONE : SSL_VERIFY_PEER, NULL);
    if (!o->insecure && load_trust(ctx, o->ca_file)) {
        SSL_CTX_free(ctx);
        return EXIT_TROUBLE;
    }
    *ret = ctx;
    return 0;
}

static int set_name(SSL *ssl, const char *name)
{
    if (is_address(name))
        return X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(ssl), name) == 1;
    return SSL_set_tlsext_host_name(ssl, name) == 1 && SSL_set1_host(ssl, name) == 1;
}

SSL *trust_session(const struct probe_options *o, SSL_CTX *ctx)
{
    SSL *ssl = SSL_new(ctx);

    if (ssl && set_name(ssl, o->sni ? o->sni : o->host))
        return ssl;
    SSL_free(ssl);
    return NULL;
}

void trust_explain(SSL *ssl, int error, char *buf, size_t size)
{
    long verdict = SSL_get_verify_result(ssl);
    const char *reason = ERR_reason_error_string(ERR_peek_error());

    if (error == -EPROTO && verdict != X509_V_OK && SSL_get_verify_mode(ssl) != SSL_VERIFY_NONE)
        snprintf(buf, size,
                 "certificate not accepted: %s; use --sni NAME, --cafile FILE or --insecure",
                 X509_verify_cert_error_string(verdict));
    else if (error == -EPROTO)
        snprintf(buf, size, "TLS handshake failed: %s", reason ? reason : "protocol error");
    else
        snprintf(buf, size, "TLS handshake failed: %s", strerror(-error));
}
