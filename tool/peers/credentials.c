/* SPDX-License-Identifier: MIT */

#include "peers/credentials.h"

#include <errno.h>
#include <openssl/evp.h>
#include <openssl/x509v3.h>
#include <stdbool.h>

enum {
    AN_HOUR = 3600,
    A_DAY = 24 * AN_HOUR
};

static bool add_names(X509 *certificate)
{
    static const char names[] = "DNS:localhost,IP:127.0.0.1,IP:::1";
    X509_EXTENSION *x = X509V3_EXT_conf_nid(NULL, NULL, NID_subject_alt_name, names);
    bool ok = x && X509_add_ext(certificate, x, -1);

    X509_EXTENSION_free(x);
    return ok;
}

static bool name_it(X509 *certificate)
{
    X509_NAME *name = X509_get_subject_name(certificate);
    const unsigned char text[] = "finack embedded peer";

    return X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_ASC, text, -1, -1, 0)
        && X509_set_issuer_name(certificate, name);
}

static bool fill_in(X509 *certificate, EVP_PKEY *key)
{
    return X509_set_version(certificate, X509_VERSION_3)
        && ASN1_INTEGER_set(X509_get_serialNumber(certificate), 1)
        && X509_gmtime_adj(X509_getm_notBefore(certificate), -AN_HOUR)
        && X509_gmtime_adj(X509_getm_notAfter(certificate), A_DAY) && name_it(certificate)
        && X509_set_pubkey(certificate, key) && add_names(certificate)
        && X509_sign(certificate, key, EVP_sha256());
}

static X509 *make_certificate(EVP_PKEY *key)
{
    X509 *certificate = X509_new();

    if (certificate && fill_in(certificate, key))
        return certificate;
    X509_free(certificate);
    return NULL;
}

static bool make_sides(struct credentials *c, EVP_PKEY *key, X509 *certificate)
{
    c->server = SSL_CTX_new(TLS_server_method());
    c->client = SSL_CTX_new(TLS_client_method());
    if (!c->server || !c->client)
        return false;
    SSL_CTX_set_verify(c->client, SSL_VERIFY_PEER, NULL);
    return SSL_CTX_use_certificate(c->server, certificate) == 1
        && SSL_CTX_use_PrivateKey(c->server, key) == 1
        && X509_STORE_add_cert(SSL_CTX_get_cert_store(c->client), certificate) == 1;
}

int credentials_make(struct credentials *c)
{
    EVP_PKEY *key = EVP_EC_gen("P-256");
    X509 *certificate = key ? make_certificate(key) : NULL;
    bool ok;

    c->server = NULL;
    c->client = NULL;
    ok = certificate && make_sides(c, key, certificate);
    X509_free(certificate);
    EVP_PKEY_free(key);
    if (!ok)
        credentials_free(c);
    return ok ? 0 : -ENOMEM;
}

void credentials_free(struct credentials *c)
{
    SSL_CTX_free(c->server);
    SSL_CTX_free(c->client);
    c->server = NULL;
    c->client = NULL;
}
