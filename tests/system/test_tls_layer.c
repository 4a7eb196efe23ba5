/* SPDX-License-Identifier: MIT */

/* The TLS layer by itself: its callbacks, without a close. Both ends run in this thread. */

#include "tls_calls.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
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

/* ---- the usual course ---- */

static bool sends_at_once(int fd)
{
    socklen_t size = sizeof(int);
    int on = 0;

    getsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, &size);
    return on;
}

static void one_clean_farewell(enum pair_kind kind, int version)
{
    struct fin__ssl *tls;
    struct pair pair;
    uint64_t n;

    pair_open(&pair, kind, version); /* blocking: nothing below may wait, or touch the flag */
    tls = layer_attach(pair.ours, NULL, 0, pair.fd);
    layer_farewell(tls);
    assert_int_equal(sends_at_once(pair.fd), kind == PAIR_TCP);
    assert_int_equal(layer_peer_error(&pair), SSL_ERROR_ZERO_RETURN);
    assert_int_equal(layer_read(tls, 100, &n), FIN_LAYER_WANT_READ);
    assert_int_equal(SSL_write(pair.theirs, "0123456789", 10), 10);
    assert_int_equal(layer_read(tls, 4, &n), FIN_LAYER_DONE);
    assert_int_equal(n, 4);
    assert_int_equal(layer_read(tls, 100, &n), FIN_LAYER_DONE);
    assert_int_equal(n, 6);
    SSL_shutdown(pair.theirs);
    assert_int_equal(layer_read(tls, 100, &n), FIN_LAYER_ANSWERED);
    assert_int_equal(fcntl(pair.fd, F_GETFL) & O_NONBLOCK, 0);
    layer_finish(&pair, tls);
}

static void test_clean_farewell(void **state)
{
    (void) state;
    layer_for_each_pair(one_clean_farewell);
}

static void one_truncated(enum pair_kind kind, int version)
{
    struct fin__ssl *tls;
    struct pair pair;
    uint64_t n;

    pair_open(&pair, kind, version);
    SSL_set_options(pair.ours, SSL_OP_IGNORE_UNEXPECTED_EOF);
    SSL_set_quiet_shutdown(pair.ours, 1);
    tls = layer_attach(pair.ours, NULL, 0, pair.fd);
    layer_farewell(tls);
    assert_int_equal(layer_peer_error(&pair), SSL_ERROR_ZERO_RETURN);
    shutdown(pair.peer_fd, SHUT_WR);
    assert_int_equal(layer_read(tls, 100, &n), FIN_LAYER_EOF);
    layer_finish(&pair, tls);
}

static void test_truncated(void **state)
{
    (void) state;
    layer_for_each_pair(one_truncated);
}

static void one_already_closed(enum pair_kind kind, int version)
{
    struct fin__ssl *tls;
    struct pair pair;
    uint64_t n;

    pair_open(&pair, kind, version);
    assert_int_equal(SSL_shutdown(pair.ours), 0);
    assert_int_equal(SSL_write(pair.theirs, "late", 4), 4); /* would kill a second SSL_shutdown() */
    assert_int_equal(SSL_shutdown(pair.theirs), 0);
    tls = layer_attach(pair.ours, NULL, 0, pair.fd);
    layer_farewell(tls);
    assert_int_equal(layer_read(tls, 100, &n), FIN_LAYER_DONE);
    assert_int_equal(n, 4);
    assert_int_equal(layer_read(tls, 100, &n), FIN_LAYER_ANSWERED);
    assert_int_equal(layer_peer_error(&pair), SSL_ERROR_ZERO_RETURN);
    layer_finish(&pair, tls);
}

static void test_already_closed(void **state)
{
    (void) state;
    layer_for_each_pair(one_already_closed);
}

