/* SPDX-License-Identifier: MIT */

/* What the closer finds out after release: who holds it still, when they let go, when the
 * connection is over; and that it costs others nothing while nobody asks. */

#include "closer_support.h"
#include "keeper.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

/* Longer than any test may take: what completes before has been seen. */
#define FAR_MS 60000

static struct fin_policy proof_of(enum fin_courtesy courtesy, enum fin_stage proof, int32_t ms)
{
    struct fin_policy policy = policy_of(courtesy);

    policy.proof = (int) proof;
    policy.proof_ms = ms;
    return policy;
}

static int copy_of(int fd)
{
    int copy = fcntl(fd, F_DUPFD_CLOEXEC, 0);

    assert_true(copy >= 0);
    return copy;
}

/* Turns until `fd` is released; the completion must not have run yet. */
static void await_release(struct fin_closer *closer, const struct one *one)
{
    while (!is_free(one->fd))
        (void) turn(closer);
    assert_int_equal(one->calls, 0);
}

static void drain_turns(struct fin_closer *closer)
{
    while (is_readable(closer))
        assert_true(fin_closer_dispatch(closer) >= 0);
}

/* ---- holders ---- */

static void expect_held_by(const struct fin_receipt *r, pid_t pid, int fd)
{
    assert_int_equal(r->held, FIN_YES);
    assert_false(reached(r, FIN_STAGE_UNREFERENCED));
    assert_true(search_is(r, FIN_SEARCH_FOUND));
    assert_int_equal(r->holders, 1);
    assert_int_equal(r->holder[0].pid, pid);
    assert_int_equal(r->holder[0].fd, fd);
}

static void test_dup_held(void **state)
{
    struct fin_policy policy = proof_of(FIN_COURTESY_PROMPT, FIN_STAGE_UNREFERENCED, 20);
    struct fin_closer *closer = closer_of(0);

    (void) state;
    policy.find_holders = 1;
    busy(); /* with reading /proc */
    for (int kind = 0; kind < 4; kind++) {
        struct fin_receipt r;
        int fds[2], copy;

        if (kind == 0)
            tcp_pair(AF_INET6, BUFFERS_USUAL, fds);
        else if (kind == 1)
            unix_pair(SOCK_STREAM, fds);
        else if (kind == 2)
            unix_pair(SOCK_DGRAM, fds);
        else {
            fds[US] = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
            fds[THEM] = copy_of(0);
        }
        copy = copy_of(fds[US]);
        r = closed_by(closer, fds[US], &policy);
        expect_held_by(&r, getpid(), copy);
        policy.find_holders = 0;
        r = closed_by(closer, copy, &policy);
        assert_int_equal(r.held, FIN_NO);
        assert_int_equal(r.search, FIN_SEARCH_NONE);
        policy.find_holders = 1;
        drop_all(fds[THEM], -1);
    }
    fin_closer_free(closer);
}

static void test_fork_held(void **state)
{
    struct fin_policy policy = proof_of(FIN_COURTESY_ORDERLY, FIN_STAGE_UNREFERENCED, 20);
    struct fin_closer *closer;
    struct keeper keeper;
    struct fin_receipt r;
    int fds[2];

    (void) state;
    policy.find_holders = 1;
    tcp_pair(AF_INET, BUFFERS_USUAL, fds);
    give(fds[US], "all of it");
    keeper_start(&keeper, NULL, NULL);
    closer = closer_of(0);
    assert_int_equal(shutdown(fds[THEM], SHUT_WR), 0);
    r = closed_by(closer, fds[US], &policy);
    assert_outcome(&r, FIN_OUTCOME_GRACEFUL, FIN_END_FIN);
    expect_held_by(&r, keeper.pid, fds[US]);
    assert_int_equal(see(fds[THEM]).bytes, 9); /* it got FIN although the child holds on */
    keeper_stop(&keeper);
    drop_all(fds[THEM], -1);
    fin_closer_free(closer);
}

