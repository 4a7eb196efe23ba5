/* SPDX-License-Identifier: MIT */

/* fin_close_ssl() against real OpenSSL peers, seen from both sides. */

#include <finack/openssl.h>

#include "tls_pair.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/err.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>
/* cmocka needs the standard headers before it */
#include <cmocka.h>

static const struct fin_receipt blank = FIN_RECEIPT_INIT;

/* Patient enough for a loaded machine; tests of a deadline shorten what they test. */
static struct fin_policy policy_of(int courtesy)
{
    struct fin_policy policy = FIN_POLICY_INIT;

    policy.courtesy = courtesy;
    policy.farewell_ms = 10000;
    policy.linger_ms = 10000;
    policy.flush_ms = 10000;
    policy.total_ms = 15000;
    policy.proof_ms = 2000;
    return policy;
}

static bool reached(const struct fin_receipt *receipt, int stage)
{
    return receipt->stage_ns[stage] >= 0;
}

static struct fin_receipt close_with(struct pair *pair, const void *buf, size_t len,
                                     const struct fin_policy *policy)
{
    struct fin_ssl_write unfinished = { buf, len };
    struct fin_receipt receipt = blank;

    assert_int_equal(fin_close_ssl(NULL, pair->ours, buf ? &unfinished : NULL, policy, &receipt),
                     0);
    assert_true(reached(&receipt, FIN_STAGE_RELEASED));
    assert_int_equal(fcntl(pair->fd, F_GETFD), -1);
    return receipt;
}

static struct fin_receipt close_ours(struct pair *pair, int courtesy)
{
    struct fin_policy policy = policy_of(courtesy);

    return close_with(pair, NULL, 0, &policy);
}

static const int versions[] = { TLS1_2_VERSION, TLS1_3_VERSION };
static const enum pair_kind kinds[] = { PAIR_TCP, PAIR_UNIX };

static void for_each_pair(void (*test)(enum pair_kind kind, int version))
{
    int before = descriptors_open();

    for (size_t i = 0; i < 4; i++)
        test(kinds[i % 2], versions[i / 2]);
    assert_int_equal(descriptors_open(), before);
}

static void for_each_version(void (*test)(int version))
{
    int before = descriptors_open();

    for (size_t i = 0; i < 2; i++)
        test(versions[i]);
    assert_int_equal(descriptors_open(), before);
}

/* ---- peers that behave ---- */

static void one_answered(enum pair_kind kind, int version)
{
    struct fin_receipt receipt;
    struct pair pair;

    pair_open(&pair, kind, version);
    pair_run(&pair, peer_read_all_and_answer);
    receipt = close_ours(&pair, FIN_COURTESY_FULL);
    pair_join(&pair);
    assert_int_equal(receipt.outcome, FIN_OUTCOME_GRACEFUL);
    assert_int_equal(receipt.end, FIN_END_FIN);
    assert_int_equal(receipt.held, FIN_NO);
    assert_true(reached(&receipt, FIN_STAGE_NOTIFIED));
    assert_true(reached(&receipt, FIN_STAGE_ANSWERED));
    assert_true(reached(&receipt, FIN_STAGE_EOF));
    assert_true(reached(&receipt, FIN_STAGE_ACKED));
    assert_int_equal(pair.tls_end, SEEN_CLOSE_NOTIFY);
    assert_int_equal(pair.raw_end, SEEN_EOF);
    assert_int_equal(pair.so_error, 0);
    pair_close(&pair, true);
}

static void test_answered(void **state)
{
    (void) state;
    for_each_pair(one_answered);
}

/* We are the server: the tickets that we sent wait at the peer. */
static void one_server(enum pair_kind kind, int version)
{
    struct fin_receipt receipt;
    struct pair pair;

    pair_open(&pair, kind, version);
    pair_swap(&pair);
    pair_run(&pair, peer_read_all_and_answer);
    receipt = close_ours(&pair, FIN_COURTESY_FULL);
    pair_join(&pair);
    assert_int_equal(receipt.outcome, FIN_OUTCOME_GRACEFUL);
    assert_true(reached(&receipt, FIN_STAGE_ANSWERED));
    assert_int_equal(pair.tls_end, SEEN_CLOSE_NOTIFY);
    assert_int_equal(pair.raw_end, SEEN_EOF);
    pair_close(&pair, true);
}