static void one_answered_before(enum pair_kind kind, int version)
{
    struct fin__ssl *tls;
    struct pair pair;
    uint64_t n;
    char byte;

    pair_open(&pair, kind, version);
    SSL_shutdown(pair.theirs);
    assert_int_equal(SSL_read(pair.ours, &byte, 1), 0);
    tls = layer_attach(pair.ours, NULL, 0, pair.fd);
    layer_farewell(tls);
    assert_int_equal(layer_read(tls, 100, &n), FIN_LAYER_ANSWERED);
    assert_int_equal(layer_peer_error(&pair), SSL_ERROR_ZERO_RETURN);
    layer_finish(&pair, tls);
}

static void test_answered_before(void **state)
{
    (void) state;
    layer_for_each_pair(one_answered_before);
}

/* The program's quiet SSL_shutdown() sent nothing, and set the flags of both farewells. */
static void one_quiet(enum pair_kind kind, int version)
{
    struct fin__ssl *tls;
    struct pair pair;
    uint64_t n;

    pair_open(&pair, kind, version);
    SSL_set_quiet_shutdown(pair.ours, 1);
    assert_int_equal(SSL_shutdown(pair.ours), 1);
    tls = layer_attach(pair.ours, NULL, 0, pair.fd);
    layer_farewell(tls);
    assert_int_equal(layer_peer_error(&pair), SSL_ERROR_ZERO_RETURN);
    assert_int_equal(layer_read(tls, 100, &n), FIN_LAYER_WANT_READ);
    layer_finish(&pair, tls);
}

static void test_quiet(void **state)
{
    (void) state;
    layer_for_each_pair(one_quiet);
}

/* ---- sessions that can't say farewell ---- */

static void one_handshake(enum pair_kind kind, int version)
{
    struct fin__ssl *tls;
    struct pair pair;
    uint64_t unsent, n;
    char buf[4096];

    pair_connect(&pair, kind, version);
    tls = layer_attach(pair.ours, NULL, 0, pair.fd);
    assert_int_equal(layer_flush(tls, &unsent), FIN_LAYER_DONE);
    assert_int_equal(layer_notify(tls), FIN_LAYER_NONE);
    assert_int_equal(layer_read(tls, 100, &n), FIN_LAYER_WANT_READ);
    assert_int_equal(send(pair.peer_fd, "raw", 3, MSG_NOSIGNAL), 3);
    assert_int_equal(layer_read(tls, 2, &n), FIN_LAYER_DONE);
    assert_int_equal(n, 2);
    assert_int_equal(layer_read(tls, 100, &n), FIN_LAYER_DONE);
    shutdown(pair.peer_fd, SHUT_WR);
    assert_int_equal(layer_read(tls, 100, &n), FIN_LAYER_EOF);
    assert_int_equal(recv(pair.peer_fd, buf, sizeof buf, MSG_DONTWAIT), -1); /* we sent nothing */
    layer_finish(&pair, tls);
}

static void test_handshake(void **state)
{
    (void) state;
    layer_for_each_pair(one_handshake);
}

static void one_fatal_read_by_program(enum pair_kind kind, int version)
{
    struct fin__ssl *tls;
    struct pair pair;
    uint64_t n, unsent;
    char byte;

    pair_open(&pair, kind, version);
    layer_fatal_alert(&pair);
    assert_true(SSL_read(pair.ours, &byte, 1) <= 0);
    assert_true(SSL_get_shutdown(pair.ours) & SSL_RECEIVED_SHUTDOWN);
    tls = layer_attach(pair.ours, NULL, 0, pair.fd);
    assert_int_equal(layer_flush(tls, &unsent), FIN_LAYER_DONE);
    assert_int_equal(layer_notify(tls), FIN_LAYER_DEAD);
    assert_int_equal(layer_read(tls, 100, &n), FIN_LAYER_WANT_READ);
    layer_finish(&pair, tls);
}

static void test_fatal_read_by_program(void **state)
{
    (void) state;
    layer_for_each_pair(one_fatal_read_by_program);
}

