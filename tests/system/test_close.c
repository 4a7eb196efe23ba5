/* SPDX-License-Identifier: MIT */

/* Closing connected sockets, from both sides: what the receipt says, and what the peer sees. */

#include "support.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/time.h>
#include <unistd.h>

static const int families[] = { AF_INET, AF_INET6 };

static void assert_graceful_but_eof(const struct fin_receipt *r)
{
    assert_outcome(r, FIN_OUTCOME_GRACEFUL, FIN_END_FIN);
    assert_int_equal(r->error, 0);
    assert_int_equal(r->held, FIN_NO);
    assert_int_equal(r->unsent, 0);
    assert_int_equal(r->unacked, 0);
    assert_true(reached(r, FIN_STAGE_FLUSHED));
    assert_true(reached(r, FIN_STAGE_SHUT));
    assert_true(reached(r, FIN_STAGE_ACKED));
    assert_true(reached(r, FIN_STAGE_UNREFERENCED));
    assert_false(reached(r, FIN_STAGE_NOTIFIED));
    assert_false(reached(r, FIN_STAGE_ANSWERED));
}

static void assert_graceful(const struct fin_receipt *r)
{
    assert_graceful_but_eof(r);
    assert_int_equal(r->unverifiable, 0);
    assert_true(reached(r, FIN_STAGE_EOF));
}

/* ---- TCP under each courtesy ---- */

static void test_tcp_abort(void **state)
{
    struct fin_policy policy = policy_of(FIN_COURTESY_ABORT);

    (void) state;
    for (size_t i = 0; i < 2; i++) {
        struct fin_receipt r;
        int fds[2];

        tcp_pair(families[i], BUFFERS_USUAL, fds);
        give(fds[US], "lost");
        r = closed(NULL, fds[US], &policy);
        assert_outcome(&r, FIN_OUTCOME_ABORTED, FIN_END_RESET);
        assert_int_equal(r.held, FIN_NO);
        assert_false(reached(&r, FIN_STAGE_SHUT));
        assert_false(reached(&r, FIN_STAGE_ACKED));
        assert_seen_reset(see(fds[THEM]));
        drop_all(fds[THEM], -1);
    }
}

static void test_tcp_prompt(void **state)
{
    struct fin_policy policy = policy_of(FIN_COURTESY_PROMPT);

    (void) state;
    for (size_t i = 0; i < 2; i++) {
        struct fin_receipt r;
        int fds[2];

        tcp_pair(families[i], BUFFERS_USUAL, fds);
        give(fds[US], "all of it");
        give(fds[THEM], "unread");
        await_input(fds[US]);
        r = closed(NULL, fds[US], &policy);
        assert_outcome(&r, FIN_OUTCOME_PROMPT, FIN_END_KERNEL);
        assert_int_equal(r.held, FIN_NO);
        assert_int_equal(r.discarded, 6);
        assert_true(reached(&r, FIN_STAGE_SHUT));
        assert_false(reached(&r, FIN_STAGE_EOF));
        assert_seen_fin(see(fds[THEM]), 9);
        drop_all(fds[THEM], -1);
    }
}

static void close_politely(enum fin_courtesy courtesy, int family)
{
    struct fin_policy policy = policy_of(courtesy);
    struct answerer peer;
    struct fin_receipt r;
    struct seen seen;
    int fds[2];

    tcp_pair(family, BUFFERS_USUAL, fds);
    give(fds[US], "all of it");
    answer(&peer, fds[THEM]);
    r = closed(NULL, fds[US], &policy);
    seen = answered(&peer);
    assert_graceful(&r);
    assert_seen_fin(seen, 9);
}

static void test_tcp_orderly(void **state)
{
    (void) state;
    for (size_t i = 0; i < 2; i++) {
        close_politely(FIN_COURTESY_ORDERLY, families[i]);
        close_politely(FIN_COURTESY_FULL, families[i]);
    }
}

static void test_tcp_much_data(void **state)
{
    struct fin_policy policy = policy_of(FIN_COURTESY_ORDERLY);
    struct answerer peer;
    struct fin_receipt r;
    size_t bytes;
    int fds[2];

    (void) state;
    tcp_pair(AF_INET, BUFFERS_USUAL, fds);
    bytes = fill(fds[US]);
    answer(&peer, fds[THEM]);
    r = closed(NULL, fds[US], &policy);
    assert_graceful(&r);
    assert_seen_fin(answered(&peer), bytes);
}