static void test_server(void **state)
{
    (void) state;
    for_each_pair(one_server);
}

static void say_5000_and_answer(struct pair *pair)
{
    char data[5000] = { 0 };

    SSL_write(pair->theirs, data, sizeof data);
    peer_read_all_and_answer(pair);
}

static void one_unread_input(enum pair_kind kind, int version)
{
    struct fin_receipt receipt;
    struct pair pair;

    pair_open(&pair, kind, version);
    pair_run(&pair, say_5000_and_answer);
    receipt = close_ours(&pair, FIN_COURTESY_ORDERLY);
    pair_join(&pair);
    assert_int_equal(receipt.outcome, FIN_OUTCOME_GRACEFUL);
    assert_int_equal(receipt.end, FIN_END_FIN);
    assert_true(reached(&receipt, FIN_STAGE_ANSWERED));
    assert_int_equal(receipt.discarded, 5000);
    assert_int_equal(pair.tls_end, SEEN_CLOSE_NOTIFY);
    assert_int_equal(pair.raw_end, SEEN_EOF);
    assert_int_equal(pair.so_error, 0);
    pair_close(&pair, true);
}

static void test_unread_input(void **state)
{
    (void) state;
    for_each_pair(one_unread_input);
}

static void update_keys_and_answer(struct pair *pair)
{
    if (SSL_version(pair->theirs) == TLS1_3_VERSION)
        SSL_key_update(pair->theirs, SSL_KEY_UPDATE_REQUESTED);
    say_5000_and_answer(pair);
}

static void one_key_update(enum pair_kind kind, int version)
{
    struct fin_receipt receipt;
    struct pair pair;

    pair_open(&pair, kind, version);
    if (version == TLS1_3_VERSION)
        SSL_key_update(pair.ours, SSL_KEY_UPDATE_REQUESTED);
    pair_run(&pair, update_keys_and_answer);
    receipt = close_ours(&pair, FIN_COURTESY_ORDERLY);
    pair_join(&pair);
    assert_int_equal(receipt.outcome, FIN_OUTCOME_GRACEFUL);
    assert_int_equal(receipt.discarded, 5000);
    assert_true(reached(&receipt, FIN_STAGE_ANSWERED));
    assert_int_equal(pair.tls_end, SEEN_CLOSE_NOTIFY);
    assert_int_equal(pair.raw_end, SEEN_EOF);
    pair_close(&pair, true);
}

static void test_key_update(void **state)
{
    (void) state;
    for_each_pair(one_key_update);
}

/* A blocking descriptor stays one: the flag belongs to the description, which others may hold. */
static void one_blocking(enum pair_kind kind, int version)
{
    struct fin_policy policy = policy_of(FIN_COURTESY_FULL);
    struct fin_receipt receipt;
    struct pair pair;
    int copy;

    policy.proof_ms = 0;
    pair_open(&pair, kind, version);
    copy = fcntl(pair.fd, F_DUPFD_CLOEXEC, 0);
    pair_run(&pair, peer_read_all_and_answer);
    receipt = close_with(&pair, NULL, 0, &policy);
    pair_join(&pair);
    assert_int_equal(receipt.outcome, FIN_OUTCOME_GRACEFUL);
    assert_int_equal(receipt.held, FIN_YES);
    assert_int_equal(fcntl(copy, F_GETFL) & O_NONBLOCK, 0);
    assert_int_equal(pair.raw_end, SEEN_EOF);
    close(copy);
    pair_close(&pair, true);
}

static void test_blocking(void **state)
{
    (void) state;
    for_each_pair(one_blocking);
}