static void one_fatal_while_draining(enum pair_kind kind, int version)
{
    struct fin__ssl *tls;
    struct pair pair;
    uint64_t n;

    pair_open(&pair, kind, version);
    layer_fatal_alert(&pair);
    tls = layer_attach(pair.ours, NULL, 0, pair.fd);
    layer_farewell(tls);
    assert_int_equal(layer_read(tls, 100, &n), FIN_LAYER_BROKEN);
    assert_int_equal(layer_read(tls, 100, &n), FIN_LAYER_WANT_READ);
    shutdown(pair.peer_fd, SHUT_WR);
    assert_int_equal(layer_read(tls, 100, &n), FIN_LAYER_EOF);
    layer_finish(&pair, tls);
}

static void test_fatal_while_draining(void **state)
{
    (void) state;
    layer_for_each_pair(one_fatal_while_draining);
}

/* ---- records of the session's own ---- */

static void test_key_update_scheduled(void **state)
{
    struct fin__ssl *tls;
    struct pair pair;

    (void) state;
    pair_open(&pair, PAIR_TCP, TLS1_3_VERSION);
    assert_int_equal(SSL_key_update(pair.ours, SSL_KEY_UPDATE_REQUESTED), 1);
    tls = layer_attach(pair.ours, NULL, 0, pair.fd);
    layer_farewell(tls);
    assert_int_equal(layer_peer_error(&pair), SSL_ERROR_ZERO_RETURN);
    layer_finish(&pair, tls);
}

/* The answer to a KeyUpdate can't be sent any more once FIN is. */
static void test_key_update_after_fin(void **state)
{
    struct fin__ssl *tls;
    struct pair pair;
    uint64_t n;

    (void) state;
    pair_open(&pair, PAIR_TCP, TLS1_3_VERSION);
    tls = layer_attach(pair.ours, NULL, 0, pair.fd);
    layer_farewell(tls);
    shutdown(pair.fd, SHUT_WR);
    assert_int_equal(SSL_key_update(pair.theirs, SSL_KEY_UPDATE_REQUESTED), 1);
    assert_int_equal(SSL_do_handshake(pair.theirs), 1);
    assert_int_equal(SSL_write(pair.theirs, "new keys", 8), 8);
    SSL_shutdown(pair.theirs);
    assert_int_equal(layer_read(tls, 100, &n), FIN_LAYER_DONE);
    assert_int_equal(n, 8);
    assert_int_equal(layer_read(tls, 100, &n), FIN_LAYER_ANSWERED);
    layer_finish(&pair, tls);
}

/* A record that only carries a ticket must not end a drain that has more to read. */
static void test_tickets(void **state)
{
    struct fin__ssl *tls;
    struct pair pair;
    uint64_t n;

    (void) state;
    pair_open(&pair, PAIR_TCP, TLS1_3_VERSION); /* leaves two unread */
    SSL_clear_mode(pair.ours, SSL_MODE_AUTO_RETRY);
    assert_int_equal(SSL_write(pair.theirs, "x", 1), 1);
    tls = layer_attach(pair.ours, NULL, 0, pair.fd);
    layer_farewell(tls);
    assert_int_equal(layer_read(tls, 100, &n), FIN_LAYER_DONE);
    assert_int_equal(n, 1);
    layer_finish(&pair, tls);
}

/* ---- unfinished writes ---- */

static void peer_drain(struct pair *pair, size_t *bytes)
{
    char buf[4096];
    int n;

    set_nonblocking(pair->peer_fd, true);
    while ((n = SSL_read(pair->theirs, buf, sizeof buf)) > 0)
        for (int i = 0; i < n; i++)
            assert_int_equal((unsigned char) buf[i], pair_byte((*bytes)++));
}

