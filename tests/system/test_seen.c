/* SPDX-License-Identifier: MIT */

/* Connections that are over, or half over, before the close sees them, and ends that come to
 * nothing: what nobody saw is in no receipt. */

#include "support.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static void take_error(int fd, int expected)
{
    socklen_t size = sizeof(int);
    int error = 0;

    await_event(fd, POLLERR);
    assert_int_equal(getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &size), 0);
    assert_int_equal(error, expected);
}

static int tcp_state(int fd)
{
    struct tcp_info info;
    socklen_t size = sizeof info;

    assert_int_equal(getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &size), 0);
    return info.tcpi_state;
}

static void await_state(int fd, int state)
{
    struct timespec pause = { 0, 1000000 };

    for (int i = 0; i < 5000 && tcp_state(fd) != state; i++)
        (void) nanosleep(&pause, NULL);
    assert_int_equal(tcp_state(fd), state);
}

/* The connecting and the accepting side count differently. */
static void pair_of_role(int role, int fds[2])
{
    int both[2];

    tcp_pair(AF_INET, BUFFERS_USUAL, both);
    fds[US] = both[role];
    fds[THEM] = both[!role];
}

/* ---- over before the close ---- */

static void test_error_taken_before(void **state)
{
    (void) state;
    for (int i = 0; i < 8; i++) { /* either role, acknowledged or not, prompt or orderly */
        struct fin_policy policy = policy_of(i & 4 ? FIN_COURTESY_PROMPT : FIN_COURTESY_ORDERLY);
        struct fin_receipt r;
        int fds[2];

        pair_of_role(i & 1, fds);
        if (i & 2)
            (void) fill(fds[US]);
        send_reset(fds[THEM]);
        take_error(fds[US], ECONNRESET);
        assert_int_equal(send(fds[US], "x", 1, MSG_NOSIGNAL), -1);
        r = closed(NULL, fds[US], &policy);
        assert_outcome(&r, FIN_OUTCOME_RESET, FIN_END_KERNEL);
        assert_false(reached(&r, FIN_STAGE_ACKED));
        assert_false(reached(&r, FIN_STAGE_EOF));
        assert_int_equal(r.unacked > 0, (i & 2) != 0);
    }
}

static void test_both_fins_before(void **state)
{
    struct fin_policy policy = policy_of(FIN_COURTESY_ORDERLY);

    (void) state;
    for (int i = 0; i < 8; i++) { /* either role, either side first, the end read or not */
        struct fin_receipt r;
        int fds[2], first;
        char byte;

        pair_of_role(i & 1, fds);
        give(fds[US], "hello");
        first = i & 2 ? US : THEM;
        assert_int_equal(shutdown(fds[first], SHUT_WR), 0);
        await_event(fds[!first], POLLRDHUP);
        assert_int_equal(shutdown(fds[!first], SHUT_WR), 0);
        await_state(fds[US], TCP_CLOSE);
        if (i & 4)
            assert_int_equal(recv(fds[US], &byte, 1, 0), 0);
        r = closed(NULL, fds[US], &policy);
        assert_outcome(&r, FIN_OUTCOME_GRACEFUL, FIN_END_FIN);
        assert_true(reached(&r, FIN_STAGE_SHUT));
        assert_true(reached(&r, FIN_STAGE_ACKED));
        assert_true(reached(&r, FIN_STAGE_EOF));
        assert_seen_fin(see(fds[THEM]), 5);
        drop_all(fds[THEM], -1);
    }
}

static void test_abort_of_what_is_over(void **state)
{
    struct fin_policy policy = policy_of(FIN_COURTESY_ABORT);
    struct fin_receipt r;
    int fds[2];

    (void) state;
    tcp_pair(AF_INET, BUFFERS_USUAL, fds);
    assert_int_equal(shutdown(fds[THEM], SHUT_WR), 0);
    await_event(fds[US], POLLRDHUP);
    assert_int_equal(shutdown(fds[US], SHUT_WR), 0);
    await_state(fds[US], TCP_CLOSE);
    r = closed(NULL, fds[US], &policy);
    assert_outcome(&r, FIN_OUTCOME_ABORTED, FIN_END_FIN);
    assert_seen_fin(see(fds[THEM]), 0);
    drop_all(fds[THEM], -1);
}