static void one_prompt(enum pair_kind kind, int version)
{
    struct fin_receipt receipt;
    struct pair pair;

    pair_open(&pair, kind, version);
    pair_run(&pair, peer_read_all);
    receipt = close_ours(&pair, FIN_COURTESY_PROMPT);
    pair_join(&pair);
    assert_int_equal(receipt.outcome, FIN_OUTCOME_PROMPT);
    assert_true(reached(&receipt, FIN_STAGE_NOTIFIED));
    assert_int_equal(pair.tls_end, SEEN_CLOSE_NOTIFY);
    assert_int_equal(pair.raw_end, SEEN_EOF);
    assert_int_equal(pair.so_error, 0);
    pair_close(&pair, true);
}

static void test_prompt(void **state)
{
    (void) state;
    for_each_pair(one_prompt);
}

/* ---- peers that do not ---- */

static void truncated(enum pair_kind kind, int version, int courtesy)
{
    struct fin_receipt receipt;
    struct pair pair;

    pair_open(&pair, kind, version);
    SSL_set_options(pair.ours, SSL_OP_IGNORE_UNEXPECTED_EOF);
    pair_run(&pair, peer_read_all_and_truncate);
    receipt = close_ours(&pair, courtesy);
    pair_join(&pair);
    assert_int_equal(receipt.outcome, FIN_OUTCOME_TRUNCATED);
    assert_false(reached(&receipt, FIN_STAGE_ANSWERED));
    assert_true(reached(&receipt, FIN_STAGE_EOF));
    assert_int_equal(receipt.end, FIN_END_FIN);
    assert_int_equal(pair.tls_end, SEEN_CLOSE_NOTIFY);
    assert_int_equal(pair.raw_end, SEEN_EOF);
    pair_close(&pair, true);
}

static void one_truncated(enum pair_kind kind, int version)
{
    truncated(kind, version, FIN_COURTESY_ORDERLY);
    truncated(kind, version, FIN_COURTESY_FULL);
}

static void test_truncated(void **state)
{
    (void) state;
    for_each_pair(one_truncated);
}

/* It reads, and never answers: FIN comes all the same. */
static void one_mute(enum pair_kind kind, int version)
{
    struct fin_policy policy = policy_of(FIN_COURTESY_FULL);
    struct fin_receipt receipt;
    struct pair pair;

    policy.farewell_ms = 50;
    policy.linger_ms = 50;
    pair_open(&pair, kind, version);
    pair_run(&pair, peer_read_all);
    receipt = close_with(&pair, NULL, 0, &policy);
    pair_join(&pair);
    assert_int_equal(receipt.outcome, FIN_OUTCOME_TIMED_OUT);
    assert_int_equal(receipt.phase, FIN_PHASE_FAREWELL);
    assert_true(reached(&receipt, FIN_STAGE_SHUT));
    assert_true(reached(&receipt, FIN_STAGE_ACKED));
    assert_false(reached(&receipt, FIN_STAGE_ANSWERED));
    assert_int_equal(receipt.end, FIN_END_FIN);
    assert_int_equal(pair.tls_end, SEEN_CLOSE_NOTIFY);
    assert_int_equal(pair.raw_end, SEEN_EOF);
    pair_close(&pair, true);
}

static void test_mute(void **state)
{
    (void) state;
    for_each_pair(one_mute);
}

/* No SIGPIPE: the teardown of the group counts them. */
static void one_reset(int version)
{
    struct linger hard = { 1, 0 };
    struct fin_receipt receipt;
    struct pair pair;

    pair_open(&pair, PAIR_TCP, version);
    setsockopt(pair.peer_fd, SOL_SOCKET, SO_LINGER, &hard, sizeof hard);
    SSL_free(pair.theirs);
    pair.theirs = NULL;
    receipt = close_ours(&pair, FIN_COURTESY_FULL);
    assert_int_equal(receipt.outcome, FIN_OUTCOME_RESET);
    assert_int_equal(receipt.end, FIN_END_RESET);
    assert_false(reached(&receipt, FIN_STAGE_ACKED));
    pair_close(&pair, true);
}

static void test_reset(void **state)
{
    (void) state;
    for_each_version(one_reset);
}

/* ---- unfinished writes ---- */