static void put_in_flight(int line, int fd)
{
    union {
        struct cmsghdr header;
        char bytes[CMSG_SPACE(sizeof(int))];
    } control = { 0 };
    struct iovec part = { "x", 1 };
    struct msghdr message = {
        .msg_iov = &part,
        .msg_iovlen = 1,
        .msg_control = control.bytes,
        .msg_controllen = sizeof control.bytes,
    };

    control.header.cmsg_level = SOL_SOCKET;
    control.header.cmsg_type = SCM_RIGHTS;
    control.header.cmsg_len = CMSG_LEN(sizeof fd);
    memcpy(CMSG_DATA(&control.header), &fd, sizeof fd);
    assert_int_equal(sendmsg(line, &message, MSG_NOSIGNAL), 1);
}

static void test_in_flight(void **state)
{
    struct fin_policy policy = proof_of(FIN_COURTESY_PROMPT, FIN_STAGE_UNREFERENCED, 20);
    struct fin_closer *closer = closer_of(0);
    struct fin_identity nobody = FIN_IDENTITY_INIT;
    uint32_t unreadable = 0;
    struct fin_receipt r;
    int fds[2], line[2];

    (void) state;
    policy.find_holders = 1;
    tcp_pair(AF_INET, BUFFERS_USUAL, fds);
    unix_pair(SOCK_STREAM, line);
    put_in_flight(line[US], fds[US]);
    r = closed_by(closer, fds[US], &policy);
    assert_int_equal(r.held, FIN_YES);
    /* An ordinary user may not look everywhere. */
    assert_int_equal(fin_holders(&nobody, NULL, 0, &unreadable), 0);
    assert_true(search_is(&r, unreadable ? FIN_SEARCH_BLIND : FIN_SEARCH_INVISIBLE));
    assert_int_equal(r.holders, 0);
    assert_seen_fin(see(fds[THEM]), 0);
    drop_all(line[US], line[THEM], fds[THEM], -1);
    fin_closer_free(closer);
}

struct reader {
    pthread_t thread;
    atomic_int tid;
    int fd;
};

static void *read_on(void *arg)
{
    struct reader *reader = arg;
    char byte;

    atomic_store(&reader->tid, (int) syscall(SYS_gettid));
    /* Not recv(3): that the number is closed meanwhile is what a sanitizer would complain of. */
    assert_int_equal(syscall(SYS_recvfrom, reader->fd, &byte, 1, 0, NULL, NULL), 0);
    return NULL;
}

/* The number is free, and yet a call goes on under it. */
static void test_thread_in_a_call(void **state)
{
    struct fin_policy policy = proof_of(FIN_COURTESY_PROMPT, FIN_STAGE_UNREFERENCED, FAR_MS);
    struct fin_closer *closer = closer_of(0);
    struct reader reader = { 0 };
    struct one one = { 0 };
    int fds[2];

    (void) state;
    policy.find_holders = 1;
    tcp_pair(AF_INET, BUFFERS_USUAL, fds);
    reader.fd = fds[US];
    assert_int_equal(pthread_create(&reader.thread, NULL, read_on, &reader), 0);
    while (!atomic_load(&reader.tid))
        ;
    await_call(atomic_load(&reader.tid), SYS_recvfrom);
    policy.scope = FIN_SCOPE_DESCRIPTOR;
    submit(closer, &one, fds[US], &policy);
    await_release(closer, &one);
    drain_turns(closer);
    assert_int_equal(one.calls, 0);
    assert_int_equal(shutdown(fds[THEM], SHUT_WR), 0); /* lets it return */
    await(closer, &one);
    assert_int_equal(one.receipt.held, FIN_NO);
    assert_int_equal(pthread_join(reader.thread, NULL), 0);
    assert_int_equal(see(fds[THEM]).end, 0);
    drop_all(fds[THEM], -1);
    fin_closer_free(closer);
}