/* ---- while the close is on ---- */

static bool read_until_it_ends(void *arg)
{
    char buf[4096];
    ssize_t n;

    do
        n = recv(*(const int *) arg, buf, sizeof buf, 0);
    while (n > 0);
    return n < 0 && errno == ECONNRESET;
}

static bool reset_soon(void *arg)
{
    struct timespec soon = { 0, 100000000 };

    (void) nanosleep(&soon, NULL);
    send_reset(*(const int *) arg);
    return true;
}

/* Whoever of the two comes first: it was a reset. */
static void test_error_taken_by_another(void **state)
{
    struct fin_policy policy = policy_of(FIN_COURTESY_ORDERLY);

    (void) state;
    policy.proof_ms = 0;
    for (int i = 0; i < 5; i++) {
        struct fin_receipt r;
        pid_t reader, peer;
        int fds[2], status;

        tcp_pair(AF_INET, BUFFERS_SMALL, fds);
        (void) fill(fds[US]);
        assert_int_equal(fcntl(fds[US], F_SETFL, 0), 0);
        peer = child_start(reset_soon, &fds[THEM]);
        drop_all(fds[THEM], -1);
        reader = child_start(read_until_it_ends, &fds[US]);
        r = closed(NULL, fds[US], &policy);
        assert_int_equal(r.outcome, FIN_OUTCOME_RESET);
        assert_true(r.end == FIN_END_RESET || r.end == FIN_END_KERNEL);
        assert_false(reached(&r, FIN_STAGE_ACKED));
        assert_true(r.unacked > 0);
        child_join(peer);
        assert_int_equal(waitpid(reader, &status, 0),
                         reader); /* it may have had the error, or not */
    }
}

struct taker {
    int fd;
    atomic_bool over;
};

/* Another holder, who takes each error of the socket at once. */
static void *take_errors(void *arg)
{
    struct taker *taker = arg;
    socklen_t size = sizeof(int);
    int error;

    while (!atomic_load(&taker->over))
        (void) getsockopt(taker->fd, SOL_SOCKET, SO_ERROR, &error, &size);
    return NULL;
}

static void test_abort_whose_error_another_takes(void **state)
{
    struct fin_policy policy = policy_of(FIN_COURTESY_ABORT);

    (void) state;
    policy.proof = FIN_STAGE_RELEASED;
    for (int i = 0; i < 200; i++) {
        struct taker taker = { .over = false };
        struct fin_receipt r;
        pthread_t thread;
        int fds[2];

        tcp_pair(AF_INET, BUFFERS_USUAL, fds);
        taker.fd = dup(fds[US]);
        assert_int_equal(pthread_create(&thread, NULL, take_errors, &taker), 0);
        give(fds[US], "lost");
        r = closed(NULL, fds[US], &policy);
        atomic_store(&taker.over, true);
        assert_int_equal(pthread_join(thread, NULL), 0);
        assert_outcome(&r, FIN_OUTCOME_ABORTED, FIN_END_RESET);
        assert_seen_reset(see(fds[THEM]));
        drop_all(fds[THEM], taker.fd, -1);
    }
}

/* In the child: makes another connection of the socket, which ends at once. */
static bool connect_anew(void *arg)
{
    int fd = *(const int *) arg, listener = listen_tcp(AF_INET, 0, 1, BUFFERS_USUAL);
    struct sockaddr none = { .sa_family = AF_UNSPEC };
    struct sockaddr_storage address;
    socklen_t size = address_of(listener, &address);

    await_state(fd, TCP_FIN_WAIT2);
    if (connect(fd, &none, sizeof none) < 0 || connect(fd, (struct sockaddr *) &address, size) < 0)
        return false;
    drop_all(accept(listener, NULL, NULL), listener, -1);
    return true;
}

/* Its FIN is not the one that the close waits for. */
static void test_connected_anew_by_another(void **state)
{
    struct fin_policy policy = policy_of(FIN_COURTESY_ORDERLY);
    struct fin_receipt r;
    pid_t holder;
    int fds[2];

    (void) state;
    policy.proof_ms = 0;
    tcp_pair(AF_INET, BUFFERS_USUAL, fds);
    give(fds[US], "hello");
    holder = child_start(connect_anew, &fds[US]);
    r = closed(NULL, fds[US], &policy);
    assert_int_equal(r.outcome, FIN_OUTCOME_RESET);
    assert_false(reached(&r, FIN_STAGE_EOF));
    child_join(holder);
    drop_all(fds[THEM], -1);
}