static void finished_write(enum pair_kind kind, int version, long mode, size_t chunk)
{
    struct fin_policy policy = policy_of(FIN_COURTESY_FULL);
    struct fin_receipt receipt;
    unsigned char *base;
    struct pair pair;
    const void *buf;
    size_t total, len;

    pair_open(&pair, kind, version);
    SSL_set_mode(pair.ours, mode);
    total = pair_fill(&pair, chunk, &base, &buf, &len);
    pair_run(&pair, peer_read_all_and_answer);
    receipt = close_with(&pair, buf, len, &policy);
    pair_join(&pair);
    free(base);
    assert_int_equal(receipt.outcome, FIN_OUTCOME_GRACEFUL);
    assert_int_equal(receipt.unsent, 0);
    assert_true(reached(&receipt, FIN_STAGE_FLUSHED));
    assert_true(reached(&receipt, FIN_STAGE_ANSWERED));
    assert_int_equal(pair.bytes, total + len);
    assert_true(pair.intact);
    assert_int_equal(pair.tls_end, SEEN_CLOSE_NOTIFY);
    assert_int_equal(pair.raw_end, SEEN_EOF);
    pair_close(&pair, true);
}

static void one_finished_write(enum pair_kind kind, int version)
{
    finished_write(kind, version, 0, 10000);
    finished_write(kind, version, 0, 4000000);
    finished_write(kind, version, SSL_MODE_ENABLE_PARTIAL_WRITE, 4000000);
}

static void test_finished_write(void **state)
{
    (void) state;
    for_each_pair(one_finished_write);
}

/* What follows a deaf peer's silence: it must find out that the stream is not whole. */
static void check_reset_at_peer(struct pair *pair, size_t most)
{
    pair_run(pair, peer_read_all);
    pair_join(pair);
    assert_true(pair->intact);
    assert_true(pair->bytes <= most);
    assert_int_equal(pair->tls_end, SEEN_RESET);
}

/* close_notify, then it stops reading while our ciphertext is buffered. */
static void one_notify_then_deaf(int version)
{
    struct fin_policy policy = policy_of(FIN_COURTESY_FULL);
    struct fin_receipt receipt;
    unsigned char *base;
    struct pair pair;
    const void *buf;
    size_t total, len;

    policy.flush_ms = 50;
    pair_open(&pair, PAIR_TCP, version);
    SSL_shutdown(pair.theirs);
    total = pair_fill(&pair, 10000, &base, &buf, &len);
    receipt = close_with(&pair, buf, len, &policy);
    free(base);
    assert_int_equal(receipt.outcome, FIN_OUTCOME_TIMED_OUT);
    assert_int_equal(receipt.phase, FIN_PHASE_FLUSH);
    assert_int_equal(receipt.end, FIN_END_RESET);
    assert_int_equal(receipt.unsent, len);
    assert_false(reached(&receipt, FIN_STAGE_FLUSHED));
    assert_false(reached(&receipt, FIN_STAGE_NOTIFIED));
    assert_false(reached(&receipt, FIN_STAGE_SHUT));
    check_reset_at_peer(&pair, total);
    pair_close(&pair, true);
}

static void test_notify_then_deaf(void **state)
{
    (void) state;
    for_each_version(one_notify_then_deaf);
}

/* A read since then, after which the session does not tell of the write any more; or has died. */
enum since {
    NOTHING_READ,
    NOTHING_THERE,
    BARE_FIN,
};

static void missing_write(int version, enum since since)
{
    struct fin_receipt receipt;
    unsigned char *base;
    struct pair pair;
    const void *buf;
    size_t total, len;
    char byte;

    pair_open(&pair, PAIR_TCP, version);
    total = pair_fill(&pair, 10000, &base, &buf, &len);
    if (since == BARE_FIN)
        shutdown(pair.peer_fd, SHUT_WR);
    if (since)
        assert_true(SSL_read(pair.ours, &byte, 1) <= 0);
    ERR_clear_error();
    receipt = close_ours(&pair, FIN_COURTESY_FULL);
    free(base);
    assert_int_equal(receipt.outcome, FIN_OUTCOME_ERROR);
    assert_int_equal(receipt.error, -EBADMSG);
    assert_int_equal(receipt.phase, since == NOTHING_THERE ? FIN_PHASE_FAREWELL : FIN_PHASE_FLUSH);
    assert_int_equal(receipt.end, FIN_END_RESET);
    assert_false(reached(&receipt, FIN_STAGE_NOTIFIED));
    check_reset_at_peer(&pair, total);
    pair_close(&pair, true);
}