/* ---- input ---- */

/* While we linger, the peer must find no trace of a reset, and its next send must succeed. */
static void *look_while_lingering(void *arg)
{
    struct answerer *a = arg;

    a->seen = see(a->fd);
    give(a->fd, "more");
    (void) close(a->fd);
    return NULL;
}

static void test_tcp_unread_input(void **state)
{
    struct fin_policy policy = policy_of(FIN_COURTESY_ORDERLY);
    struct answerer peer;
    struct fin_receipt r;
    size_t bytes;
    int fds[2];

    (void) state;
    tcp_pair(AF_INET, BUFFERS_USUAL, fds);
    give(fds[US], "hello");
    give(fds[THEM], "never to be read");
    bytes = 16 + 1 + 4;
    await_input(fds[US]);
    peer.fd = fds[THEM];
    assert_int_equal(pthread_create(&peer.thread, NULL, look_while_lingering, &peer), 0);
    r = closed(NULL, fds[US], &policy);
    assert_seen_fin(answered(&peer), 5);
    assert_int_equal(peer.seen.next_send, 0);
    assert_graceful(&r);
    assert_int_equal(r.discarded, bytes);
}

static void test_tcp_drain_bound(void **state)
{
    struct fin_policy policy = policy_of(FIN_COURTESY_ORDERLY);

    (void) state;
    for (policy.drain = 0; policy.drain <= 4; policy.drain += 4) {
        struct fin_receipt r;
        int fds[2];

        tcp_pair(AF_INET, BUFFERS_USUAL, fds);
        give(fds[THEM], "ten bytes!");
        await_input(fds[US]);
        r = closed(NULL, fds[US], &policy);
        assert_int_equal(r.discarded, policy.drain);
        assert_outcome(&r, FIN_OUTCOME_BOUNDED, FIN_END_RESET);
        assert_int_equal(r.phase, FIN_PHASE_LINGER);
        assert_int_equal(r.held, FIN_NO);
        assert_int_equal(see(fds[THEM]).next_send, EPIPE);
        drop_all(fds[THEM], -1);
    }
}

/* A bound of 0 takes nothing away from a peer that sent nothing. */
static void test_tcp_drain_nothing(void **state)
{
    struct fin_policy policy = policy_of(FIN_COURTESY_ORDERLY);
    struct answerer peer;
    struct fin_receipt r;
    int fds[2];

    (void) state;
    policy.drain = 0;
    tcp_pair(AF_INET, BUFFERS_USUAL, fds);
    assert_int_equal(shutdown(fds[THEM], SHUT_WR), 0);
    answer(&peer, fds[THEM]);
    r = closed(NULL, fds[US], &policy);
    (void) answered(&peer);
    assert_graceful(&r);
    assert_int_equal(peer.seen.end, 0);
    assert_int_equal(r.discarded, 0);
}

/* ---- a peer that lets us down ---- */

/* Shorter than a delayed ACK: both are right. */
static enum fin_end fin_if_acked(const struct fin_receipt *r)
{
    return reached(r, FIN_STAGE_ACKED) ? FIN_END_FIN : FIN_END_KERNEL;
}

static void test_tcp_mute(void **state)
{
    struct fin_policy policy = policy_hasty(FIN_COURTESY_ORDERLY);
    struct fin_receipt r;
    int fds[2];

    (void) state;
    policy.linger_ms = 300; /* longer than a delayed ACK */
    tcp_pair(AF_INET, BUFFERS_USUAL, fds);
    give(fds[US], "hello");
    r = closed(NULL, fds[US], &policy);
    assert_outcome(&r, FIN_OUTCOME_TIMED_OUT, FIN_END_FIN);
    assert_int_equal(r.phase, FIN_PHASE_LINGER);
    assert_true(reached(&r, FIN_STAGE_ACKED));
    assert_false(reached(&r, FIN_STAGE_EOF));
    assert_false(unverifiable(&r, FIN_STAGE_EOF));
    assert_true(r.stage_ns[FIN_STAGE_RELEASED] >= 300000000);
    assert_seen_fin(see(fds[THEM]), 5);
    drop_all(fds[THEM], -1);
}