/* TCP_REPAIR: the connection is to go on elsewhere, and nothing is sent. */
static void test_abort_in_repair(void **state)
{
    struct fin_policy policy = policy_of(FIN_COURTESY_ABORT);
    struct fin_receipt r;
    int fds[2], on = 1;
    char byte;

    (void) state;
    tcp_pair(AF_INET, BUFFERS_USUAL, fds);
    if (setsockopt(fds[US], IPPROTO_TCP, TCP_REPAIR, &on, sizeof on) < 0) {
        assert_int_equal(errno, EPERM); /* root's alone */
        drop_all(fds[US], fds[THEM], -1);
        return;
    }
    r = closed(NULL, fds[US], &policy);
    assert_outcome(&r, FIN_OUTCOME_ABORTED, FIN_END_KERNEL);
    assert_int_equal(recv(fds[THEM], &byte, 1, MSG_DONTWAIT), -1);
    assert_int_equal(errno, EAGAIN);
    drop_all(fds[THEM], -1);
}

static void test_user_timeout(void **state)
{
    struct fin_policy policy = policy_of(FIN_COURTESY_ORDERLY);
    struct fin_receipt r;
    int fds[2], timeout = 200;

    (void) state;
    policy.linger_ms = 20000;
    policy.total_ms = 20000;
    tcp_pair(AF_INET, BUFFERS_SMALL, fds);
    assert_int_equal(setsockopt(fds[US], IPPROTO_TCP, TCP_USER_TIMEOUT, &timeout, sizeof timeout),
                     0);
    (void) fill(fds[US]);
    r = closed(NULL, fds[US], &policy);
    assert_outcome(&r, FIN_OUTCOME_ERROR, FIN_END_KERNEL);
    assert_int_equal(r.error, -ETIMEDOUT);
    assert_false(reached(&r, FIN_STAGE_ACKED));
    assert_true(r.unacked > 0);
    drop_all(fds[THEM], -1);
}

static bool end_soon(void *arg)
{
    struct timespec soon = { 0, 100000000 };

    (void) nanosleep(&soon, NULL);
    return shutdown(*(const int *) arg, SHUT_WR) == 0;
}

/* A read gives 0 before; the FIN is waited for. */
static void test_fin_behind_a_shut_read_side(void **state)
{
    struct fin_policy policy = policy_of(FIN_COURTESY_ORDERLY);
    struct fin_receipt r;
    pid_t peer;
    int fds[2];

    (void) state;
    tcp_pair(AF_INET, BUFFERS_USUAL, fds);
    assert_int_equal(shutdown(fds[US], SHUT_RD), 0);
    peer = child_start(end_soon, &fds[THEM]);
    r = closed(NULL, fds[US], &policy);
    assert_outcome(&r, FIN_OUTCOME_GRACEFUL, FIN_END_FIN);
    assert_true(r.stage_ns[FIN_STAGE_EOF] > 50000000);
    child_join(peer);
    drop_all(fds[THEM], -1);
}

/* What was acknowledged early is no progress. */
static void test_linger_once(void **state)
{
    struct fin_policy policy = policy_of(FIN_COURTESY_ORDERLY);
    struct fin_receipt r;
    int fds[2];

    (void) state;
    policy.linger_ms = 400;
    tcp_pair(AF_INET, BUFFERS_USUAL, fds);
    for (int i = 0; i < 5; i++) { /* the peer delays its ACKs from now on */
        give(fds[US], "q");
        expect_text(fds[THEM], "q");
        give(fds[THEM], "a");
        expect_text(fds[US], "a");
    }
    give(fds[US], "hello");
    r = closed(NULL, fds[US], &policy);
    assert_outcome(&r, FIN_OUTCOME_TIMED_OUT, FIN_END_FIN);
    assert_true(reached(&r, FIN_STAGE_ACKED));
    assert_true(r.stage_ns[FIN_STAGE_RELEASED] < 700000000);
    drop_all(fds[THEM], -1);
}

