/* SPDX-License-Identifier: MIT */

/* Taking a session over for a close, and giving it back. */

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

static int fail_after = -1; /* allocations that OpenSSL may still make; -1: all */

static bool may_allocate(void)
{
    return fail_after < 0 || fail_after-- > 0;
}

static void *counted_malloc(size_t size, const char *file, int line)
{
    (void) file, (void) line;
    return may_allocate() ? malloc(size) : NULL;
}

static void *counted_realloc(void *old, size_t size, const char *file, int line)
{
    (void) file, (void) line;
    return may_allocate() ? realloc(old, size) : NULL;
}

static void counted_free(void *old, const char *file, int line)
{
    (void) file, (void) line;
    free(old);
}

static void one_restored(enum pair_kind kind, int version)
{
    struct fin__ssl *tls;
    struct pair pair;
    BIO *rbio, *wbio;
    uint64_t options;
    char buf[8];
    long mode;

    pair_open(&pair, kind, version);
    rbio = SSL_get_rbio(pair.ours);
    wbio = BIO_new_socket(pair.fd, BIO_NOCLOSE);
    if (kind == PAIR_TCP)
        SSL_set0_wbio(pair.ours, wbio);
    else
        BIO_free(wbio);
    wbio = SSL_get_wbio(pair.ours);
    SSL_set_options(pair.ours, SSL_OP_IGNORE_UNEXPECTED_EOF);
    SSL_set_quiet_shutdown(pair.ours, 1);
    SSL_clear_mode(pair.ours, SSL_MODE_AUTO_RETRY);
    options = SSL_get_options(pair.ours);
    mode = SSL_get_mode(pair.ours);
    tls = layer_attach(pair.ours, NULL, 0, pair.fd);
    assert_int_equal(BIO_get_close(rbio), BIO_NOCLOSE);
    assert_int_equal(SSL_get_options(pair.ours), options & ~SSL_OP_IGNORE_UNEXPECTED_EOF);
    assert_null(fin__ssl_detach(tls, false));
    assert_ptr_equal(SSL_get_rbio(pair.ours), rbio);
    assert_ptr_equal(SSL_get_wbio(pair.ours), wbio);
    assert_int_equal(BIO_get_close(rbio), BIO_CLOSE);
    assert_int_equal(BIO_get_close(wbio), kind == PAIR_TCP ? BIO_NOCLOSE : BIO_CLOSE);
    assert_int_equal(SSL_get_options(pair.ours), options);
    assert_int_equal(SSL_get_mode(pair.ours), mode);
    assert_int_equal(SSL_get_quiet_shutdown(pair.ours), 1);
    assert_int_equal(SSL_get_shutdown(pair.ours), 0);
    assert_int_equal(SSL_write(pair.ours, "alive", 5), 5);
    assert_int_equal(SSL_read(pair.theirs, buf, sizeof buf), 5);
    pair_close(&pair, false);
}

static void test_restored(void **state)
{
    (void) state;
    layer_for_each_pair(one_restored);
    assert_null(fin__ssl_detach(NULL, true));
}

static void test_invalid(void **state)
{
    struct fin_ssl_write without = { NULL, 5 };
    struct fin__ssl *tls;
    struct pair pair;
    int fd;

    (void) state;
    pair_open(&pair, PAIR_UNIX, TLS1_3_VERSION);
    assert_int_equal(layer_refused(NULL), -EINVAL);
    assert_int_equal(fin__ssl_attach(pair.ours, &without, &tls, &fd), -EINVAL);
    pair_close(&pair, false);
}

