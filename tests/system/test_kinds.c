/* SPDX-License-Identifier: MIT */

/* Closing everything that is not a connected stream: datagrams, listening and connecting sockets,
 * sockets never connected, pipes. */

#include "support.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <unistd.h>

/* No stream: released and unreferenced, and nothing else reached. */
static void assert_no_stream(const struct fin_receipt *r, enum fin_outcome outcome)
{
    assert_outcome(r, outcome, FIN_END_NONE);
    assert_int_equal(r->phase, FIN_PHASE_NONE);
    assert_int_equal(r->error, 0);
    assert_int_equal(r->held, FIN_NO);
    assert_int_equal(r->unverifiable, 0);
    assert_false(reached(r, FIN_STAGE_SHUT));
    assert_false(reached(r, FIN_STAGE_ACKED));
    assert_false(reached(r, FIN_STAGE_EOF));
    assert_true(reached(r, FIN_STAGE_UNREFERENCED));
}

static void close_no_stream(int fd)
{
    struct fin_policy policy = policy_of(FIN_COURTESY_ORDERLY);
    struct fin_receipt r;

    assert_true(fd >= 0);
    r = closed(NULL, fd, &policy);
    assert_no_stream(&r, FIN_OUTCOME_GRACEFUL);
}

/* ---- datagrams ---- */

static int bound_udp(int family)
{
    struct sockaddr_storage address = { .ss_family = (sa_family_t) family };
    int fd = socket(family, SOCK_DGRAM | SOCK_CLOEXEC, 0);

    if (family == AF_INET)
        ((struct sockaddr_in *) &address)->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    else
        ((struct sockaddr_in6 *) &address)->sin6_addr = in6addr_loopback;
    assert_int_equal(bind(fd, (struct sockaddr *) &address, sizeof address), 0);
    return fd;
}

static void test_udp(void **state)
{
    (void) state;
    for (int family = AF_INET; family <= AF_INET6; family += AF_INET6 - AF_INET) {
        struct sockaddr_storage address;
        int server = bound_udp(family), fd = bound_udp(family);
        socklen_t size = address_of(server, &address);

        close_no_stream(socket(family, SOCK_DGRAM | SOCK_CLOEXEC, 0)); /* without an address */
        close_no_stream(fd);
        fd = bound_udp(family);
        assert_int_equal(connect(fd, (struct sockaddr *) &address, size), 0);
        give(fd, "one");
        give(fd, "two");
        close_no_stream(fd);
        expect_text(server, "one"); /* what was sent arrives */
        expect_text(server, "two");
        close_no_stream(server);
    }
}

static void test_udp_proof(void **state)
{
    struct fin_policy policy = policy_of(FIN_COURTESY_ORDERLY);
    struct fin_receipt r;

    (void) state;
    policy.proof = FIN_STAGE_GONE;
    r = closed(NULL, bound_udp(AF_INET), &policy);
    assert_no_stream(&r, FIN_OUTCOME_GRACEFUL);
    assert_true(reached(&r, FIN_STAGE_FINISHED));
    assert_true(reached(&r, FIN_STAGE_GONE));
}

static void test_unix_datagram(void **state)
{
    int fds[2];

    (void) state;
    unix_pair(SOCK_DGRAM, fds);
    give(fds[US], "one");
    give(fds[THEM], "unread");
    close_no_stream(fds[US]);
    expect_text(fds[THEM], "one");
    assert_int_equal(send(fds[THEM], "x", 1, MSG_NOSIGNAL), -1);
    close_no_stream(fds[THEM]);
    close_no_stream(socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0));
}

/* ---- pipes and sockets without a stream ---- */

static void test_pipe(void **state)
{
    int fds[2];
    char buf[8];

    (void) state;
    assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
    assert_int_equal(write(fds[1], "hello", 5), 5);
    close_no_stream(fds[1]);
    assert_int_equal(read(fds[0], buf, sizeof buf), 5);
    assert_int_equal(read(fds[0], buf, sizeof buf), 0);
    close_no_stream(fds[0]);

    assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
    close_no_stream(fds[0]);
    assert_int_equal(write(fds[1], "x", 1), -1);
    assert_int_equal(errno, EPIPE);
    drop_all(fds[1], -1);
}