/* ---- the last close(2) ---- */

static void test_unread_and_held(void **state)
{
    struct fin_policy policy = policy_of(FIN_COURTESY_ORDERLY);
    struct fin_receipt r;
    int fds[2], copy;

    (void) state;
    policy.drain = 0;
    policy.proof_ms = 0;
    tcp_pair(AF_INET, BUFFERS_USUAL, fds);
    copy = fcntl(fds[US], F_DUPFD_CLOEXEC, 0);
    give(fds[THEM], "unread");
    await_input(fds[US]);
    r = closed(NULL, fds[US], &policy);
    assert_int_equal(r.outcome, FIN_OUTCOME_BOUNDED);
    assert_int_not_equal(r.end, FIN_END_RESET);
    assert_seen_fin(see(fds[THEM]), 0);
    drop_all(copy, fds[THEM], -1);
}

static void test_unread_after_both_fins(void **state)
{
    struct fin_policy policy = policy_of(FIN_COURTESY_ORDERLY);
    struct fin_receipt r;
    int fds[2];

    (void) state;
    policy.drain = 0;
    tcp_pair(AF_INET, BUFFERS_USUAL, fds);
    give(fds[THEM], "unread");
    assert_int_equal(shutdown(fds[THEM], SHUT_WR), 0);
    await_event(fds[US], POLLRDHUP);
    r = closed(NULL, fds[US], &policy);
    assert_outcome(&r, FIN_OUTCOME_BOUNDED, FIN_END_FIN);
    assert_seen_fin(see(fds[THEM]), 0);
    drop_all(fds[THEM], -1);
}

static void test_urgent_byte(void **state)
{
    struct fin_policy policy = policy_of(FIN_COURTESY_ORDERLY);
    struct fin_receipt r;
    int fds[2];

    (void) state;
    policy.scope = FIN_SCOPE_DESCRIPTOR;
    tcp_pair(AF_INET, BUFFERS_USUAL, fds);
    assert_int_equal(send(fds[THEM], "!", 1, MSG_OOB), 1);
    await_event(fds[US], POLLPRI);
    r = closed(NULL, fds[US], &policy);
    assert_outcome(&r, FIN_OUTCOME_RESET, FIN_END_RESET);
    assert_seen_reset(see(fds[THEM]));
    drop_all(fds[THEM], -1);
}

/* What is counted up to an urgent byte is short of it, as if of a FIN. */
static void test_urgent_byte_and_reset(void **state)
{
    struct fin_policy policy = policy_of(FIN_COURTESY_ORDERLY);
    struct fin_receipt r;
    int fds[2];

    (void) state;
    policy.drain = 0;
    tcp_pair(AF_INET, BUFFERS_USUAL, fds);
    assert_int_equal(send(fds[THEM], "!", 1, MSG_OOB), 1);
    await_event(fds[US], POLLPRI);
    send_reset(fds[THEM]);
    take_error(fds[US], ECONNRESET);
    r = closed(NULL, fds[US], &policy);
    assert_false(reached(&r, FIN_STAGE_EOF));
    assert_int_not_equal(r.outcome, FIN_OUTCOME_GRACEFUL);
}

static void test_negative_linger2(void **state)
{
    struct fin_policy policy = policy_of(FIN_COURTESY_ORDERLY);
    struct fin_receipt r;
    int fds[2], never = -1;

    (void) state;
    policy.linger_ms = 300; /* longer than a delayed ACK */
    tcp_pair(AF_INET, BUFFERS_USUAL, fds);
    assert_int_equal(setsockopt(fds[US], IPPROTO_TCP, TCP_LINGER2, &never, sizeof never), 0);
    r = closed(NULL, fds[US], &policy);
    assert_outcome(&r, FIN_OUTCOME_TIMED_OUT, FIN_END_RESET);
    assert_true(reached(&r, FIN_STAGE_ACKED));
    assert_int_equal(see(fds[THEM]).next_send, EPIPE);
    drop_all(fds[THEM], -1);
}

/* The program has shut both ways, and its FIN is acknowledged: there is nothing to wait for or to
 * read, and close(2) resets all the same. */