static void test_tcp_total(void **state)
{
    struct fin_policy policy = policy_of(FIN_COURTESY_ORDERLY);
    struct fin_receipt r;
    int fds[2];

    (void) state;
    policy.linger_ms = 60000;
    policy.total_ms = 30;
    tcp_pair(AF_INET, BUFFERS_USUAL, fds);
    r = closed(NULL, fds[US], &policy);
    assert_outcome(&r, FIN_OUTCOME_TIMED_OUT, fin_if_acked(&r));
    assert_true(r.stage_ns[FIN_STAGE_RELEASED] >= 30000000);
    assert_true(r.stage_ns[FIN_STAGE_RELEASED] < 5000000000);
    drop_all(fds[THEM], -1);
}

/* A pair with a full window and a peer that does not read; returns the bytes that are stuck. */
static size_t deaf_pair(int fds[2])
{
    tcp_pair(AF_INET, BUFFERS_SMALL, fds);
    return fill(fds[US]);
}

static void test_orphan_leave(void **state)
{
    struct fin_policy policy = policy_hasty(FIN_COURTESY_ORDERLY);
    struct fin_receipt r;
    size_t bytes;
    int fds[2];

    (void) state;
    bytes = deaf_pair(fds);
    r = closed(NULL, fds[US], &policy);
    assert_outcome(&r, FIN_OUTCOME_TIMED_OUT, FIN_END_KERNEL);
    assert_int_equal(r.phase, FIN_PHASE_LINGER);
    assert_true(r.unacked > 0 && r.unacked < bytes);
    assert_false(reached(&r, FIN_STAGE_ACKED));
    assert_seen_fin(see(fds[THEM]), bytes); /* the kernel went on */
    drop_all(fds[THEM], -1);
}

static void test_orphan_reset(void **state)
{
    struct fin_policy policy = policy_hasty(FIN_COURTESY_ORDERLY);
    struct fin_receipt r;
    struct seen seen;
    size_t bytes;
    int fds[2];

    (void) state;
    policy.orphan_ms = FIN_ORPHAN_RESET;
    bytes = deaf_pair(fds);
    r = closed(NULL, fds[US], &policy);
    assert_outcome(&r, FIN_OUTCOME_TIMED_OUT, FIN_END_RESET);
    assert_true(r.unacked > 0);
    seen = see(fds[THEM]);
    assert_seen_reset(seen);
    assert_true(seen.bytes < bytes);
    drop_all(fds[THEM], -1);
}

/* TCP_USER_TIMEOUT drops the data without telling the peer; it is told by its next segment. */
static void test_orphan_time(void **state)
{
    struct fin_policy policy = policy_hasty(FIN_COURTESY_ORDERLY);
    struct fin_receipt r;
    struct seen seen;
    size_t bytes;
    int fds[2];

    (void) state;
    policy.orphan_ms = 50;
    policy.proof = FIN_STAGE_FINISHED;
    policy.proof_ms = 20000;
    bytes = deaf_pair(fds);
    r = closed(NULL, fds[US], &policy);
    assert_outcome(&r, FIN_OUTCOME_TIMED_OUT, FIN_END_KERNEL);
    assert_true(reached(&r, FIN_STAGE_FINISHED));
    seen = see(fds[THEM]);
    assert_true(seen.bytes < bytes);
    assert_int_not_equal(seen.next_send, 0);
    drop_all(fds[THEM], -1);
}

/* ---- SO_LINGER that the program left ---- */

static void linger_on(int fd, int seconds)
{
    struct linger linger = { 1, seconds };

    assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, sizeof linger), 0);
}

static void test_linger_does_not_block(void **state)
{
    struct fin_policy policies[] = { policy_of(FIN_COURTESY_PROMPT),
                                     policy_hasty(FIN_COURTESY_ORDERLY),
                                     policy_of(FIN_COURTESY_PROMPT) };

    (void) state;
    policies[2].scope = FIN_SCOPE_DESCRIPTOR;
    for (size_t i = 0; i < 3; i++) {
        struct fin_receipt r;
        size_t bytes;
        int fds[2];

        bytes = deaf_pair(fds);
        linger_on(fds[US], GUARD_S);
        r = closed(NULL, fds[US], &policies[i]);
        assert_true(r.stage_ns[FIN_STAGE_RELEASED] < GUARD_S / 2 * 1000000000ll);
        assert_seen_fin(see(fds[THEM]), bytes);
        drop_all(fds[THEM], -1);
    }
}