static void test_no_socket(void **state)
{
    SSL_CTX *ctx = SSL_CTX_new(TLS_client_method());
    SSL *ssl = SSL_new(ctx);

    (void) state;
    assert_int_equal(layer_refused(ssl), -ENOTCONN);
    SSL_set_bio(ssl, BIO_new(BIO_s_mem()), BIO_new(BIO_s_mem()));
    assert_int_equal(layer_refused(ssl), -ENOTCONN);
    SSL_set0_rbio(ssl, BIO_new_socket(0, BIO_NOCLOSE));
    assert_int_equal(layer_refused(ssl), -ENOTCONN);
    SSL_set0_wbio(ssl, BIO_new_socket(1, BIO_NOCLOSE));
    assert_int_equal(layer_refused(ssl), -ENOTCONN);
    SSL_set0_wbio(ssl, BIO_push(BIO_new(BIO_f_buffer()), BIO_new_socket(0, BIO_NOCLOSE)));
    assert_int_equal(layer_refused(ssl), -EOPNOTSUPP);
    assert_int_equal(ERR_peek_error(), 0);
    SSL_free(ssl);
    SSL_CTX_free(ctx);
}

/* A BIO of the program's own over descriptor 0, which answers `stubborn_ctrl` with 1. */
static int stubborn_ctrl;

static long answer_ctrl(BIO *bio, int cmd, long num, void *ptr)
{
    (void) bio, (void) num;
    if (cmd == BIO_C_GET_FD && ptr)
        *(int *) ptr = 0;
    return cmd == stubborn_ctrl;
}

static int refused_with(SSL *ssl, BIO_METHOD *method, int ctrl)
{
    BIO *bio = BIO_new(method);

    stubborn_ctrl = ctrl;
    BIO_set_init(bio, 1);
    SSL_set_bio(ssl, bio, bio);
    return layer_refused(ssl);
}

static void test_stubborn_bio(void **state)
{
    BIO_METHOD *method = BIO_meth_new(BIO_TYPE_SOURCE_SINK | BIO_TYPE_DESCRIPTOR, "stubborn");
    SSL_CTX *ctx = SSL_CTX_new(TLS_client_method());
    SSL *ssl = SSL_new(ctx);

    (void) state;
    BIO_meth_set_ctrl(method, answer_ctrl);
    assert_int_equal(refused_with(ssl, method, BIO_CTRL_GET_CLOSE), -EOPNOTSUPP);
    assert_int_equal(refused_with(ssl, method, BIO_CTRL_GET_KTLS_SEND), -EOPNOTSUPP);
    assert_int_equal(refused_with(ssl, method, BIO_CTRL_GET_KTLS_RECV), -EOPNOTSUPP);
    SSL_free(ssl);
    SSL_CTX_free(ctx);
    BIO_meth_free(method);
}

static void leave_errors(void)
{
    ERR_clear_error();
    ERR_raise(ERR_LIB_SYS, EPERM);
    ERR_raise_data(ERR_LIB_USER, 42, "told %s", "so");
}

static void check_errors(void)
{
    const char *data;
    int flags;

    assert_int_equal(ERR_GET_REASON(ERR_peek_error()), EPERM);
    assert_true(ERR_SYSTEM_ERROR(ERR_get_error()));
    assert_int_equal(ERR_GET_REASON(ERR_get_error_all(NULL, NULL, NULL, &data, &flags)), 42);
    assert_string_equal(data, "told so");
    assert_int_equal(ERR_get_error(), 0);
}

/* Tickets make the session clear the queue, the alert makes it add to it. */
static void one_error_queue(enum pair_kind kind, int version)
{
    struct fin__ssl *tls;
    struct pair pair;
    uint64_t n;

    pair_open(&pair, kind, version);
    layer_fatal_alert(&pair);
    leave_errors();
    tls = layer_attach(pair.ours, NULL, 0, pair.fd);
    layer_farewell(tls);
    assert_int_equal(layer_read(tls, 10, &n), FIN_LAYER_BROKEN);
    fin__ssl_detach(tls, true);
    close(pair.fd);
    check_errors();
    pair_close(&pair, true);
}

static void test_error_queue(void **state)
{
    (void) state;
    layer_for_each_pair(one_error_queue);
}