static void test_negative_linger2_after_shutdown(void **state)
{
    struct fin_policy policy = policy_of(FIN_COURTESY_PROMPT);
    struct fin_receipt r;
    int fds[2], never = -1;

    (void) state;
    tcp_pair(AF_INET, BUFFERS_USUAL, fds);
    assert_int_equal(setsockopt(fds[US], IPPROTO_TCP, TCP_LINGER2, &never, sizeof never), 0);
    assert_int_equal(shutdown(fds[US], SHUT_RDWR), 0);
    await_state(fds[US], TCP_FIN_WAIT2);
    r = closed(NULL, fds[US], &policy);
    assert_outcome(&r, FIN_OUTCOME_PROMPT, FIN_END_RESET);
    assert_true(reached(&r, FIN_STAGE_ACKED));
    assert_int_equal(see(fds[THEM]).next_send, EPIPE);
    drop_all(fds[THEM], -1);
}

/* ---- what an abort drops ---- */

static void test_abort_tells_what_it_drops(void **state)
{
    struct fin_policy policy = policy_of(FIN_COURTESY_ABORT);

    (void) state;
    for (int multipath = 0; multipath < 1 + has_mptcp(); multipath++) {
        struct fin_receipt r;
        struct seen seen;
        size_t given;
        int fds[2];

        if (multipath)
            mptcp_pair(fds);
        else
            tcp_pair(AF_INET, BUFFERS_SMALL, fds);
        given = fill(fds[US]);
        r = closed(NULL, fds[US], &policy);
        /* A peer of MPTCP with a full window may ignore the RST. */
        assert_outcome(&r, FIN_OUTCOME_ABORTED, multipath ? FIN_END_KERNEL : FIN_END_RESET);
        assert_true(r.unacked > 0);
        seen = multipath ? (struct seen) { .bytes = given } : see(fds[THEM]);
        assert_true(seen.bytes + r.unacked >= given);
        drop_all(fds[THEM], -1);
    }
}

/* ---- scope descriptor ---- */

static void test_descriptor_of_the_dead(void **state)
{
    struct fin_policy policy = policy_of(FIN_COURTESY_ORDERLY);
    struct fin_receipt r;
    int fds[2], copy;

    (void) state;
    policy.scope = FIN_SCOPE_DESCRIPTOR;
    policy.proof_ms = 0;
    tcp_pair(AF_INET, BUFFERS_USUAL, fds);
    copy = fcntl(fds[US], F_DUPFD_CLOEXEC, 0);
    send_reset(fds[THEM]);
    await_event(fds[US], POLLERR);
    r = closed(NULL, fds[US], &policy);
    assert_outcome(&r, FIN_OUTCOME_RESET, FIN_END_KERNEL);
    take_error(copy, ECONNRESET); /* it is the other holder's still */
    drop_all(copy, -1);
}

static void test_descriptor_acks_nothing(void **state)
{
    struct fin_policy policy = policy_of(FIN_COURTESY_ORDERLY);

    (void) state;
    policy.scope = FIN_SCOPE_DESCRIPTOR;
    policy.proof_ms = 0;
    for (int by_unix = 0; by_unix < 2; by_unix++) {
        struct fin_receipt r;
        int fds[2], copy;

        if (by_unix)
            unix_pair(SOCK_STREAM, fds);
        else
            tcp_pair(AF_INET, BUFFERS_USUAL, fds);
        copy = fcntl(fds[US], F_DUPFD_CLOEXEC, 0);
        give(fds[US], "hello");
        r = closed(NULL, fds[US], &policy);
        assert_outcome(&r, FIN_OUTCOME_GRACEFUL, FIN_END_NONE);
        assert_false(reached(&r, FIN_STAGE_ACKED));
        drop_all(copy, fds[THEM], -1);
    }
}

/* ---- Unix ---- */

static bool close_soon(void *arg)
{
    struct timespec soon = { 0, 50000000 };

    (void) arg; /* our end of the script's life closes the descriptor */
    (void) nanosleep(&soon, NULL);
    return true;
}