static void finish_write(enum pair_kind kind, int version, long mode, size_t chunk)
{
    uint64_t unsent = 0, before;
    size_t total, len, bytes = 0;
    unsigned char *base, *moved;
    struct fin__ssl *tls;
    struct pair pair;
    const void *buf;
    int r;

    pair_open(&pair, kind, version);
    SSL_set_mode(pair.ours, mode);
    total = pair_fill(&pair, chunk, &base, &buf, &len);
    moved = malloc(len);
    assert_non_null(moved);
    memcpy(moved, buf, len);
    free(base);
    tls = layer_attach(pair.ours, moved, len, pair.fd);
    assert_int_equal(layer_flush(tls, &unsent), FIN_LAYER_WANT_WRITE);
    assert_int_equal(unsent, len);
    do {
        before = unsent;
        peer_drain(&pair, &bytes);
        r = layer_flush(tls, &unsent);
        assert_true(unsent <= before);
    } while (r == FIN_LAYER_WANT_WRITE);
    assert_int_equal(r, FIN_LAYER_DONE);
    assert_int_equal(unsent, 0);
    do
        peer_drain(&pair, &bytes);
    while ((r = layer_notify(tls)) == FIN_LAYER_WANT_WRITE);
    assert_int_equal(r, FIN_LAYER_DONE);
    peer_drain(&pair, &bytes);
    assert_int_equal(bytes, total + len);
    assert_int_equal(layer_peer_error(&pair), SSL_ERROR_ZERO_RETURN);
    free(moved);
    layer_finish(&pair, tls);
}

static void one_finished_write(enum pair_kind kind, int version)
{
    finish_write(kind, version, 0, 1000);
    finish_write(kind, version, 0, 1000000);
    finish_write(kind, version, SSL_MODE_ENABLE_PARTIAL_WRITE, 1000000);
    finish_write(kind, version, SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER, 100000);
}

static void test_finished_write(void **state)
{
    (void) state;
    layer_for_each_pair(one_finished_write);
}

static void one_missing_write(enum pair_kind kind, int version)
{
    unsigned char *base;
    struct fin__ssl *tls;
    struct pair pair;
    const void *buf;
    uint64_t unsent;
    size_t len;

    pair_open(&pair, kind, version);
    pair_fill(&pair, 1000, &base, &buf, &len);
    tls = layer_attach(pair.ours, NULL, 0, pair.fd);
    assert_int_equal(layer_flush(tls, &unsent), FIN_LAYER_BROKEN);
    free(base);
    layer_finish(&pair, tls);
}

static void test_missing_write(void **state)
{
    (void) state;
    layer_for_each_pair(one_missing_write);
}

/* After a read the session does not say any more that it wants to write. */
static void one_hidden_write(enum pair_kind kind, int version)
{
    uint64_t unsent, n;
    unsigned char *base;
    struct fin__ssl *tls;
    struct pair pair;
    const void *buf;
    size_t len;
    char byte;

    pair_open(&pair, kind, version);
    pair_fill(&pair, 1000, &base, &buf, &len);
    assert_int_equal(SSL_read(pair.ours, &byte, 1), -1);
    assert_false(SSL_want_write(pair.ours));
    tls = layer_attach(pair.ours, NULL, 0, pair.fd);
    assert_int_equal(layer_flush(tls, &unsent), FIN_LAYER_DONE);
    assert_int_equal(layer_notify(tls), FIN_LAYER_BROKEN);
    assert_int_equal(layer_read(tls, 10, &n), FIN_LAYER_WANT_READ);
    free(base);
    layer_finish(&pair, tls);
}

static void test_hidden_write(void **state)
{
    (void) state;
    layer_for_each_pair(one_hidden_write);
}

/* The same of a session that has died since, of the peer's bare FIN; and of one that had nothing
 * to send. */
static void one_write_of_the_dead(enum pair_kind kind, int version)
{
    for (int missing = 0; missing < 2; missing++)
        for (int farewell = 0; farewell < 2; farewell++) {
            unsigned char *base = NULL;
            struct fin__ssl *tls;
            struct pair pair;
            const void *buf;
            uint64_t unsent;
            size_t len;
            char byte;

            pair_open(&pair, kind, version);
            if (missing)
                pair_fill(&pair, 1000, &base, &buf, &len);
            if (farewell)
                (void) SSL_shutdown(pair.ours);
            shutdown(pair.peer_fd, SHUT_WR);
            assert_true(SSL_read(pair.ours, &byte, 1) <= 0);
            ERR_clear_error();
            tls = layer_attach(pair.ours, NULL, 0, pair.fd);
            assert_int_equal(layer_unsent(tls), missing ? UINT64_MAX : 0);
            assert_int_equal(layer_flush(tls, &unsent),
                             missing ? FIN_LAYER_BROKEN : FIN_LAYER_DONE);
            assert_int_equal(ERR_peek_error(), 0);
            free(base);
            layer_finish(&pair, tls);
        }
}