static void test_pipe_held(void **state)
{
    struct fin_policy policy = proof_of(FIN_COURTESY_PROMPT, FIN_STAGE_UNREFERENCED, 20);
    struct fin_closer *closer = closer_of(0);
    struct fin_receipt r;
    int ends[2], copy;

    (void) state;
    policy.find_holders = 1;
    assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
    copy = copy_of(ends[1]);
    r = closed_by(closer, ends[1], &policy);
    assert_int_equal(r.held, FIN_YES);
    assert_true(search_is(&r, FIN_SEARCH_FOUND));
    assert_int_equal(write(copy, "!", 1), 1);
    drop_all(copy, ends[0], -1);
    fin_closer_free(closer);
}

/* ---- one and the same description, closed twice under one number ---- */

static void test_held_twice(void **state)
{
    struct fin_policy far = proof_of(FIN_COURTESY_PROMPT, FIN_STAGE_UNREFERENCED, FAR_MS);
    struct fin_policy near = proof_of(FIN_COURTESY_PROMPT, FIN_STAGE_UNREFERENCED, 30);
    struct fin_closer *closer = closer_of(0);
    struct one first = { 0 }, second = { 0 };
    int fds[2], copy;

    (void) state;
    unix_pair(SOCK_STREAM, fds);
    copy = copy_of(fds[US]);
    submit(closer, &first, fds[US], &far);
    await_release(closer, &first);
    assert_int_equal(dup3(copy, first.fd, O_CLOEXEC), first.fd);
    submit(closer, &second, first.fd, &near);
    await(closer, &second);
    assert_int_equal(second.receipt.held, FIN_YES);
    assert_int_equal(first.calls, 0); /* the copy is there: it must not count as let go */
    drop_all(copy, -1);
    await(closer, &first);
    assert_int_equal(first.receipt.held, FIN_NO);
    drop_all(fds[THEM], -1);
    fin_closer_free(closer);
}

static void test_held_again(void **state)
{
    struct fin_policy near = proof_of(FIN_COURTESY_PROMPT, FIN_STAGE_UNREFERENCED, 10);
    struct fin_closer *closer = closer_of(0);
    struct fin_receipt r;
    int fds[2], copy;

    (void) state;
    busy();
    near.find_holders = 1;
    unix_pair(SOCK_STREAM, fds);
    copy = copy_of(fds[US]);
    for (int i = 0; i < 4; i++) {
        r = closed_by(closer, fds[US], &near);
        expect_held_by(&r, getpid(), copy);
        assert_int_equal(dup3(copy, fds[US], O_CLOEXEC), fds[US]);
    }
    drop_all(copy, -1);
    r = closed_by(closer, fds[US], &near);
    assert_int_equal(r.held, FIN_NO);
    drop_all(fds[THEM], -1);
    fin_closer_free(closer);
}

/* ---- a holder that lets go later ---- */

/* TCP: the kernel tells. Until then nobody looks. */
static void test_let_go_tcp(void **state)
{
    struct fin_policy policy = proof_of(FIN_COURTESY_ORDERLY, FIN_STAGE_UNREFERENCED, FAR_MS);
    struct fin_closer *closer = closer_of(0);
    struct one one = { 0 };
    struct pollfd entry = { .fd = fin_closer_fd(closer), .events = POLLIN };
    int fds[2], copy;

    (void) state;
    tcp_pair(AF_INET, BUFFERS_USUAL, fds);
    copy = copy_of(fds[US]);
    drop_all(fds[THEM], -1);
    submit(closer, &one, fds[US], &policy);
    assert_int_equal(memberships(), 0);
    while (!memberships())
        (void) turn(closer);
    while (poll(&entry, 1, 200) == 1)
        assert_int_equal(fin_closer_dispatch(closer), 0);
    assert_true(fin_closer_next_deadline(closer) > clock_ns() + FAR_MS * 500000ull);
    drop_all(copy, -1);
    await(closer, &one);
    assert_outcome(&one.receipt, FIN_OUTCOME_GRACEFUL, FIN_END_FIN);
    assert_int_equal(one.receipt.held, FIN_NO);
    assert_int_equal(one.receipt.search, FIN_SEARCH_NONE);
    assert_int_equal(memberships(), 0);
    fin_closer_free(closer);
}