/* write(2) has no MSG_NOSIGNAL: its SIGPIPE is the test's own. */
static int ignore_broken_pipes(void **state)
{
    return guard_begin(state) < 0 || signal(SIGPIPE, SIG_IGN) == SIG_ERR ? -1 : 0;
}

static void test_never_connected(void **state)
{
    (void) state;
    close_no_stream(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    close_no_stream(socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0));
    if (has_mptcp())
        close_no_stream(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, IPPROTO_MPTCP));
    close_no_stream(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    close_no_stream(socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0));
}

static void test_other_courtesies(void **state)
{
    struct fin_policy prompt = policy_of(FIN_COURTESY_PROMPT);
    struct fin_policy aborts = policy_of(FIN_COURTESY_ABORT);
    struct fin_receipt r;

    (void) state;
    r = closed(NULL, bound_udp(AF_INET), &prompt);
    assert_no_stream(&r, FIN_OUTCOME_PROMPT);
    r = closed(NULL, bound_udp(AF_INET), &aborts);
    assert_no_stream(&r, FIN_OUTCOME_ABORTED);
    r = closed(NULL, socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), &prompt);
    assert_no_stream(&r, FIN_OUTCOME_PROMPT);
    r = closed(NULL, socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), &aborts);
    assert_no_stream(&r, FIN_OUTCOME_ABORTED);
}

/* ---- connecting ---- */

