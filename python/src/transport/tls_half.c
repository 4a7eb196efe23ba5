/* SPDX-License-Identifier: MIT */

/* Half-written records. For a session on a socket CPython shows them only by the errors of its
 * calls, and from 3.14.10 on not after the peer's FIN; OpenSSL always knows. */

#include "transport/tls.h"

#include <string.h>

#define SENT 1 /* SSL_SENT_SHUTDOWN */
#define RECEIVED 2
#define REASON 0x7fffff
#define BAD_LENGTH 271 /* SSL_R_BAD_LENGTH */

#define lib fin__py_openssl

/* It met a fatal error, of which the peer's FIN without close_notify is one. */
static bool is_dead(const struct ssl_st *ssl)
{
    return strcmp(lib.SSL_state_string(ssl), "SSLERR") == 0;
}

/* A write of nothing sends nothing. It is refused for its length beside a record, also in a session
 * that is dead, if that does not take itself for shut. */
static bool is_write_refused(struct ssl_st *ssl)
{
    int before = lib.SSL_get_shutdown(ssl);
    bool refused;
    size_t n;

    lib.SSL_set_shutdown(ssl, 0);
    refused =
        lib.SSL_write_ex(ssl, "", 0, &n) <= 0 && (lib.ERR_peek_error() & REASON) == BAD_LENGTH;
    lib.SSL_set_shutdown(ssl, before);
    return refused;
}

/* The program has said close_notify. If that is half written it is completed; behind another record
 * it does not go, and since 3.2 is forgotten. Told that the answer is here, SSL_shutdown() only
 * sends. */
static void complete_farewell(struct ssl_st *ssl)
{
    int before = lib.SSL_get_shutdown(ssl);

    lib.SSL_set_shutdown(ssl, before | RECEIVED);
    (void) lib.SSL_shutdown(ssl);
    lib.SSL_set_shutdown(ssl, before);
    lib.ERR_clear_error();
}

static bool is_half_written(struct ssl_st *ssl)
{
    if (!is_dead(ssl) && lib.SSL_in_init(ssl))
        return false; /* what is half written is not the program's */
    if (!is_dead(ssl) && lib.SSL_get_shutdown(ssl) & SENT)
        complete_farewell(ssl);
    return is_write_refused(ssl);
}

PyObject *fin__py_is_half_written(PyObject *module, PyObject *session)
{
    struct ssl_st *ssl = fin__py_ssl_of(session, false);
    bool half;

    (void) module;
    if (!ssl)
        Py_RETURN_NONE;
    lib.ERR_clear_error();
    half = is_half_written(ssl);
    lib.ERR_clear_error();
    return PyBool_FromLong(half);
}