static void test_unix_peer_goes_with_ours_unread(void **state)
{
    (void) state;
    for (int i = 0; i < 6;
         i++) { /* before or meanwhile, prompt or orderly, with input or without */
        struct fin_policy policy = policy_of(i & 2 ? FIN_COURTESY_PROMPT : FIN_COURTESY_ORDERLY);
        struct fin_receipt r;
        pid_t peer = 0;
        int fds[2];

        if (i == 3 || i == 5) /* prompt waits for nobody */
            continue;
        unix_pair(SOCK_STREAM, fds);
        give(fds[US], "unread");
        if (i == 4)
            give(fds[THEM], "last words");
        if (i == 1)
            peer = child_start(close_soon, NULL);
        drop_all(fds[THEM], -1);
        r = closed(NULL, fds[US], &policy);
        assert_outcome(&r, FIN_OUTCOME_RESET, FIN_END_RESET);
        assert_int_equal(r.error, -ECONNRESET);
        if (peer)
            child_join(peer);
    }
}

/* Input is left unread, and close(2) resets nobody: the peer has gone before. */
static void test_unix_unread_of_who_is_gone(void **state)
{
    static const int types[] = { SOCK_STREAM, SOCK_SEQPACKET };
    struct fin_policy policy = policy_of(FIN_COURTESY_ORDERLY);

    (void) state;
    policy.scope = FIN_SCOPE_DESCRIPTOR;
    for (int i = 0; i < 4; i++) { /* and who has only shut is reset */
        bool gone = i < 2;
        struct fin_receipt r;
        int fds[2];

        unix_pair(types[i % 2], fds);
        give(fds[THEM], "last words");
        if (gone)
            drop_all(fds[THEM], -1);
        else
            assert_int_equal(shutdown(fds[THEM], SHUT_RDWR), 0);
        r = closed(NULL, fds[US], &policy);
        assert_int_equal(r.outcome, gone ? FIN_OUTCOME_PROMPT : FIN_OUTCOME_RESET);
        assert_int_equal(r.end, gone ? FIN_END_KERNEL : FIN_END_RESET);
        if (!gone)
            take_error(fds[THEM], ECONNRESET);
        if (!gone)
            drop_all(fds[THEM], -1);
    }
}

/* A byte out of band is input too, although MSG_PEEK passes over it. */
static void test_unix_byte_out_of_band(void **state)
{
    struct fin_policy policy = policy_hasty(FIN_COURTESY_ORDERLY);

    (void) state;
    policy.drain = 0;
    for (int shut = 0; shut < 2; shut++) {
        struct fin_receipt r;
        int fds[2];

        unix_pair(SOCK_STREAM, fds);
        if (send(fds[THEM], "!", 1, MSG_OOB) < 0) {
            assert_int_equal(errno, EOPNOTSUPP); /* before Linux 5.15 */
            drop_all(fds[US], fds[THEM], -1);
            skip();
        }
        if (shut)
            assert_int_equal(shutdown(fds[THEM], SHUT_WR), 0);
        r = closed(NULL, fds[US], &policy);
        assert_outcome(&r, FIN_OUTCOME_BOUNDED, FIN_END_RESET);
        take_error(fds[THEM], ECONNRESET);
        drop_all(fds[THEM], -1);
    }
}

static void test_unix_abort_held(void **state)
{
    struct fin_policy policy = policy_of(FIN_COURTESY_ABORT);
    struct fin_receipt r;
    int fds[2], copy;

    (void) state;
    policy.proof_ms = 0;
    unix_pair(SOCK_STREAM, fds);
    copy = fcntl(fds[US], F_DUPFD_CLOEXEC, 0);
    r = closed(NULL, fds[US], &policy);
    assert_outcome(&r, FIN_OUTCOME_ABORTED, FIN_END_NONE);
    give(copy, "alive");
    expect_text(fds[THEM], "alive");
    drop_all(copy, fds[THEM], -1);
}

static void test_empty_message_is_no_end(void **state)
{
    (void) state;
    for (uint64_t drain = 0; drain <= 5; drain += 5) {
        struct fin_policy policy = policy_hasty(FIN_COURTESY_ORDERLY);
        struct fin_receipt r;
        int fds[2];

        policy.drain = drain;
        unix_pair(SOCK_SEQPACKET, fds);
        if (drain)
            give(fds[THEM], "12345");
        assert_int_equal(send(fds[THEM], "", 0, 0), 0);
        r = closed(NULL, fds[US], &policy);
        assert_int_equal(r.outcome, FIN_OUTCOME_BOUNDED);
        assert_false(reached(&r, FIN_STAGE_EOF));
        drop_all(fds[THEM], -1);
    }
}