static void test_linger_does_not_reset(void **state)
{
    struct fin_policy policy = policy_of(FIN_COURTESY_ORDERLY);
    struct answerer peer;
    struct fin_receipt r;
    int fds[2];

    (void) state;
    tcp_pair(AF_INET, BUFFERS_USUAL, fds);
    linger_on(fds[US], 0);
    give(fds[US], "hello");
    answer(&peer, fds[THEM]);
    r = closed(NULL, fds[US], &policy);
    assert_seen_fin(answered(&peer), 5);
    assert_graceful(&r);

    policy.courtesy = FIN_COURTESY_PROMPT;
    tcp_pair(AF_INET, BUFFERS_USUAL, fds);
    linger_on(fds[US], 0);
    give(fds[US], "hello");
    r = closed(NULL, fds[US], &policy);
    assert_outcome(&r, FIN_OUTCOME_PROMPT, FIN_END_KERNEL);
    assert_seen_fin(see(fds[THEM]), 5);
    drop_all(fds[THEM], -1);
}

/* ---- what had happened before ---- */

static void test_shut_before(void **state)
{
    struct fin_policy policy = policy_hasty(FIN_COURTESY_ORDERLY);
    struct fin_receipt r;
    int fds[2];

    (void) state;
    policy.linger_ms = 300; /* longer than a delayed ACK */
    tcp_pair(AF_INET, BUFFERS_USUAL, fds);
    give(fds[US], "hello");
    assert_int_equal(shutdown(fds[US], SHUT_WR), 0);
    r = closed(NULL, fds[US], &policy);
    assert_outcome(&r, FIN_OUTCOME_TIMED_OUT, FIN_END_FIN);
    assert_true(reached(&r, FIN_STAGE_SHUT));
    assert_true(reached(&r, FIN_STAGE_ACKED));
    assert_false(reached(&r, FIN_STAGE_EOF));
    assert_seen_fin(see(fds[THEM]), 5);
    drop_all(fds[THEM], -1);
}

/* After SHUT_RD a read gives 0 although the peer said nothing: no eof was observed. */
static void test_shut_for_reading_before(void **state)
{
    struct fin_policy policy = policy_of(FIN_COURTESY_ORDERLY);
    struct fin_receipt r;
    int fds[2];

    (void) state;
    tcp_pair(AF_INET, BUFFERS_USUAL, fds);
    give(fds[US], "hello");
    assert_int_equal(shutdown(fds[US], SHUT_RD), 0);
    r = closed(NULL, fds[US], &policy);
    assert_outcome(&r, FIN_OUTCOME_TIMED_OUT, FIN_END_FIN); /* a read gives 0, and is no FIN */
    assert_false(reached(&r, FIN_STAGE_EOF));
    assert_false(unverifiable(&r, FIN_STAGE_EOF));
    assert_true(reached(&r, FIN_STAGE_ACKED));
    assert_seen_fin(see(fds[THEM]), 5);
    drop_all(fds[THEM], -1);
}

static void reset_by_peer(int fds[2])
{
    tcp_pair(AF_INET, BUFFERS_USUAL, fds);
    linger_on(fds[THEM], 0);
    drop_all(fds[THEM], -1);
}

static void test_reset_before(void **state)
{
    (void) state;
    for (enum fin_courtesy c = FIN_COURTESY_PROMPT; c <= FIN_COURTESY_FULL; c++) {
        struct fin_policy policy = policy_of(c);
        struct fin_receipt r;
        int fds[2];

        reset_by_peer(fds);
        r = closed(NULL, fds[US], &policy);
        assert_outcome(&r, FIN_OUTCOME_RESET, FIN_END_RESET);
        assert_int_equal(r.error, -ECONNRESET);
        assert_false(reached(&r, FIN_STAGE_ACKED));
        assert_false(reached(&r, FIN_STAGE_EOF));
    }
}