static void test_write_of_the_dead(void **state)
{
    (void) state;
    layer_for_each_pair(one_write_of_the_dead);
}

/* SSL_shutdown() behind a record that is not finished: the alert can't go before it. Asked again,
 * OpenSSL 3.0 lets the session die, and 3.2 takes the alert for sent. */
static void shutdown_behind_write(enum pair_kind kind, int version, int times)
{
    unsigned char *base;
    struct fin__ssl *tls;
    struct pair pair;
    const void *buf;
    uint64_t unsent;
    size_t len;

    pair_open(&pair, kind, version);
    pair_fill(&pair, 1000, &base, &buf, &len);
    for (int i = 0; i < times; i++)
        assert_int_equal(SSL_shutdown(pair.ours), -1);
    ERR_clear_error();
    tls = layer_attach(pair.ours, NULL, 0, pair.fd);
    if (layer_flush(tls, &unsent) == FIN_LAYER_DONE)
        assert_int_equal(layer_notify(tls), FIN_LAYER_BROKEN);
    assert_int_equal(layer_unsent(tls), UINT64_MAX);
    fin__ssl_detach(tls, false);
    tls = layer_attach(pair.ours, buf, len, pair.fd);
    assert_int_equal(layer_flush(tls, &unsent), FIN_LAYER_BROKEN);
    assert_int_equal(unsent, len);
    free(base);
    layer_finish(&pair, tls);
}

static void one_shutdown_behind_write(enum pair_kind kind, int version)
{
    for (int times = 1; times <= 3; times++)
        shutdown_behind_write(kind, version, times);
}

static void test_shutdown_behind_write(void **state)
{
    (void) state;
    layer_for_each_pair(one_shutdown_behind_write);
}

static void test_reset_by_peer(void **state)
{
    struct linger hard = { 1, 0 };
    unsigned char *base;
    struct fin__ssl *tls;
    struct pair pair;
    const void *buf;
    uint64_t unsent, n;
    size_t len;

    (void) state;
    pair_open(&pair, PAIR_TCP, TLS1_3_VERSION);
    pair_fill(&pair, 1000, &base, &buf, &len);
    setsockopt(pair.peer_fd, SOL_SOCKET, SO_LINGER, &hard, sizeof hard);
    SSL_free(pair.theirs);
    pair.theirs = NULL;
    tls = layer_attach(pair.ours, buf, len, pair.fd);
    assert_int_equal(layer_flush(tls, &unsent), -ECONNRESET);
    assert_int_equal(unsent, len);
    assert_int_equal(layer_flush(tls, &unsent), -EPIPE);
    assert_true(layer_read(tls, 10, &n) != FIN_LAYER_DONE);
    free(base);
    layer_finish(&pair, tls);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_clean_farewell),
        cmocka_unit_test(test_truncated),
        cmocka_unit_test(test_already_closed),
        cmocka_unit_test(test_answered_before),
        cmocka_unit_test(test_quiet),
        cmocka_unit_test(test_handshake),
        cmocka_unit_test(test_fatal_read_by_program),
        cmocka_unit_test(test_fatal_while_draining),
        cmocka_unit_test(test_key_update_scheduled),
        cmocka_unit_test(test_key_update_after_fin),
        cmocka_unit_test(test_tickets),
        cmocka_unit_test(test_finished_write),
        cmocka_unit_test(test_missing_write),
        cmocka_unit_test(test_hidden_write),
        cmocka_unit_test(test_write_of_the_dead),
        cmocka_unit_test(test_shutdown_behind_write),
        cmocka_unit_test(test_reset_by_peer),
    };

    return cmocka_run_group_tests(tests, tls_setup, tls_teardown);
}