/* Each allocation of the attachment fails in turn; the session is as it was each time. */
static void test_no_memory(void **state)
{
    struct fin__ssl *tls = NULL;
    struct pair pair;
    int fd, failures = 0, r;
    BIO *bio;

    (void) state;
    pair_open(&pair, PAIR_UNIX, TLS1_3_VERSION);
    bio = SSL_get_rbio(pair.ours);
    do {
        fail_after = failures;
        r = fin__ssl_attach(pair.ours, NULL, &tls, &fd);
        fail_after = -1;
        if (r < 0) {
            assert_int_equal(r, -ENOMEM);
            assert_ptr_equal(SSL_get_rbio(pair.ours), bio);
            assert_int_equal(BIO_get_close(bio), BIO_CLOSE);
            failures++;
        }
    } while (r < 0);
    assert_true(failures >= 3);
    layer_finish(&pair, tls);
}

/* A reference that the program keeps to its BIO does not lead to a number that is another's. */
static void test_program_keeps_bio(void **state)
{
    struct fin__ssl *tls;
    struct pair pair;
    BIO *bio;
    int again;

    (void) state;
    pair_open(&pair, PAIR_UNIX, TLS1_3_VERSION);
    bio = SSL_get_rbio(pair.ours);
    BIO_up_ref(bio);
    tls = layer_attach(pair.ours, NULL, 0, pair.fd);
    layer_finish(&pair, tls);
    again = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(again, pair.fd);
    assert_int_equal(BIO_get_fd(bio, NULL), -1);
    BIO_free(bio);
    assert_int_equal(close(again), 0);
}

/* ---- what a closer refuses ---- */

struct refusal {
    struct fin_closer *closer;
    SSL *ssl;
    int result;
};

static void submit_again(const struct fin_receipt *receipt, void *arg)
{
    struct fin_policy policy = FIN_POLICY_INIT;
    struct refusal *r = arg;

    (void) receipt;
    r->result = fin_closer_submit_ssl(r->closer, r->ssl, NULL, &policy, NULL, NULL, NULL);
}

/* A closer that is being freed takes nothing any more. The session is as it was, and works. */
static void test_closer_refuses(void **state)
{
    struct fin_policy policy = FIN_POLICY_INIT;
    struct refusal r = { 0 };
    struct pair pair;
    char buf[8];
    BIO *rbio;
    SSL *bare;
    int fds[2];

    (void) state;
    assert_int_equal(fin_closer_new(NULL, &r.closer), 0);
    pair_open(&pair, PAIR_TCP, TLS1_3_VERSION);
    rbio = SSL_get_rbio(pair.ours);
    r.ssl = pair.ours;
    bare = SSL_new(SSL_get_SSL_CTX(pair.ours));
    assert_int_equal(fin_closer_submit_ssl(r.closer, bare, NULL, &policy, NULL, NULL, NULL),
                     -ENOTCONN);
    SSL_free(bare);
    assert_int_equal(fin_closer_submit_ssl(r.closer, NULL, NULL, &policy, NULL, NULL, NULL),
                     -EINVAL);
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
    assert_int_equal(fin_closer_submit(r.closer, fds[0], &policy, submit_again, &r, NULL), 0);
    (void) fin_closer_free(r.closer);
    assert_int_equal(r.result, -ECANCELED);
    assert_ptr_equal(SSL_get_rbio(pair.ours), rbio);
    assert_int_equal(BIO_get_close(rbio), BIO_CLOSE);
    assert_int_equal(SSL_write(pair.ours, "alive", 5), 5);
    assert_int_equal(SSL_read(pair.theirs, buf, sizeof buf), 5);
    pair_close(&pair, false);
    assert_int_equal(close(fds[1]), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_no_memory), /* first: the shared BIO method is not made yet */
        cmocka_unit_test(test_restored),       cmocka_unit_test(test_invalid),
        cmocka_unit_test(test_no_socket),      cmocka_unit_test(test_stubborn_bio),
        cmocka_unit_test(test_error_queue),    cmocka_unit_test(test_program_keeps_bio),
        cmocka_unit_test(test_closer_refuses),
    };

    if (!CRYPTO_set_mem_functions(counted_malloc, counted_realloc, counted_free))
        return 1;
    return cmocka_run_group_tests(tests, tls_setup, tls_teardown);
}