static void one_missing_write(int version)
{
    missing_write(version, NOTHING_READ);
    missing_write(version, NOTHING_THERE);
    missing_write(version, BARE_FIN);
}

static void test_missing_write(void **state)
{
    (void) state;
    for_each_version(one_missing_write);
}

/* The write failed since the peer is gone: that is a reset, not the program's mistake. */
static void one_write_lost(int version)
{
    struct linger hard = { 1, 0 };
    struct fin_receipt receipt;
    unsigned char *base;
    struct pair pair;
    const void *buf;
    size_t len;

    pair_open(&pair, PAIR_TCP, version);
    pair_fill(&pair, 10000, &base, &buf, &len);
    setsockopt(pair.peer_fd, SOL_SOCKET, SO_LINGER, &hard, sizeof hard);
    SSL_free(pair.theirs);
    pair.theirs = NULL;
    receipt = close_ours(&pair, FIN_COURTESY_ORDERLY);
    free(base);
    assert_int_equal(receipt.outcome, FIN_OUTCOME_RESET);
    assert_int_equal(receipt.end, FIN_END_RESET);
    pair_close(&pair, true);
}

static void test_write_lost(void **state)
{
    (void) state;
    for_each_version(one_write_lost);
}

/* ---- no farewell ---- */

/* Only reads below TLS, and ends as it wants. */
static void read_raw_and_hang_up(struct pair *pair)
{
    char buf[4096];
    ssize_t n;

    while ((n = recv(pair->peer_fd, buf, sizeof buf, 0)) > 0)
        pair->bytes += (size_t) n;
    pair->raw_end = n == 0 ? SEEN_EOF : SEEN_OTHER;
    shutdown(pair->peer_fd, SHUT_WR);
}

static void one_handshake(enum pair_kind kind, int version)
{
    struct fin_receipt receipt;
    struct pair pair;
    size_t hello;
    char buf[4096];

    pair_connect(&pair, kind, version);
    set_nonblocking(pair.fd, true);
    assert_int_equal(SSL_do_handshake(pair.ours), -1);
    hello = (size_t) recv(pair.peer_fd, buf, sizeof buf, MSG_PEEK);
    pair_run(&pair, read_raw_and_hang_up);
    receipt = close_ours(&pair, FIN_COURTESY_FULL);
    pair_join(&pair);
    assert_int_equal(receipt.outcome, FIN_OUTCOME_GRACEFUL);
    assert_false(reached(&receipt, FIN_STAGE_NOTIFIED));
    assert_true(reached(&receipt, FIN_STAGE_EOF));
    assert_int_equal(receipt.end, FIN_END_FIN);
    assert_int_equal(pair.bytes, hello); /* nothing went after the ClientHello */
    assert_int_equal(pair.raw_end, SEEN_EOF);
    pair_close(&pair, true);
}

static void test_handshake(void **state)
{
    (void) state;
    for_each_pair(one_handshake);
}

/* We send what the peer can't decrypt, and get its fatal alert. */
static void one_fatal(enum pair_kind kind, int version)
{
    static const char garbage[] = "\x17\x03\x03\x00\x20"
                                  "0123456789012345678901234567890";
    struct fin_receipt receipt;
    struct pair pair;
    char byte;

    pair_open(&pair, kind, version);
    assert_int_equal(send(pair.fd, garbage, sizeof garbage, MSG_NOSIGNAL), sizeof garbage);
    assert_int_equal(SSL_read(pair.theirs, &byte, 1), -1);
    assert_true(SSL_read(pair.ours, &byte, 1) <= 0);
    ERR_clear_error();
    pair_run(&pair, read_raw_and_hang_up);
    receipt = close_ours(&pair, FIN_COURTESY_FULL);
    pair_join(&pair);
    assert_int_equal(receipt.outcome, FIN_OUTCOME_TRUNCATED);
    assert_false(reached(&receipt, FIN_STAGE_NOTIFIED));
    assert_false(reached(&receipt, FIN_STAGE_ANSWERED));
    assert_int_equal(pair.bytes, 0);
    assert_int_equal(pair.raw_end, SEEN_EOF);
    pair_close(&pair, true);
}