static int connecting(int listener, int family)
{
    struct sockaddr_storage address;
    socklen_t size = address_of(listener, &address);
    int fd = socket(family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

    assert_int_equal(connect(fd, (struct sockaddr *) &address, size), -1);
    assert_int_equal(errno, EINPROGRESS);
    return fd;
}

/* A full accept queue drops SYNs: the attempt stays in the making. */
static void test_connecting(void **state)
{
    (void) state;
    for (int family = AF_INET; family <= AF_INET6; family += AF_INET6 - AF_INET) {
        int listener = listen_tcp(family, 0, 0, BUFFERS_USUAL);
        int first = connect_to(listener, 0, BUFFERS_USUAL);

        close_no_stream(connecting(listener, family));
        drop_all(first, listener, -1);
    }
}

static void test_connecting_all_policies(void **state)
{
    int listener = listen_tcp(AF_INET, 0, 0, BUFFERS_USUAL);
    int first = connect_to(listener, 0, BUFFERS_USUAL);

    (void) state;
    for (enum fin_courtesy c = FIN_COURTESY_ABORT; c <= FIN_COURTESY_FULL; c++)
        for (enum fin_scope s = FIN_SCOPE_DEFAULT; s <= FIN_SCOPE_DESCRIPTOR; s++) {
            struct fin_policy policy = policy_of(c);
            struct fin_receipt r;

            policy.scope = (int) s;
            r = closed(NULL, connecting(listener, AF_INET), &policy);
            assert_int_equal(r.end, FIN_END_NONE);
            assert_int_equal(r.held, FIN_NO);
            assert_int_equal(r.error, 0);
        }
    drop_all(first, listener, -1);
}

static void test_refused(void **state)
{
    struct fin_policy policy = policy_of(FIN_COURTESY_ORDERLY);
    int listener = listen_tcp(AF_INET, 0, 0, BUFFERS_USUAL);
    struct sockaddr_storage address;
    socklen_t size = address_of(listener, &address);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    struct fin_receipt r;

    (void) state;
    drop_all(listener, -1);
    (void) connect(fd, (struct sockaddr *) &address, size);
    r = closed(NULL, fd, &policy);
    assert_int_not_equal(r.end, FIN_END_FIN);
    assert_int_equal(r.held, FIN_NO);
    assert_false(reached(&r, FIN_STAGE_ACKED));
    assert_false(reached(&r, FIN_STAGE_EOF));
}

/* ---- listening sockets ---- */

static void test_listener_by_default(void **state)
{
    int fd = listen_tcp(AF_INET, 0, 8, BUFFERS_USUAL), copy = fcntl(fd, F_DUPFD_CLOEXEC, 0);
    struct fin_policy policy = policy_of(FIN_COURTESY_ORDERLY);
    struct fin_receipt r;
    int client, server;

    (void) state;
    policy.proof_ms = 0;
    r = closed(NULL, fd, &policy);
    assert_outcome(&r, FIN_OUTCOME_GRACEFUL, FIN_END_NONE);
    assert_int_equal(r.held, FIN_YES);
    assert_int_equal(r.accepted, 0);
    client = connect_to(copy, 0, BUFFERS_USUAL); /* the other holder noticed nothing */
    server = accept4(copy, NULL, NULL, SOCK_CLOEXEC);
    assert_true(server >= 0);
    drop_all(client, server, -1);
    close_no_stream(copy);
}

static void queue_gets_eof(int listener, int count)
{
    struct fin_policy policy = policy_of(FIN_COURTESY_ORDERLY);
    struct fin_receipt r;
    int clients[8];

    policy.scope = FIN_SCOPE_CONNECTION;
    for (int i = 0; i < count; i++) {
        clients[i] = connect_to(listener, 0, BUFFERS_USUAL);
        give(clients[i], "request");
    }
    r = closed(NULL, listener, &policy);
    assert_no_stream(&r, FIN_OUTCOME_GRACEFUL);
    assert_int_equal(r.accepted, count);
    for (int i = 0; i < count; i++) {
        assert_seen_fin(see(clients[i]), 0);
        drop_all(clients[i], -1);
    }
}

static void test_listener_queue(void **state)
{
    struct sockaddr_storage address;
    socklen_t size;

    (void) state;
    busy(); /* sock_diag walks through all connections of the machine */
    for (int count = 0; count <= 8; count += 8) {
        queue_gets_eof(listen_tcp(AF_INET, 0, 8, BUFFERS_USUAL), count);
        queue_gets_eof(listen_tcp(AF_INET6, 0, 8, BUFFERS_USUAL), count);
        queue_gets_eof(listen_unix(&address, &size), count);
    }
}

struct taken {
    int fds[8];
    size_t count;
};

static void take(int fd, void *arg)
{
    struct taken *taken = arg;

    assert_true(taken->count < 8);
    assert_true(fcntl(fd, F_GETFD) & FD_CLOEXEC);
    assert_true(fcntl(fd, F_GETFL) & O_NONBLOCK);
    taken->fds[taken->count++] = fd;
}

/* SO_GET_FILTER tells how many instructions there are. */
static void assert_unfiltered(int fd)
{
    socklen_t count = 0;

    assert_int_equal(getsockopt(fd, SOL_SOCKET, SO_GET_FILTER, NULL, &count), 0);
    assert_int_equal(count, 0);
}

static void queue_is_handed_over(int listener)
{
    struct fin_policy policy = policy_of(FIN_COURTESY_ORDERLY);
    struct taken taken = { .count = 0 };
    struct fin_receipt r;
    int clients[3];

    policy.scope = FIN_SCOPE_CONNECTION;
    policy.accepted = take;
    policy.accepted_arg = &taken;
    for (int i = 0; i < 3; i++) {
        clients[i] = connect_to(listener, 0, BUFFERS_USUAL);
        give(clients[i], "ask");
    }
    r = closed(NULL, listener, &policy);
    assert_no_stream(&r, FIN_OUTCOME_GRACEFUL);
    assert_int_equal(r.accepted, 3);
    assert_int_equal(taken.count, 3);
    for (int i = 0; i < 3; i++) { /* they are connections like any other */
        assert_unfiltered(taken.fds[i]);
        expect_text(taken.fds[i], "ask");
        give(taken.fds[i], "answer");
        expect_text(clients[i], "answer");
        give(clients[i], "more");
        await_input(taken.fds[i]);
        expect_text(taken.fds[i], "more");
        drop_all(taken.fds[i], clients[i], -1);
    }
}

static void test_listener_hands_over(void **state)
{
    struct sockaddr_storage address;
    socklen_t size;

    (void) state;
    queue_is_handed_over(listen_tcp(AF_INET, 0, 8, BUFFERS_USUAL));
    queue_is_handed_over(listen_tcp(AF_INET6, 0, 8, BUFFERS_USUAL));
    queue_is_handed_over(listen_unix(&address, &size));
}

struct half_open {
    int listener, client, yields;
};

/* Once the close has shut the doors, which the filter shows. */
static void *complete_handshake(void *arg)
{
    const struct half_open *half = arg;
    socklen_t count = 0;

    while (count == 0)
        assert_int_equal(getsockopt(half->listener, SOL_SOCKET, SO_GET_FILTER, NULL, &count), 0);
    for (int i = 0; i < half->yields; i++)
        (void) sched_yield();
    (void) send(half->client, "late", 4, MSG_NOSIGNAL);
    return NULL;
}

static void half_open_is_waited_for(int yields)
{
    int listener = listen_tcp(AF_INET, 0, 8, BUFFERS_USUAL), seconds = 10;
    struct fin_policy policy = policy_of(FIN_COURTESY_ORDERLY);
    struct half_open half = { .yields = yields };
    struct fin_receipt r;
    pthread_t thread;

    policy.scope = FIN_SCOPE_CONNECTION;
    policy.linger_ms = policy.total_ms = GUARD_S * 1000;
    assert_int_equal(setsockopt(listener, IPPROTO_TCP, TCP_DEFER_ACCEPT, &seconds, sizeof seconds),
                     0);
    half.listener = fcntl(listener, F_DUPFD_CLOEXEC, 0);
    half.client = connect_to(listener, 0, BUFFERS_USUAL);
    policy.proof_ms = 0;
    assert_int_equal(pthread_create(&thread, NULL, complete_handshake, &half), 0);
    r = closed(NULL, listener, &policy);
    assert_int_equal(pthread_join(thread, NULL), 0);
    assert_int_equal(r.accepted, 1);
    assert_seen_fin(see(half.client), 0);
    drop_all(half.client, half.listener, -1);
}

/* A client in the middle of its handshake is waited for, whatever the close looks at while it
 * completes that: by twenty turns of the processor a close that did not wait is over. With
 * TCP_DEFER_ACCEPT it stays there until it sends. */
static void test_listener_half_open(void **state)
{
    (void) state;
    busy(); /* the thread is not what is looked at */
    for (int i = 0; i < 100; i++)
        half_open_is_waited_for(i % 21);
}

/* What is left in the queue at the deadline is reset by the kernel, and the receipt admits it. */
static void test_listener_no_time(void **state)
{
    int listener = listen_tcp(AF_INET, 0, 8, BUFFERS_USUAL), clients[8];
    struct fin_policy policy = policy_of(FIN_COURTESY_ORDERLY);
    struct fin_receipt r;
    uint64_t content = 0;

    (void) state;
    policy.scope = FIN_SCOPE_CONNECTION;
    policy.linger_ms = 0;
    for (int i = 0; i < 8; i++)
        clients[i] = connect_to(listener, 0, BUFFERS_USUAL);
    r = closed(NULL, listener, &policy);
    assert_outcome(&r, FIN_OUTCOME_TIMED_OUT, FIN_END_NONE);
    assert_int_equal(r.phase, FIN_PHASE_LINGER);
    for (int i = 0; i < 8; i++) {
        content += see(clients[i]).end == 0;
        drop_all(clients[i], -1);
    }
    assert_int_equal(r.accepted, content);
    assert_true(content < 8);
}

/* ---- a listening socket under load ---- */

#define CROWD_MAX 6000

struct crowd {
    pthread_t thread;
    struct sockaddr_storage address;
    socklen_t size;
    atomic_bool over;
    atomic_size_t connected;
    size_t count;
    int fds[CROWD_MAX];
};

/* Waits for a connection until the crowd is stopped; then looks a last time. Returns an errno. */
static int await_connection(struct crowd *c, int fd)
{
    struct pollfd entry = { .fd = fd, .events = POLLOUT };
    socklen_t size = sizeof(int);
    bool last = false;
    int error;

    while (poll(&entry, 1, last ? 0 : 1) == 0) {
        if (last)
            return EINPROGRESS;
        last = atomic_load(&c->over);
    }
    return getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &size) < 0 ? errno : error;
}