#ifndef SO_PEEK_OFF
#define SO_PEEK_OFF 42
#endif

/* What the program has looked at is there all the same: TCP has SO_PEEK_OFF since Linux 6.9. */
static void test_peeked_before(void **state)
{
    (void) state;
    for (int tcp = 0; tcp < 2; tcp++) {
        struct fin_policy policy = policy_of(FIN_COURTESY_ORDERLY);
        struct fin_receipt r;
        int fds[2], offset = 0;
        char byte;

        policy.drain = 0;
        if (tcp)
            tcp_pair(AF_INET, BUFFERS_USUAL, fds);
        else
            unix_pair(SOCK_STREAM, fds);
        (void) setsockopt(fds[US], SOL_SOCKET, SO_PEEK_OFF, &offset, sizeof offset);
        give(fds[THEM], "x");
        await_input(fds[US]);
        assert_int_equal(recv(fds[US], &byte, 1, MSG_PEEK), 1);
        r = closed(NULL, fds[US], &policy);
        assert_outcome(&r, FIN_OUTCOME_BOUNDED, FIN_END_RESET);
        drop_all(fds[THEM], -1);
    }
}

/* ---- MPTCP ---- */

static void test_mptcp_reset_before(void **state)
{
    struct fin_policy policy = policy_of(FIN_COURTESY_ORDERLY);

    (void) state;
    if (!has_mptcp())
        skip();
    for (int taken = 0; taken < 2; taken++) {
        struct fin_receipt r;
        int fds[2];

        mptcp_pair(fds);
        (void) fill(fds[US]);
        send_reset(fds[THEM]);
        if (taken)
            take_error(fds[US], ECONNRESET);
        else
            await_event(fds[US], POLLERR);
        r = closed(NULL, fds[US], &policy);
        assert_outcome(&r, FIN_OUTCOME_RESET, taken ? FIN_END_KERNEL : FIN_END_RESET);
        assert_true(r.unacked > 0);
    }
}

static void test_mptcp_shut_for_reading(void **state)
{
    struct fin_policy policy = policy_of(FIN_COURTESY_ORDERLY);
    struct fin_receipt r;
    int fds[2];

    (void) state;
    if (!has_mptcp())
        skip();
    policy.linger_ms = 300;
    mptcp_pair(fds);
    assert_int_equal(shutdown(fds[US], SHUT_RD), 0);
    r = closed(NULL, fds[US], &policy);
    assert_false(reached(&r, FIN_STAGE_EOF));
    assert_true(reached(&r, FIN_STAGE_ACKED));
    assert_int_equal(r.unacked, 0); /* DATA_FIN is no byte */
    drop_all(fds[THEM], -1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        GUARDED(test_error_taken_before),
        GUARDED(test_both_fins_before),
        GUARDED(test_abort_of_what_is_over),
        GUARDED(test_error_taken_by_another),
        GUARDED(test_abort_whose_error_another_takes),
        GUARDED(test_connected_anew_by_another),
        GUARDED(test_abort_in_repair),
        GUARDED(test_user_timeout),
        GUARDED(test_fin_behind_a_shut_read_side),
        GUARDED(test_linger_once),
        GUARDED(test_unread_and_held),
        GUARDED(test_unread_after_both_fins),
        GUARDED(test_urgent_byte),
        GUARDED(test_urgent_byte_and_reset),
        GUARDED(test_negative_linger2),
        GUARDED(test_negative_linger2_after_shutdown),
        GUARDED(test_abort_tells_what_it_drops),
        GUARDED(test_descriptor_of_the_dead),
        GUARDED(test_descriptor_acks_nothing),
        GUARDED(test_unix_peer_goes_with_ours_unread),
        GUARDED(test_unix_unread_of_who_is_gone),
        GUARDED(test_unix_byte_out_of_band),
        GUARDED(test_unix_abort_held),
        GUARDED(test_empty_message_is_no_end),
        GUARDED(test_peeked_before),
        GUARDED(test_mptcp_reset_before),
        GUARDED(test_mptcp_shut_for_reading),
    };

    own_network();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