/* The program has taken the error away: the FIN that nobody acknowledged tells of the reset. */
static void test_reset_read_before(void **state)
{
    struct fin_policy policy = policy_of(FIN_COURTESY_ORDERLY);
    struct fin_receipt r;
    char byte;
    int fds[2];

    (void) state;
    reset_by_peer(fds);
    assert_int_equal(recv(fds[US], &byte, 1, 0), -1);
    assert_int_equal(errno, ECONNRESET);
    r = closed(NULL, fds[US], &policy);
    assert_outcome(&r, FIN_OUTCOME_RESET, FIN_END_KERNEL);
    assert_false(reached(&r, FIN_STAGE_ACKED));
    assert_false(reached(&r, FIN_STAGE_EOF));
}

/* A blocking descriptor never blocks the close, and O_NONBLOCK stays as the program set it. */
static void test_flags_untouched(void **state)
{
    struct fin_policy policy = policy_hasty(FIN_COURTESY_ORDERLY);

    (void) state;
    for (int nonblocking = 0; nonblocking <= 1; nonblocking++) {
        int fds[2], copy;

        (void) deaf_pair(fds);
        if (nonblocking)
            set_nonblocking(fds[US]);
        copy = fcntl(fds[US], F_DUPFD_CLOEXEC, 0);
        (void) closed(NULL, fds[US], &policy);
        assert_int_equal(!!(fcntl(copy, F_GETFL) & O_NONBLOCK), nonblocking);
        drop_all(copy, fds[THEM], -1);
    }
}

/* ---- MPTCP ---- */

static void test_mptcp(void **state)
{
    struct fin_policy policy = policy_of(FIN_COURTESY_ORDERLY);
    struct answerer peer;
    struct fin_receipt r;
    int fds[2];

    (void) state;
    if (!has_mptcp())
        skip();
    mptcp_pair(fds);
    give(fds[US], "hello");
    answer(&peer, fds[THEM]);
    r = closed(NULL, fds[US], &policy);
    assert_seen_fin(answered(&peer), 5);
    assert_graceful_but_eof(&r);
    assert_true(mptcp_tells_eof() ? reached(&r, FIN_STAGE_EOF) : unverifiable(&r, FIN_STAGE_EOF));
}

static void test_mptcp_abort(void **state)
{
    struct fin_policy policy = policy_of(FIN_COURTESY_ABORT);
    struct fin_receipt r;
    int fds[2];

    (void) state;
    if (!has_mptcp())
        skip();
    mptcp_pair(fds);
    give(fds[US], "hello");
    r = closed(NULL, fds[US], &policy);
    assert_outcome(&r, FIN_OUTCOME_ABORTED, FIN_END_RESET);
    assert_int_equal(see(fds[THEM]).end, ECONNRESET);
    drop_all(fds[THEM], -1);
}

/* ---- Unix ---- */

static void test_unix_stream(void **state)
{
    (void) state;
    for (enum fin_courtesy c = FIN_COURTESY_ORDERLY; c <= FIN_COURTESY_FULL; c++) {
        struct fin_policy policy = policy_of(c);
        struct answerer peer;
        struct fin_receipt r;
        int fds[2];

        unix_pair(SOCK_STREAM, fds);
        give(fds[US], "hello");
        give(fds[THEM], "unread");
        answer(&peer, fds[THEM]);
        r = closed(NULL, fds[US], &policy);
        assert_seen_fin(answered(&peer), 5);
        assert_graceful(&r);
        assert_int_equal(r.discarded, 6);
    }
}

static void test_unix_prompt(void **state)
{
    struct fin_policy policy = policy_of(FIN_COURTESY_PROMPT);
    struct fin_receipt r;
    int fds[2];

    (void) state;
    unix_pair(SOCK_STREAM, fds);
    give(fds[US], "hello");
    give(fds[THEM], "unread");
    r = closed(NULL, fds[US], &policy);
    assert_outcome(&r, FIN_OUTCOME_PROMPT, FIN_END_FIN);
    assert_int_equal(r.discarded, 6);
    assert_false(reached(&r, FIN_STAGE_EOF));
    assert_seen_fin(see(fds[THEM]), 5);
    drop_all(fds[THEM], -1);
}

static void test_unix_mute(void **state)
{
    struct fin_policy policy = policy_hasty(FIN_COURTESY_ORDERLY);
    struct fin_receipt r;
    int fds[2];

    (void) state;
    unix_pair(SOCK_STREAM, fds);
    give(fds[US], "hello");
    r = closed(NULL, fds[US], &policy);
    assert_outcome(&r, FIN_OUTCOME_TIMED_OUT, FIN_END_FIN);
    assert_true(reached(&r, FIN_STAGE_ACKED));
    assert_false(reached(&r, FIN_STAGE_EOF));
    assert_seen_fin(see(fds[THEM]), 5);
    drop_all(fds[THEM], -1);
}