/* The socket lives on without a descriptor, since its peer takes nothing: no event tells that. */
static void test_let_go_tcp_deaf(void **state)
{
    struct fin_policy policy = proof_of(FIN_COURTESY_PROMPT, FIN_STAGE_UNREFERENCED, FAR_MS);
    struct fin_closer *closer = closer_of(0);
    struct one one = { 0 };
    size_t bytes;
    int fds[2], copy;

    (void) state;
    tcp_pair(AF_INET, BUFFERS_SMALL, fds);
    bytes = fill(fds[US]);
    copy = copy_of(fds[US]);
    submit(closer, &one, fds[US], &policy);
    await_release(closer, &one);
    drain_turns(closer);
    drop_all(copy, -1);
    await(closer, &one);
    assert_outcome(&one.receipt, FIN_OUTCOME_PROMPT, FIN_END_KERNEL);
    assert_int_equal(one.receipt.held, FIN_NO);
    assert_true(one.receipt.stage_ns[FIN_STAGE_UNREFERENCED] < FAR_MS / 2 * 1000000ll);
    assert_seen_fin(see(fds[THEM]), bytes);
    drop_all(fds[THEM], -1);
    fin_closer_free(closer);
}

/* Scope descriptor: the holder goes on using the connection, then ends it in its own way. */
static void test_let_go_tcp_in_use(void **state)
{
    struct fin_policy policy = proof_of(FIN_COURTESY_ORDERLY, FIN_STAGE_UNREFERENCED, FAR_MS);
    struct fin_closer *closer = closer_of(0);
    struct one one = { 0 };
    int fds[2], copy;

    (void) state;
    policy.scope = FIN_SCOPE_DESCRIPTOR;
    tcp_pair(AF_INET, BUFFERS_USUAL, fds);
    copy = copy_of(fds[US]);
    submit(closer, &one, fds[US], &policy);
    await_release(closer, &one);
    drain_turns(closer);
    give(copy, "hello");
    give(fds[THEM], "hello");
    expect_text(copy, "hello");
    drop_all(copy, -1);
    await(closer, &one);
    assert_int_equal(one.receipt.held, FIN_NO);
    assert_seen_fin(see(fds[THEM]), 5);
    drop_all(fds[THEM], -1);
    fin_closer_free(closer);
}

static void let_go_later(struct fin_closer *closer, int fd, int copy)
{
    struct fin_policy policy = proof_of(FIN_COURTESY_PROMPT, FIN_STAGE_UNREFERENCED, FAR_MS);
    struct one one = { 0 };

    submit(closer, &one, fd, &policy);
    await_release(closer, &one);
    for (int looks = 0; looks < 3; looks++) {
        (void) turn(closer);
        assert_int_equal(one.calls, 0);
        assert_int_equal(memberships(), 0);
    }
    drop_all(copy, -1);
    await(closer, &one);
    assert_int_equal(one.receipt.held, FIN_NO);
    assert_true(one.receipt.stage_ns[FIN_STAGE_UNREFERENCED]
                > one.receipt.stage_ns[FIN_STAGE_RELEASED]);
}

/* No events for these: looks that grow rarer. */
static void test_let_go_others(void **state)
{
    struct fin_closer *closer = closer_of(0);
    int fds[2];

    (void) state;
    unix_pair(SOCK_STREAM, fds);
    let_go_later(closer, fds[US], copy_of(fds[US]));
    assert_seen_fin(see(fds[THEM]), 0);
    drop_all(fds[THEM], -1);
    assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
    let_go_later(closer, fds[1], copy_of(fds[1]));
    drop_all(fds[0], -1);
    fds[US] = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    let_go_later(closer, fds[US], copy_of(fds[US]));
    fin_closer_free(closer);
}