static void test_fatal(void **state)
{
    (void) state;
    for_each_pair(one_fatal);
}

/* ---- a FIN that the program has met, without close_notify before it ---- */

static void hang_up(struct pair *pair)
{
    shutdown(pair->peer_fd, SHUT_WR);
    peer_read_all(pair);
}

static void met_bare_fin(enum pair_kind kind, int version, int courtesy, bool ignored)
{
    struct fin_receipt receipt;
    struct pair pair;
    char byte;

    pair_open(&pair, kind, version);
    if (ignored)
        SSL_set_options(pair.ours, SSL_OP_IGNORE_UNEXPECTED_EOF);
    pair_run(&pair, hang_up);
    assert_int_equal(SSL_read(pair.ours, &byte, 1), 0);
    assert_int_equal(SSL_get_error(pair.ours, 0), ignored ? SSL_ERROR_ZERO_RETURN : SSL_ERROR_SSL);
    ERR_clear_error();
    receipt = close_ours(&pair, courtesy);
    pair_join(&pair);
    assert_int_equal(receipt.outcome, FIN_OUTCOME_TRUNCATED);
    assert_false(reached(&receipt, FIN_STAGE_ANSWERED));
    assert_int_equal(reached(&receipt, FIN_STAGE_NOTIFIED), ignored);
    assert_int_equal(receipt.end, FIN_END_FIN);
    assert_int_equal(pair.raw_end, SEEN_EOF);
    pair_close(&pair, true);
}

/* Of a Unix socket whose input had ended before, by whom can't be known. */
static void one_met_bare_fin(enum pair_kind kind, int version)
{
    for (int ignored = 0; ignored <= (kind == PAIR_TCP); ignored++) {
        met_bare_fin(kind, version, FIN_COURTESY_ORDERLY, ignored);
        met_bare_fin(kind, version, FIN_COURTESY_FULL, ignored);
    }
}

static void test_met_bare_fin(void **state)
{
    (void) state;
    for_each_pair(one_met_bare_fin);
}

static void answer_first(struct pair *pair)
{
    (void) SSL_shutdown(pair->theirs);
    hang_up(pair);
}

/* The same option does not hide a farewell. */
static void one_met_farewell(enum pair_kind kind, int version)
{
    struct fin_receipt receipt;
    struct pair pair;
    char byte;

    pair_open(&pair, kind, version);
    SSL_set_options(pair.ours, SSL_OP_IGNORE_UNEXPECTED_EOF);
    pair_run(&pair, answer_first);
    assert_int_equal(SSL_read(pair.ours, &byte, 1), 0);
    assert_int_equal(SSL_get_error(pair.ours, 0), SSL_ERROR_ZERO_RETURN);
    receipt = close_ours(&pair, FIN_COURTESY_FULL);
    pair_join(&pair);
    assert_int_equal(receipt.outcome, FIN_OUTCOME_GRACEFUL);
    assert_true(reached(&receipt, FIN_STAGE_ANSWERED));
    pair_close(&pair, true);
}

static void test_met_farewell(void **state)
{
    (void) state;
    for_each_pair(one_met_farewell);
}

/* ---- who owns what ---- */

static void one_number_reused(enum pair_kind kind, int version)
{
    struct pair pair;
    int other[2], number;
    char buf[8];

    pair_open(&pair, kind, version); /* its BIOs have BIO_CLOSE */
    number = pair.fd;
    pair_run(&pair, peer_read_all_and_answer);
    close_ours(&pair, FIN_COURTESY_FULL);
    pair_join(&pair);
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, other), 0);
    assert_true(other[0] == number || other[1] == number);
    assert_true(SSL_write(pair.ours, "x", 1) <= 0);
    assert_true(SSL_read(pair.ours, buf, sizeof buf) <= 0);
    SSL_shutdown(pair.ours);
    pair_close(&pair, true);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(recv(other[i], buf, sizeof buf, 0), -1);
        assert_int_equal(errno, EAGAIN);
    }
    close(other[0]);
    close(other[1]);
}