/* It can't be reset: an abort is a plain close. */
static void test_unix_abort(void **state)
{
    struct fin_policy policy = policy_of(FIN_COURTESY_ABORT);
    struct fin_receipt r;
    int fds[2];

    (void) state;
    unix_pair(SOCK_STREAM, fds);
    give(fds[US], "hello");
    r = closed(NULL, fds[US], &policy);
    assert_int_equal(r.outcome, FIN_OUTCOME_ABORTED);
    assert_int_not_equal(r.end, FIN_END_RESET);
    assert_seen_fin(see(fds[THEM]), 5);
    drop_all(fds[THEM], -1);
}

static void test_unix_shut_for_reading_before(void **state)
{
    struct fin_policy policy = policy_of(FIN_COURTESY_ORDERLY);
    struct fin_receipt r;
    int fds[2];

    (void) state;
    unix_pair(SOCK_STREAM, fds);
    assert_int_equal(shutdown(fds[US], SHUT_RD), 0);
    r = closed(NULL, fds[US], &policy);
    assert_false(reached(&r, FIN_STAGE_EOF));
    assert_true(unverifiable(&r, FIN_STAGE_EOF));
    assert_seen_fin(see(fds[THEM]), 0);
    drop_all(fds[THEM], -1);
}

static void test_unix_peer_closed_before(void **state)
{
    struct fin_policy policy = policy_of(FIN_COURTESY_ORDERLY);
    struct fin_receipt r;
    int fds[2];

    (void) state;
    unix_pair(SOCK_STREAM, fds);
    give(fds[THEM], "last words");
    drop_all(fds[THEM], -1);
    r = closed(NULL, fds[US], &policy);
    assert_outcome(&r, FIN_OUTCOME_GRACEFUL, FIN_END_KERNEL); /* it might have left ours unread */
    assert_int_equal(r.discarded, 10);
}

/* ---- messages ---- */

static void test_seqpacket_empty_messages(void **state)
{
    struct fin_policy policy = policy_hasty(FIN_COURTESY_ORDERLY);
    struct fin_receipt r;
    int fds[2];

    (void) state;
    unix_pair(SOCK_SEQPACKET, fds);
    for (int i = 0; i < 3; i++)
        assert_int_equal(send(fds[THEM], "", 0, MSG_NOSIGNAL), 0);
    r = closed(NULL, fds[US], &policy);
    assert_outcome(&r, FIN_OUTCOME_TIMED_OUT, FIN_END_FIN); /* none of them was the end */
    assert_false(reached(&r, FIN_STAGE_EOF));
    drop_all(fds[THEM], -1);
}

static void test_seqpacket_end(void **state)
{
    struct fin_policy policy = policy_of(FIN_COURTESY_ORDERLY);
    struct fin_receipt r;
    char buf[8];
    int fds[2];

    (void) state;
    unix_pair(SOCK_SEQPACKET, fds);
    give(fds[US], "hello");
    assert_int_equal(send(fds[THEM], "", 0, MSG_NOSIGNAL), 0);
    give(fds[THEM], "after an empty one");
    assert_int_equal(shutdown(fds[THEM], SHUT_WR), 0);
    r = closed(NULL, fds[US], &policy);
    assert_outcome(&r, FIN_OUTCOME_GRACEFUL, FIN_END_FIN);
    assert_true(unverifiable(&r, FIN_STAGE_EOF)); /* it may have been shut by us */
    assert_int_equal(r.discarded, 18 + 1);        /* an empty message counts as a byte */
    assert_int_equal(recv(fds[THEM], buf, sizeof buf, 0), 5);
    assert_int_equal(recv(fds[THEM], buf, sizeof buf, 0), 0);
    drop_all(fds[THEM], -1);
}

/* ---- signals ---- */

static volatile sig_atomic_t ticks;

static void tick(int signal)
{
    (void) signal;
    ticks++;
}