/* ---- finished and gone ---- */

/* The peer's FIN came first, so that the TIME_WAIT is the peer's. */
static void test_gone_tcp(void **state)
{
    static const int families[] = { AF_INET, AF_INET6 };
    struct fin_policy policy = proof_of(FIN_COURTESY_ORDERLY, FIN_STAGE_GONE, FAR_MS);
    struct fin_closer *closer = closer_of(0);

    (void) state;
    for (int i = 0; i < 2; i++) {
        struct fin_receipt r;
        int fds[2];

        tcp_pair(families[i], BUFFERS_USUAL, fds);
        drop_all(fds[THEM], -1);
        await_input(fds[US]);
        r = closed_by(closer, fds[US], &policy);
        assert_outcome(&r, FIN_OUTCOME_GRACEFUL, FIN_END_FIN);
        assert_int_equal(r.held, FIN_NO);
        assert_true(reached(&r, FIN_STAGE_FINISHED));
        assert_true(reached(&r, FIN_STAGE_GONE));
        assert_int_equal(r.unverifiable, 0);
        assert_int_equal(memberships(), 0);
    }
    fin_closer_free(closer);
}

/* The TIME_WAIT is ours: finished at once, gone in a minute. */
static void test_time_wait(void **state)
{
    struct fin_policy policy = proof_of(FIN_COURTESY_ORDERLY, FIN_STAGE_FINISHED, FAR_MS);
    struct fin_closer *closer = closer_of(0);
    struct answerer peer;
    struct fin_receipt r;
    int fds[2];

    (void) state;
    tcp_pair(AF_INET, BUFFERS_USUAL, fds);
    answer(&peer, fds[THEM]);
    r = closed_by(closer, fds[US], &policy);
    assert_seen_fin(answered(&peer), 0);
    assert_outcome(&r, FIN_OUTCOME_GRACEFUL, FIN_END_FIN);
    assert_true(reached(&r, FIN_STAGE_FINISHED));
    assert_false(reached(&r, FIN_STAGE_GONE));

    policy = proof_of(FIN_COURTESY_ORDERLY, FIN_STAGE_GONE, 100);
    tcp_pair(AF_INET, BUFFERS_USUAL, fds);
    answer(&peer, fds[THEM]);
    r = closed_by(closer, fds[US], &policy);
    assert_seen_fin(answered(&peer), 0);
    assert_outcome(&r, FIN_OUTCOME_GRACEFUL, FIN_END_FIN);
    assert_true(reached(&r, FIN_STAGE_FINISHED));
    assert_false(reached(&r, FIN_STAGE_GONE));
    assert_false(unverifiable(&r, FIN_STAGE_GONE));
    assert_int_equal(memberships(), 0);
    fin_closer_free(closer);
}

/* Waiting for the end of a TIME_WAIT is one look when it is due. */
static void test_time_wait_is_not_polled(void **state)
{
    struct fin_policy policy = proof_of(FIN_COURTESY_ORDERLY, FIN_STAGE_GONE, 2 * FAR_MS);
    struct fin_closer *closer = closer_of(0);
    struct pollfd entry = { .fd = fin_closer_fd(closer), .events = POLLIN };
    struct answerer peer;
    struct one one = { 0 };
    int fds[2];

    (void) state;
    tcp_pair(AF_INET, BUFFERS_USUAL, fds);
    answer(&peer, fds[THEM]);
    submit(closer, &one, fds[US], &policy);
    await_release(closer, &one);
    while (fin_closer_next_deadline(closer) < clock_ns() + 10000000000ull)
        (void) turn(closer);
    while (poll(&entry, 1, 300) == 1)
        assert_true(fin_closer_dispatch(closer) >= 0);
    assert_int_equal(one.calls, 0);
    assert_int_equal(memberships(), 0); /* the socket was destroyed: no more events about it */
    assert_seen_fin(answered(&peer), 0);
    assert_int_equal(fin_closer_abort(closer, one.op), 0);
    await(closer, &one);
    assert_true(reached(&one.receipt, FIN_STAGE_FINISHED));
    assert_int_equal(one.receipt.end, FIN_END_FIN);
    fin_closer_free(closer);
}