static void test_number_reused(void **state)
{
    (void) state;
    for_each_pair(one_number_reused);
}

static int refused(SSL *ssl, const struct fin_ssl_write *unfinished,
                   const struct fin_policy *policy)
{
    struct fin_receipt receipt = blank;
    int r = fin_close_ssl(NULL, ssl, unfinished, policy, &receipt);

    assert_memory_equal(&receipt, &blank, sizeof receipt);
    return r;
}

/* A close that is refused leaves everything as it was, and it can go on. */
static void one_refused(enum pair_kind kind, int version)
{
    struct fin_policy policy = policy_of(FIN_COURTESY_FULL);
    struct fin_ssl_write none = { NULL, 1 };
    struct pair pair;
    char buf[8];
    BIO *bio;

    pair_open(&pair, kind, version);
    bio = SSL_get_rbio(pair.ours);
    policy.total_ms = -1;
    assert_int_equal(refused(pair.ours, NULL, &policy), -ERANGE);
    policy = policy_of(FIN_COURTESY_FULL);
    assert_int_equal(refused(pair.ours, &none, &policy), -EINVAL);
    assert_int_equal(refused(NULL, NULL, &policy), -EINVAL);
    assert_ptr_equal(SSL_get_rbio(pair.ours), bio);
    assert_int_equal(BIO_get_close(bio), BIO_CLOSE);
    assert_int_equal(SSL_write(pair.ours, "alive", 5), 5);
    assert_int_equal(SSL_read(pair.theirs, buf, sizeof buf), 5);
    pair_run(&pair, peer_read_all_and_answer);
    assert_int_equal(close_ours(&pair, FIN_COURTESY_FULL).outcome, FIN_OUTCOME_GRACEFUL);
    pair_join(&pair);
    assert_int_equal(refused(pair.ours, NULL, &policy),
                     -ENOTCONN); /* there is no socket any more */
    pair_close(&pair, true);
}

static void test_refused(void **state)
{
    (void) state;
    for_each_pair(one_refused);
}

static void check_no_stream(int fd)
{
    struct fin_policy policy = policy_of(FIN_COURTESY_FULL);
    SSL_CTX *ctx = SSL_CTX_new(TLS_client_method());
    SSL *ssl = SSL_new(ctx);

    SSL_set_fd(ssl, fd);
    assert_int_equal(refused(ssl, NULL, &policy), -ENOTCONN);
    assert_int_equal(SSL_get_fd(ssl), fd);
    SSL_free(ssl);
    SSL_CTX_free(ctx);
    assert_int_equal(close(fd), 0);
}

static void test_no_stream(void **state)
{
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    (void) state;
    assert_int_equal(listen(listener, 1), 0);
    check_no_stream(listener);
    check_no_stream(socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
    check_no_stream(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_answered),
        cmocka_unit_test(test_server),
        cmocka_unit_test(test_unread_input),
        cmocka_unit_test(test_key_update),
        cmocka_unit_test(test_blocking),
        cmocka_unit_test(test_prompt),
        cmocka_unit_test(test_truncated),
        cmocka_unit_test(test_mute),
        cmocka_unit_test(test_reset),
        cmocka_unit_test(test_finished_write),
        cmocka_unit_test(test_notify_then_deaf),
        cmocka_unit_test(test_missing_write),
        cmocka_unit_test(test_write_lost),
        cmocka_unit_test(test_handshake),
        cmocka_unit_test(test_fatal),
        cmocka_unit_test(test_met_bare_fin),
        cmocka_unit_test(test_met_farewell),
        cmocka_unit_test(test_number_reused),
        cmocka_unit_test(test_refused),
        cmocka_unit_test(test_no_stream),
    };

    return cmocka_run_group_tests(tests, tls_setup, tls_teardown);
}