/* SIGALRM each ms, without SA_RESTART, to this thread alone. */
static void start_ticking(void)
{
    struct sigaction action = { .sa_handler = tick };
    struct itimerval each = { { 0, 1000 }, { 0, 1000 } };

    assert_int_equal(sigaction(SIGALRM, &action, NULL), 0);
    assert_int_equal(setitimer(ITIMER_REAL, &each, NULL), 0);
}

static void stop_ticking(void)
{
    struct itimerval never = { { 0, 0 }, { 0, 0 } };

    assert_int_equal(setitimer(ITIMER_REAL, &never, NULL), 0);
    assert_int_not_equal(signal(SIGALRM, SIG_DFL), SIG_ERR);
}

static void close_while_it_ticks(enum fin_courtesy courtesy, bool by_unix)
{
    struct fin_policy policy = policy_hasty(courtesy);
    struct fin_receipt r;
    int fds[2];

    if (by_unix)
        unix_pair(SOCK_STREAM, fds);
    else
        tcp_pair(AF_INET, BUFFERS_USUAL, fds);
    give(fds[US], "hello");
    start_ticking();
    r = closed(NULL, fds[US], &policy);
    stop_ticking();
    assert_outcome(&r, FIN_OUTCOME_TIMED_OUT, fin_if_acked(&r));
    assert_int_equal(r.error, 0);
    assert_true(r.stage_ns[FIN_STAGE_RELEASED] >= 30000000);
    assert_seen_fin(see(fds[THEM]), 5);
    drop_all(fds[THEM], -1);
}

/* A slow processor sees few ticks in the time of one close. */
static void close_while_ticking(enum fin_courtesy courtesy, bool by_unix)
{
    ticks = 0;
    for (int i = 0; i < 100 && ticks < 5; i++)
        close_while_it_ticks(courtesy, by_unix);
    assert_true(ticks >= 5);
}

static void test_signals(void **state)
{
    (void) state;
    close_while_ticking(FIN_COURTESY_ORDERLY, false);
    close_while_ticking(FIN_COURTESY_ORDERLY, true);
    close_while_ticking(FIN_COURTESY_FULL, false);
}

static void prove_while_it_ticks(void)
{
    struct fin_policy policy = policy_hasty(FIN_COURTESY_PROMPT);
    struct fin_receipt r;
    int fds[2], copy;

    tcp_pair(AF_INET, BUFFERS_USUAL, fds);
    copy = fcntl(fds[US], F_DUPFD_CLOEXEC, 0);
    start_ticking();
    r = closed(NULL, fds[US], &policy);
    stop_ticking();
    assert_outcome(&r, FIN_OUTCOME_PROMPT, FIN_END_KERNEL);
    assert_int_equal(r.held, FIN_YES);
    assert_false(reached(&r, FIN_STAGE_UNREFERENCED));
    drop_all(copy, fds[THEM], -1);
}

static void test_signals_while_proving(void **state)
{
    (void) state;
    ticks = 0;
    for (int i = 0; i < 100 && ticks < 5; i++)
        prove_while_it_ticks();
    assert_true(ticks >= 5);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        GUARDED(test_tcp_abort),
        GUARDED(test_tcp_prompt),
        GUARDED(test_tcp_orderly),
        GUARDED(test_tcp_much_data),
        GUARDED(test_tcp_unread_input),
        GUARDED(test_tcp_drain_bound),
        GUARDED(test_tcp_drain_nothing),
        GUARDED(test_tcp_mute),
        GUARDED(test_tcp_total),
        GUARDED(test_orphan_leave),
        GUARDED(test_orphan_reset),
        GUARDED(test_orphan_time),
        GUARDED(test_linger_does_not_block),
        GUARDED(test_linger_does_not_reset),
        GUARDED(test_shut_before),
        GUARDED(test_shut_for_reading_before),
        GUARDED(test_reset_before),
        GUARDED(test_reset_read_before),
        GUARDED(test_flags_untouched),
        GUARDED(test_mptcp),
        GUARDED(test_mptcp_abort),
        GUARDED(test_unix_stream),
        GUARDED(test_unix_prompt),
        GUARDED(test_unix_mute),
        GUARDED(test_unix_abort),
        GUARDED(test_unix_shut_for_reading_before),
        GUARDED(test_unix_peer_closed_before),
        GUARDED(test_seqpacket_empty_messages),
        GUARDED(test_seqpacket_end),
        GUARDED(test_signals),
        GUARDED(test_signals_while_proving),
    };

    own_network();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