/* Connects until it is refused or told to stop. */
static void *crowd_main(void *arg)
{
    struct crowd *c = arg;

    while (!atomic_load(&c->over) && c->count < CROWD_MAX) {
        int fd = socket(c->address.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        int error = connect(fd, (struct sockaddr *) &c->address, c->size) < 0 ? errno : 0;

        if (error == EINPROGRESS)
            error = await_connection(c, fd);
        if (error) {
            (void) close(fd);
            return NULL;
        }
        (void) send(fd, "x", 1, MSG_NOSIGNAL);
        c->fds[c->count++] = fd;
        atomic_store(&c->connected, c->count);
    }
    return NULL;
}

static void crowd_start(struct crowd *c, int listener)
{
    memset(c, 0, sizeof *c);
    c->size = address_of(listener, &c->address);
    assert_int_equal(pthread_create(&c->thread, NULL, crowd_main, c), 0);
    while (atomic_load(&c->connected) < 20) /* they keep coming from here on */
        assert_int_equal(sched_yield(), 0);
}

static void crowd_stop(struct crowd *c)
{
    atomic_store(&c->over, true);
    assert_int_equal(pthread_join(c->thread, NULL), 0);
}

/* Everyone who got through was accepted and saw EOF. */
static void crowd_is_content(struct crowd *c, const struct fin_receipt *r)
{
    size_t reset = 0;

    for (size_t i = 0; i < c->count; i++) {
        struct pollfd entry = { .fd = c->fds[i], .events = POLLIN };
        char byte;

        assert_int_equal(poll(&entry, 1, GUARD_S * 1000), 1);
        if (recv(c->fds[i], &byte, 1, 0) != 0)
            reset++;
        assert_int_equal(close(c->fds[i]), 0);
    }
    assert_int_equal(reset, 0);
    assert_int_equal(r->accepted, c->count);
}

static void close_under_load(int listener)
{
    static struct crowd crowd;
    struct fin_policy policy = policy_of(FIN_COURTESY_ORDERLY);
    struct fin_receipt r;

    policy.scope = FIN_SCOPE_CONNECTION;
    policy.linger_ms = 5000;
    crowd_start(&crowd, listener);
    r = closed(NULL, listener, &policy);
    crowd_stop(&crowd);
    assert_no_stream(&r, FIN_OUTCOME_GRACEFUL);
    crowd_is_content(&crowd, &r);
}

static void test_listener_under_load(void **state)
{
    struct sockaddr_storage address;
    socklen_t size;

    (void) state;
    busy();
    for (int i = 0; i < 5; i++) {
        close_under_load(listen_tcp(AF_INET, 0, 4096, BUFFERS_USUAL));
        close_under_load(listen_tcp(AF_INET6, 0, 4096, BUFFERS_USUAL));
        close_under_load(listen_unix(&address, &size));
    }
}

/* A holder in another process learns that it is over, and the number is released here. */
static void test_listener_held(void **state)
{
    int fd = listen_tcp(AF_INET, 0, 8, BUFFERS_USUAL), copy = fcntl(fd, F_DUPFD_CLOEXEC, 0);
    int client = connect_to(fd, 0, BUFFERS_USUAL);
    struct fin_policy policy = policy_of(FIN_COURTESY_ORDERLY);
    struct fin_receipt r;

    (void) state;
    policy.scope = FIN_SCOPE_CONNECTION;
    policy.proof_ms = 0;
    r = closed(NULL, fd, &policy);
    assert_int_equal(r.accepted, 1);
    assert_int_equal(r.held, FIN_YES);
    assert_seen_fin(see(client), 0);
    drop_all(client, copy, -1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        GUARDED(test_udp),
        GUARDED(test_udp_proof),
        GUARDED(test_unix_datagram),
        GUARDED_BY(test_pipe, ignore_broken_pipes, guard_end),
        GUARDED(test_never_connected),
        GUARDED(test_other_courtesies),
        GUARDED(test_connecting),
        GUARDED(test_connecting_all_policies),
        GUARDED(test_refused),
        GUARDED(test_listener_by_default),
        GUARDED(test_listener_queue),
        GUARDED(test_listener_hands_over),
        GUARDED(test_listener_half_open),
        GUARDED(test_listener_no_time),
        GUARDED(test_listener_under_load),
        GUARDED(test_listener_held),
    };

    own_network();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