/* Of a socket that others hold nothing announces the end, which is found out all the same. */
static void test_finished_while_held(void **state)
{
    struct fin_policy policy = proof_of(FIN_COURTESY_PROMPT, FIN_STAGE_FINISHED, FAR_MS);
    struct fin_closer *closer = closer_of(0);
    struct one one = { 0 };
    int fds[2], held;

    (void) state;
    tcp_pair(AF_INET, BUFFERS_USUAL, fds);
    held = copy_of(fds[US]);
    submit(closer, &one, fds[US], &policy);
    await_release(closer, &one);
    drain_turns(closer);
    drop_all(fds[THEM], -1);
    await(closer, &one);
    assert_true(reached(&one.receipt, FIN_STAGE_FINISHED));
    assert_int_equal(one.receipt.held, FIN_YES);
    drop_all(held, -1);
    fin_closer_free(closer);
}

static void test_gone_others(void **state)
{
    struct fin_policy policy = proof_of(FIN_COURTESY_ORDERLY, FIN_STAGE_GONE, FAR_MS);
    struct sockaddr_in address = { .sin_family = AF_INET };
    struct fin_closer *closer = closer_of(0);
    struct fin_receipt r;
    int fds[2];

    (void) state;
    unix_pair(SOCK_STREAM, fds);
    drop_all(fds[THEM], -1);
    r = closed_by(closer, fds[US], &policy);
    assert_int_equal(r.outcome, FIN_OUTCOME_GRACEFUL);
    assert_true(reached(&r, FIN_STAGE_GONE));

    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    fds[US] = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(fds[US], (struct sockaddr *) &address, sizeof address), 0);
    r = closed_by(closer, fds[US], &policy);
    assert_int_equal(r.outcome, FIN_OUTCOME_GRACEFUL);
    assert_true(reached(&r, FIN_STAGE_GONE));

    if (has_mptcp()) {
        mptcp_pair(fds);
        drop_all(fds[THEM], -1);
        r = closed_by(closer, fds[US], &policy);
        assert_true(unverifiable(&r, FIN_STAGE_FINISHED));
        assert_true(unverifiable(&r, FIN_STAGE_GONE));
        assert_int_equal(r.held, FIN_NO);
    }

    assert_int_equal(pipe2(fds, O_CLOEXEC), 0); /* no connection: unreferenced is all there is */
    r = closed_by(closer, fds[0], &policy);
    assert_int_equal(r.held, FIN_NO);
    drop_all(fds[1], -1);
    fin_closer_free(closer);
}

/* ---- the last bytes, after release ---- */

/* `linger2`: TCP_LINGER2, 0: as it is. */
static size_t let_go_of_deaf(struct fin_closer *closer, struct one *one, int fds[2], int linger2)
{
    struct fin_policy policy = proof_of(FIN_COURTESY_ORDERLY, FIN_STAGE_FINISHED, FAR_MS);
    size_t bytes;

    policy.linger_ms = 30;
    tcp_pair(AF_INET, BUFFERS_SMALL, fds);
    if (linger2)
        (void) setsockopt(fds[US], IPPROTO_TCP, TCP_LINGER2, &linger2, sizeof linger2);
    bytes = fill(fds[US]);
    submit(closer, one, fds[US], &policy);
    await_release(closer, one);
    drain_turns(closer);
    return bytes;
}

static void test_acked_after_release(void **state)
{
    struct fin_closer *closer = closer_of(0);
    struct one one = { 0 };
    size_t bytes;
    int fds[2];

    (void) state;
    bytes = let_go_of_deaf(closer, &one, fds, 0);
    assert_int_equal(memberships(), 1);
    assert_seen_fin(see(fds[THEM]), bytes); /* it hears again */
    drop_all(fds[THEM], -1);
    await(closer, &one);
    assert_outcome(&one.receipt, FIN_OUTCOME_TIMED_OUT, FIN_END_FIN);
    assert_true(one.receipt.unacked > 0);
    assert_sound(&one.receipt);
    assert_true(one.receipt.stage_ns[FIN_STAGE_ACKED] > one.receipt.stage_ns[FIN_STAGE_RELEASED]);
    assert_true(reached(&one.receipt, FIN_STAGE_FINISHED));
    assert_int_equal(memberships(), 0);
    fin_closer_free(closer);
}

static void test_reset_after_release(void **state)
{
    struct linger now = { 1, 0 };
    struct fin_closer *closer = closer_of(0);
    struct one one = { 0 };
    int fds[2];

    (void) state;
    (void) let_go_of_deaf(closer, &one, fds, 0);
    assert_int_equal(setsockopt(fds[THEM], SOL_SOCKET, SO_LINGER, &now, sizeof now), 0);
    drop_all(fds[THEM], -1);
    await(closer, &one);
    assert_outcome(&one.receipt, FIN_OUTCOME_TIMED_OUT, FIN_END_KERNEL);
    assert_false(reached(&one.receipt, FIN_STAGE_ACKED));
    assert_true(reached(&one.receipt, FIN_STAGE_FINISHED));
    assert_int_equal(memberships(), 0);
    fin_closer_free(closer);
}

/* The peer has it all, and then RST. */
static void test_acked_and_reset_after_release(void **state)
{
    struct fin_closer *closer = closer_of(0);
    struct one one = { 0 };
    struct seen seen;
    size_t bytes;
    int fds[2];

    (void) state;
    bytes = let_go_of_deaf(closer, &one, fds, -1);
    seen = see(fds[THEM]);
    assert_int_equal(seen.bytes, bytes);
    assert_int_equal(seen.next_send, EPIPE);
    drop_all(fds[THEM], -1);
    await(closer, &one);
    assert_outcome(&one.receipt, FIN_OUTCOME_TIMED_OUT, FIN_END_KERNEL);
    assert_true(reached(&one.receipt, FIN_STAGE_FINISHED));
    fin_closer_free(closer);
}

/* ---- the destroy groups ---- */

static void test_not_joined_without_need(void **state)
{
    struct fin_policy policy = policy_of(FIN_COURTESY_ORDERLY);
    struct fin_closer *closer = closer_of(0);

    (void) state;
    for (int32_t proof_ms = 0; proof_ms <= 5000; proof_ms += 5000) {
        struct one one = { 0 };
        struct answerer peer;
        int fds[2];

        policy.proof_ms = proof_ms;
        tcp_pair(AF_INET, BUFFERS_USUAL, fds);
        submit(closer, &one, fds[US], &policy);
        answer(&peer, fds[THEM]);
        while (one.calls == 0) {
            assert_int_equal(memberships(), 0);
            (void) turn(closer);
        }
        assert_int_equal(one.receipt.held, FIN_NO);
        assert_seen_fin(answered(&peer), 0);
    }
    assert_int_equal(memberships(), 0);
    fin_closer_free(closer);
}

/* Two that share the membership end in different ways; so does a closer that is freed. */
static void test_left_after_need(void **state)
{
    struct fin_policy policy = proof_of(FIN_COURTESY_ORDERLY, FIN_STAGE_UNREFERENCED, FAR_MS);
    struct fin_closer *closer = closer_of(0);
    struct one list[3] = { 0 };
    int fds[3][2], copy[3];

    (void) state;
    for (int i = 0; i < 3; i++) {
        tcp_pair(AF_INET, BUFFERS_USUAL, fds[i]);
        copy[i] = copy_of(fds[i][US]);
        drop_all(fds[i][THEM], -1);
        submit(closer, &list[i], fds[i][US], &policy);
        await_release(closer, &list[i]);
    }
    while (!memberships())
        (void) turn(closer);
    drop_all(copy[0], -1);
    await(closer, &list[0]);
    assert_int_equal(list[0].receipt.held, FIN_NO);
    assert_int_equal(memberships(), 1);
    assert_int_equal(fin_closer_abort(closer, list[1].op), 0);
    await(closer, &list[1]);
    assert_int_equal(list[1].receipt.held, FIN_YES);
    assert_int_equal(memberships(), 1);
    fin_closer_free(closer);
    assert_int_equal(list[2].calls, 1);
    assert_int_equal(memberships(), 0);
    drop_all(copy[1], copy[2], -1);
}

#define FOLLOWED 150

static unsigned long events_dropped(void)
{
    FILE *file = fopen("/proc/net/netlink", "re");
    unsigned long count = 0, drops;
    unsigned protocol;
    char line[256];

    assert_non_null(file);
    while (fgets(line, sizeof line, file))
        if (sscanf(line, "%*s %u %*u %*x %*u %*u %*u %*u %lu", &protocol, &drops) == 2
            && protocol == 4)
            count += drops;
    (void) fclose(file);
    return count;
}

static void churn(void)
{
    struct linger now = { 1, 0 };
    int fds[2];

    tcp_pair(AF_INET, BUFFERS_USUAL, fds);
    assert_int_equal(setsockopt(fds[US], SOL_SOCKET, SO_LINGER, &now, sizeof now), 0);
    drop_all(fds[US], fds[THEM], -1);
}

/* The queue of events is full of other people's sockets: what is lost in it is found by looking. */
static void test_events_lost(void **state)
{
    struct fin_policy policy = proof_of(FIN_COURTESY_ORDERLY, FIN_STAGE_UNREFERENCED, FAR_MS);
    struct fin_closer *closer = closer_of(0);
    static struct one list[FOLLOWED];
    int copy[FOLLOWED];

    (void) state;
    busy();
    memset(list, 0, sizeof list);
    for (int i = 0; i < FOLLOWED; i++) {
        int fds[2];

        tcp_pair(AF_INET, BUFFERS_USUAL, fds);
        copy[i] = copy_of(fds[US]);
        drop_all(fds[THEM], -1);
        submit(closer, &list[i], fds[US], &policy);
        await_release(closer, &list[i]);
    }
    while (fin_closer_next_deadline(closer) < clock_ns() + FAR_MS * 500000ull)
        (void) turn(closer);
    while (events_dropped() == 0)
        churn();
    for (int i = 0; i < FOLLOWED; i++)
        drop_all(copy[i], -1);
    await_all(closer, list, FOLLOWED);
    for (int i = 0; i < FOLLOWED; i++) {
        assert_int_equal(list[i].receipt.held, FIN_NO);
        assert_true(list[i].receipt.stage_ns[FIN_STAGE_UNREFERENCED] < FAR_MS / 2 * 1000000ll);
    }
    assert_int_equal(memberships(), 0);
    drain_turns(closer);
    assert_false(is_readable(closer));
    fin_closer_free(closer);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        GUARDED(test_dup_held),
        GUARDED(test_fork_held),
        GUARDED(test_in_flight),
        GUARDED(test_thread_in_a_call),
        GUARDED(test_pipe_held),
        GUARDED(test_held_twice),
        GUARDED(test_held_again),
        GUARDED(test_let_go_tcp),
        GUARDED(test_let_go_tcp_deaf),
        GUARDED(test_let_go_tcp_in_use),
        GUARDED(test_let_go_others),
        GUARDED(test_gone_tcp),
        GUARDED(test_time_wait),
        GUARDED(test_time_wait_is_not_polled),
        GUARDED(test_finished_while_held),
        GUARDED(test_gone_others),
        GUARDED(test_acked_after_release),
        GUARDED(test_reset_after_release),
        GUARDED(test_acked_and_reset_after_release),
        GUARDED(test_not_joined_without_need),
        GUARDED(test_left_after_need),
        GUARDED(test_events_lost),
    };

    own_network();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
