/* SPDX-License-Identifier: MIT */

/* Many closes at once from one thread: every kind, what a completion may do, the ends that a
 * program can force, and what the closer's one descriptor tells. */

#include "closer_support.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <string.h>
#include <unistd.h>

/* ---- every kind ---- */

static void close_stream(struct fin_closer *closer, int fds[2])
{
    struct fin_policy policy = policy_of(FIN_COURTESY_ORDERLY);
    struct answerer peer;
    struct fin_receipt r;

    give(fds[US], "all of it");
    answer(&peer, fds[THEM]);
    r = closed_by(closer, fds[US], &policy);
    assert_outcome(&r, FIN_OUTCOME_GRACEFUL, FIN_END_FIN);
    assert_int_equal(r.held, FIN_NO);
    assert_true(reached(&r, FIN_STAGE_EOF));
    assert_true(reached(&r, FIN_STAGE_ACKED));
    assert_seen_fin(answered(&peer), 9);
}

static void test_streams(void **state)
{
    struct fin_closer *closer = closer_of(0);
    int fds[2];

    (void) state;
    tcp_pair(AF_INET, BUFFERS_USUAL, fds);
    close_stream(closer, fds);
    tcp_pair(AF_INET6, BUFFERS_USUAL, fds);
    close_stream(closer, fds);
    fin_closer_free(closer);
}

static void test_unix_streams(void **state)
{
    static const int types[] = { SOCK_STREAM, SOCK_SEQPACKET };
    struct fin_closer *closer = closer_of(0);
    int fds[2];

    (void) state;
    for (size_t i = 0; i < 2; i++) {
        unix_pair(types[i], fds);
        close_stream(closer, fds);
    }
    fin_closer_free(closer);
}

static void test_mptcp(void **state)
{
    struct fin_policy policy = policy_of(FIN_COURTESY_ORDERLY);
    struct fin_closer *closer;
    struct answerer peer;
    struct fin_receipt r;
    int fds[2];

    (void) state;
    if (!has_mptcp())
        skip();
    closer = closer_of(0);
    mptcp_pair(fds);
    give(fds[US], "all of it");
    answer(&peer, fds[THEM]);
    r = closed_by(closer, fds[US], &policy);
    assert_outcome(&r, FIN_OUTCOME_GRACEFUL, FIN_END_FIN);
    assert_true(reached(&r, FIN_STAGE_ACKED));
    assert_int_equal(answered(&peer).bytes, 9);
    fin_closer_free(closer);
}

static void test_courtesies(void **state)
{
    struct fin_policy abrupt = policy_of(FIN_COURTESY_ABORT);
    struct fin_policy prompt = policy_of(FIN_COURTESY_PROMPT);
    struct fin_closer *closer = closer_of(0);
    struct fin_receipt r;
    int fds[2];

    (void) state;
    tcp_pair(AF_INET, BUFFERS_USUAL, fds);
    r = closed_by(closer, fds[US], &abrupt);
    assert_outcome(&r, FIN_OUTCOME_ABORTED, FIN_END_RESET);
    assert_seen_reset(see(fds[THEM]));
    drop_all(fds[THEM], -1);

    tcp_pair(AF_INET, BUFFERS_USUAL, fds);
    give(fds[US], "all of it");
    r = closed_by(closer, fds[US], &prompt);
    assert_outcome(&r, FIN_OUTCOME_PROMPT, FIN_END_KERNEL);
    assert_seen_fin(see(fds[THEM]), 9);
    drop_all(fds[THEM], -1);

    prompt.scope = FIN_SCOPE_DESCRIPTOR;
    tcp_pair(AF_INET, BUFFERS_USUAL, fds);
    r = closed_by(closer, fds[US], &prompt);
    assert_false(reached(&r, FIN_STAGE_SHUT));
    assert_seen_fin(see(fds[THEM]), 0);
    drop_all(fds[THEM], -1);
    fin_closer_free(closer);
}

static void close_streamless(struct fin_closer *closer, int fd)
{
    struct fin_policy policy = policy_of(FIN_COURTESY_ORDERLY);
    struct fin_receipt r = closed_by(closer, fd, &policy);

    assert_outcome(&r, FIN_OUTCOME_GRACEFUL, FIN_END_NONE);
    assert_int_equal(r.held, FIN_NO);
    assert_int_equal(r.unverifiable, 0);
    assert_false(reached(&r, FIN_STAGE_SHUT));
    assert_false(reached(&r, FIN_STAGE_EOF));
}

static void test_no_streams(void **state)
{
    struct sockaddr_in address = { .sin_family = AF_INET, .sin_port = htons(9) };
    struct fin_closer *closer = closer_of(0);
    int fds[2];

    (void) state;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    close_streamless(closer, socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    fds[US] = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    close_streamless(closer, fds[US]);
    fds[US] = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    assert_int_equal(connect(fds[US], (struct sockaddr *) &address, sizeof address), 0);
    close_streamless(closer, fds[US]);
    unix_pair(SOCK_DGRAM, fds);
    close_streamless(closer, fds[US]);
    assert_true(send(fds[THEM], "!", 1, MSG_NOSIGNAL) < 0);
    drop_all(fds[THEM], -1);
    fin_closer_free(closer);
}

static void test_pipes(void **state)
{
    struct fin_closer *closer = closer_of(0);
    int ends[2];
    char byte;

    (void) state;
    assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
    close_streamless(closer, ends[1]);
    assert_int_equal(read(ends[0], &byte, 1), 0);
    close_streamless(closer, ends[0]);
    fin_closer_free(closer);
}

static void take_accepted(int fd, void *arg)
{
    *(int *) arg = fd;
}

static void test_listeners(void **state)
{
    struct fin_policy policy = policy_of(FIN_COURTESY_ORDERLY);
    struct fin_closer *closer = closer_of(0);
    int listener, client, accepted = -1;
    struct fin_receipt r;

    (void) state;
    listener = listen_tcp(AF_INET, 0, 8, BUFFERS_USUAL);
    r = closed_by(closer, listener, &policy);
    assert_outcome(&r, FIN_OUTCOME_GRACEFUL, FIN_END_NONE);

    policy.scope = FIN_SCOPE_CONNECTION;
    policy.accepted = take_accepted;
    policy.accepted_arg = &accepted;
    listener = listen_tcp(AF_INET, 0, 8, BUFFERS_USUAL);
    client = connect_to(listener, 0, BUFFERS_USUAL);
    r = closed_by(closer, listener, &policy);
    assert_int_equal(r.accepted, 1);
    assert_int_equal(r.outcome, FIN_OUTCOME_GRACEFUL);
    give(client, "in time");
    expect_text(accepted, "in time");
    drop_all(client, accepted, -1);
    fin_closer_free(closer);
}

/* A SYN to a full queue is not answered: the connection stays in the making. */
static void test_connecting(void **state)
{
    int listener = listen_tcp(AF_INET, 0, 0, BUFFERS_USUAL);
    struct fin_policy policy = policy_of(FIN_COURTESY_ORDERLY);
    struct fin_closer *closer = closer_of(0);
    int queued = connect_to(listener, 0, BUFFERS_USUAL);
    struct sockaddr_storage address;
    socklen_t size = address_of(listener, &address);
    struct fin_receipt r;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

    (void) state;
    assert_int_equal(connect(fd, (struct sockaddr *) &address, size), -1);
    assert_int_equal(errno, EINPROGRESS);
    r = closed_by(closer, fd, &policy);
    assert_int_equal(r.end, FIN_END_NONE);
    assert_int_equal(r.held, FIN_NO);
    drop_all(queued, listener, -1);
    fin_closer_free(closer);
}

/* ---- refused at submission ---- */

static void expect_refused(struct fin_closer *closer, int fd, const struct fin_policy *policy,
                           int error)
{
    struct one one = { 0 };

    assert_int_equal(fin_closer_submit(closer, fd, policy, completed, &one, &one.op), error);
    assert_int_equal(one.op, 0);
    assert_int_equal(one.calls, 0);
    assert_int_equal(pending(closer), 0);
}

static void test_refused(void **state)
{
    struct fin_policy policy = policy_of(FIN_COURTESY_ORDERLY), wrong = policy;
    struct fin_closer_counters counters = { 0 };
    struct fin_closer_options options = { 0 };
    struct fin_closer *closer = closer_of(0), *none = NULL;
    struct fake_layer fake;
    int fds[2], file = open("/dev/null", O_RDONLY | O_CLOEXEC);

    (void) state;
    tcp_pair(AF_INET, BUFFERS_USUAL, fds);
    fake_layer(&fake);
    wrong.linger_ms = -1;
    expect_refused(closer, fds[US], &wrong, -ERANGE);
    expect_refused(closer, -1, &policy, -EBADF);
    expect_refused(closer, file, &policy, -EOPNOTSUPP);
    assert_int_equal(fin_closer_submit(NULL, fds[US], &policy, completed, NULL, NULL), -EINVAL);
    assert_int_equal(
        fin_closer_submit_layered(closer, fds[US], NULL, &policy, completed, NULL, NULL), -EINVAL);
    fake.layer.read = NULL;
    assert_int_equal(
        fin_closer_submit_layered(closer, fds[US], &fake.layer, &policy, completed, NULL, NULL),
        -EINVAL);
    assert_int_equal(fin_closer_new(NULL, NULL), -EINVAL);
    assert_int_equal(fin_closer_new(&options, &none), -EINVAL);
    assert_null(none);
    assert_int_equal(fin_closer_count(closer, &counters), -EINVAL);
    assert_int_equal(fin_closer_count(closer, NULL), -EINVAL);
    assert_int_equal(fin_closer_drain(closer, -1), -ERANGE);
    assert_int_equal(fin_closer_drain(NULL, 0), -EINVAL);
    assert_int_equal(fin_closer_dispatch(NULL), -EINVAL);
    assert_int_equal(fin_closer_abort(closer, 0), -ENOENT);
    assert_int_equal(fin_closer_abort(closer, UINT64_MAX), -ENOENT);
    assert_null(fin_closer_free(NULL));
    give(fds[US], "still mine");
    expect_text(fds[THEM], "still mine");
    drop_all(fds[US], fds[THEM], file, -1);
    fin_closer_free(closer);
}

/* ---- order ---- */

#define MANY 40

static void open_many(int (*fds)[2])
{
    for (int i = 0; i < MANY; i++)
        tcp_pair(AF_INET, BUFFERS_USUAL, fds[i]);
}

/* Whatever the order in which they come to their end. */
static void test_order(void **state)
{
    struct fin_policy policy = policy_of(FIN_COURTESY_ORDERLY);
    struct fin_closer *closer = closer_of(0);
    struct one list[MANY] = { 0 };
    int fds[MANY][2];

    (void) state;
    open_many(fds);
    for (int i = 0; i < MANY; i++)
        submit(closer, &list[i], fds[i][US], &policy);
    while (is_readable(closer)) /* until all that is left to come is the peers' FIN */
        assert_int_equal(fin_closer_dispatch(closer), 0);
    for (int i = MANY - 1; i >= 0; i--)
        drop_all(fds[i][THEM], -1);
    while (is_readable(closer) && completions() == 0)
        assert_true(fin_closer_dispatch(closer) >= 0);
    assert_int_equal(completions(), MANY);
    for (unsigned i = 0; i < MANY; i++) {
        assert_int_equal(list[i].turn, i + 1);
        assert_outcome(&list[i].receipt, FIN_OUTCOME_GRACEFUL, FIN_END_FIN);
        assert_true(i == 0 || list[i].receipt.requested_ns > list[i - 1].receipt.requested_ns);
    }
    fin_closer_free(closer);
}

static void test_counters(void **state)
{
    struct fin_closer_counters counters = FIN_CLOSER_COUNTERS_INIT;
    struct fin_policy prompt = policy_of(FIN_COURTESY_PROMPT);
    struct fin_policy abrupt = policy_of(FIN_COURTESY_ABORT);
    struct fin_closer *closer = closer_of(0);
    struct one list[MANY] = { 0 };
    int fds[MANY][2];

    (void) state;
    open_many(fds);
    for (int i = 0; i < MANY; i++)
        submit(closer, &list[i], fds[i][US], i % 4 ? &prompt : &abrupt);
    assert_int_equal(pending(closer), MANY);
    await_all(closer, list, MANY);
    assert_int_equal(fin_closer_count(closer, &counters), 0);
    assert_int_equal(fin_closer_count(closer, &counters), 0); /* into the same structure */
    assert_int_equal(counters.submitted, MANY);
    assert_int_equal(counters.completed, MANY);
    assert_int_equal(counters.pending, 0);
    assert_int_equal(counters.forced, 0);
    assert_int_equal(counters.outcomes[FIN_OUTCOME_PROMPT], MANY - MANY / 4);
    assert_int_equal(counters.outcomes[FIN_OUTCOME_ABORTED], MANY / 4);
    for (int i = 0; i < MANY; i++)
        drop_all(fds[i][THEM], -1);
    fin_closer_free(closer);
}

/* ---- the cap ---- */

#define CAP 4

static void test_cap(void **state)
{
    struct fin_closer_counters counters = FIN_CLOSER_COUNTERS_INIT;
    struct fin_policy policy = policy_of(FIN_COURTESY_ORDERLY);
    struct fin_closer *closer = closer_of(CAP);
    struct one list[CAP + 2] = { 0 };
    int fds[CAP + 2][2];

    (void) state;
    policy.linger_ms = 10000;
    for (int i = 0; i < CAP + 2; i++) {
        tcp_pair(AF_INET, BUFFERS_USUAL, fds[i]);
        give(fds[i][US], "all of it");
        submit(closer, &list[i], fds[i][US], &policy);
        assert_true(fin_closer_dispatch(closer) >= 0);
        assert_true(pending(closer) <= CAP);
    }
    for (int i = 0; i < 2; i++) { /* the oldest, before its time */
        await(closer, &list[i]);
        assert_outcome(&list[i].receipt, FIN_OUTCOME_TIMED_OUT,
                       reached(&list[i].receipt, FIN_STAGE_ACKED) ? FIN_END_FIN : FIN_END_KERNEL);
        assert_true(list[i].receipt.forced);
        assert_int_equal(list[i].receipt.phase, FIN_PHASE_LINGER);
        assert_true(list[i].receipt.stage_ns[FIN_STAGE_RELEASED] < 5000000000);
    }
    for (int i = 0; i < CAP + 2; i++) {
        assert_seen_fin(see(fds[i][THEM]), 9);
        drop_all(fds[i][THEM], -1);
    }
    await_all(closer, list, CAP + 2);
    for (int i = 2; i < CAP + 2; i++) {
        assert_outcome(&list[i].receipt, FIN_OUTCOME_GRACEFUL, FIN_END_FIN);
        assert_false(list[i].receipt.forced);
    }
    assert_int_equal(fin_closer_count(closer, &counters), 0);
    assert_int_equal(counters.forced, 2);
    fin_closer_free(closer);
}

/* Nobody dispatches between: the oldest is one that has not even begun. */
static void test_cap_before_dispatch(void **state)
{
    struct fin_policy policy = policy_of(FIN_COURTESY_ORDERLY);
    struct fin_closer *closer = closer_of(1);
    struct one list[3] = { 0 };
    int fds[3][2];

    (void) state;
    policy.linger_ms = 10000;
    for (int i = 0; i < 3; i++) {
        tcp_pair(AF_INET, BUFFERS_USUAL, fds[i]);
        give(fds[i][US], "all of it");
        submit(closer, &list[i], fds[i][US], &policy);
    }
    await_all(closer, list, 2);
    assert_true(list[0].receipt.forced && list[1].receipt.forced);
    assert_int_equal(list[2].calls, 0);
    for (int i = 0; i < 3; i++) {
        assert_seen_fin(see(fds[i][THEM]), 9);
        drop_all(fds[i][THEM], -1);
    }
    await(closer, &list[2]);
    assert_false(list[2].receipt.forced);
    fin_closer_free(closer);
}

/* One that talks all the time never waits, and is the oldest all the same. */
static void test_cap_against_a_talker(void **state)
{
    struct fin_policy policy = policy_of(FIN_COURTESY_ORDERLY);
    struct fin_closer *closer = closer_of(1);
    struct fake_layer fake;
    struct one list[2] = { 0 };
    int fds[2][2];

    (void) state;
    policy.drain = UINT64_MAX;
    policy.linger_ms = policy.total_ms = 60000;
    tcp_pair(AF_INET, BUFFERS_USUAL, fds[0]);
    tcp_pair(AF_INET, BUFFERS_USUAL, fds[1]);
    fake_layer(&fake);
    fake.reads_left = UINT64_MAX;
    submit_fake(closer, &list[0], fds[0][US], &fake, &policy);
    assert_true(fin_closer_dispatch(closer) >= 0);
    assert_int_equal(list[0].calls, 0);
    submit(closer, &list[1], fds[1][US], &policy);
    await(closer, &list[0]);
    assert_true(list[0].receipt.forced);
    assert_true(list[0].receipt.stage_ns[FIN_STAGE_RELEASED] < 30000000000);
    drop_all(fds[0][THEM], fds[1][THEM], -1);
    await(closer, &list[1]);
    fin_closer_free(closer);
}

/* ---- ended by the program, at every phase ---- */

static void expect_aborted(struct fin_closer *closer, struct one *one, int peer)
{
    assert_int_equal(fin_closer_abort(closer, one->op), 0);
    assert_int_equal(one->calls, 0); /* the completion comes from dispatch */
    await(closer, one);
    assert_outcome(&one->receipt, FIN_OUTCOME_ABORTED, FIN_END_RESET);
    assert_true(is_free(one->fd));
    assert_sound(&one->receipt);
    assert_int_equal(one->receipt.held, FIN_NO);
    assert_int_equal(fin_closer_abort(closer, one->op), -ENOENT);
    assert_seen_reset(see(peer));
    drop_all(peer, -1);
}

static void test_abort_before_dispatch(void **state)
{
    struct fin_policy policy = policy_of(FIN_COURTESY_ORDERLY);
    struct fin_closer *closer = closer_of(0);
    struct one one = { 0 };
    int fds[2];

    (void) state;
    tcp_pair(AF_INET, BUFFERS_USUAL, fds);
    submit(closer, &one, fds[US], &policy);
    expect_aborted(closer, &one, fds[THEM]);
    assert_false(reached(&one.receipt, FIN_STAGE_SHUT));
    fin_closer_free(closer);
}

static void test_abort_in_flush(void **state)
{
    struct fin_policy policy = policy_of(FIN_COURTESY_ORDERLY);
    struct fin_closer *closer = closer_of(0);
    struct one one = { 0 };
    struct fake_layer fake;
    int fds[2];

    (void) state;
    tcp_pair(AF_INET, BUFFERS_USUAL, fds);
    fake_layer(&fake);
    fake.flush = FIN_LAYER_WANT_READ;
    fake.unsent = 77;
    submit_fake(closer, &one, fds[US], &fake, &policy);
    (void) turn(closer);
    expect_aborted(closer, &one, fds[THEM]);
    assert_int_equal(one.receipt.phase, FIN_PHASE_FLUSH);
    assert_int_equal(one.receipt.unsent, 77);
    assert_true(fake.flushes > 0);
    fin_closer_free(closer);
}

static void test_abort_in_farewell(void **state)
{
    struct fin_policy policy = policy_of(FIN_COURTESY_FULL);
    struct fin_closer *closer = closer_of(0);
    struct one one = { 0 };
    struct fake_layer fake;
    int fds[2];

    (void) state;
    for (int i = 0; i < 2; i++) { /* for ours, for the answer */
        tcp_pair(AF_INET, BUFFERS_USUAL, fds);
        fake_layer(&fake);
        fake.notify = i ? FIN_LAYER_DONE : FIN_LAYER_WANT_READ;
        submit_fake(closer, &one, fds[US], &fake, &policy);
        (void) turn(closer);
        expect_aborted(closer, &one, fds[THEM]);
        assert_int_equal(one.receipt.phase, FIN_PHASE_FAREWELL);
        assert_true(reached(&one.receipt, FIN_STAGE_NOTIFIED) == (i == 1));
    }
    fin_closer_free(closer);
}

/* FIN is out; the peer must not take the stream for a whole one that ended well. */
static void test_abort_in_linger(void **state)
{
    struct fin_policy policy = policy_of(FIN_COURTESY_ORDERLY);
    struct fin_closer *closer = closer_of(0);
    struct one one = { 0 };
    struct seen seen;
    int fds[2];

    (void) state;
    tcp_pair(AF_INET, BUFFERS_USUAL, fds);
    submit(closer, &one, fds[US], &policy);
    (void) turn(closer);
    await_input(fds[THEM]); /* our FIN has come */
    assert_int_equal(fin_closer_abort(closer, one.op), 0);
    await(closer, &one);
    assert_outcome(&one.receipt, FIN_OUTCOME_ABORTED, FIN_END_RESET);
    assert_int_equal(one.receipt.phase, FIN_PHASE_LINGER);
    assert_true(reached(&one.receipt, FIN_STAGE_SHUT));
    seen = see(fds[THEM]);
    assert_int_equal(seen.next_send, EPIPE);
    drop_all(fds[THEM], -1);
    fin_closer_free(closer);
}

/* Released already: nothing is left to be reset, only the proof is given up. */
static void test_abort_after_release(void **state)
{
    struct fin_policy policy = policy_of(FIN_COURTESY_PROMPT);
    struct fin_closer *closer = closer_of(0);
    struct one one = { 0 };
    int fds[2], copy;

    (void) state;
    policy.find_holders = 1;
    tcp_pair(AF_INET, BUFFERS_USUAL, fds);
    give(fds[US], "all of it");
    copy = fcntl(fds[US], F_DUPFD_CLOEXEC, 0);
    submit(closer, &one, fds[US], &policy);
    while (!is_free(fds[US]))
        (void) turn(closer);
    assert_int_equal(one.calls, 0);
    assert_int_equal(fin_closer_abort(closer, one.op), 0);
    assert_int_equal(fin_closer_abort(closer, one.op), 0);
    await(closer, &one);
    assert_int_equal(one.receipt.held, FIN_YES);
    assert_int_equal(one.receipt.end, FIN_END_KERNEL);
    assert_true(search_is(&one.receipt, FIN_SEARCH_FOUND));
    assert_seen_fin(see(fds[THEM]), 9);
    drop_all(copy, fds[THEM], -1);
    fin_closer_free(closer);
}

/* A close that has work left may be interrupted between any two steps: whichever comes next has to
 * be done, not taken as done. */
static void test_abort_between_steps(void **state)
{
    struct fin_policy policy = policy_of(FIN_COURTESY_PROMPT);
    struct fin_closer *closer = closer_of(0);

    (void) state;
    for (unsigned reads = 48; reads < 68; reads++) {
        struct one one = { 0 };
        struct fake_layer fake;
        int fds[2], result;

        tcp_pair(AF_INET, BUFFERS_USUAL, fds);
        fake_layer(&fake);
        fake.reads_left = reads;
        submit_fake(closer, &one, fds[US], &fake, &policy);
        assert_true(fin_closer_dispatch(closer) >= 0);
        result = fin_closer_abort(closer, one.op);
        assert_true(result == 0 || (result == -ENOENT && one.calls == 1));
        await(closer, &one);
        assert_true(is_free(fds[US]));
        assert_true(reached(&one.receipt, FIN_STAGE_RELEASED));
        assert_int_equal(one.receipt.held, FIN_NO);
        drop_all(fds[THEM], -1);
    }
    fin_closer_free(closer);
}

/* ---- inside a completion ---- */

static void call_back(struct one *one)
{
    assert_int_equal(fin_closer_dispatch(one->closer), -EBUSY);
    assert_int_equal(fin_closer_drain(one->closer, 0), -EBUSY);
    assert_int_equal(fin_closer_abort(one->closer, one->op), -ENOENT);
}

static void test_not_from_a_completion(void **state)
{
    struct fin_policy policy = policy_of(FIN_COURTESY_PROMPT);
    struct one one = { .then = call_back };
    struct fin_closer *closer = closer_of(0);
    int fds[2];

    (void) state;
    tcp_pair(AF_INET, BUFFERS_USUAL, fds);
    submit(closer, &one, fds[US], &policy);
    await(closer, &one);
    drop_all(fds[THEM], -1);
    tcp_pair(AF_INET, BUFFERS_USUAL, fds);
    submit(closer, &one, fds[US], &policy);
    assert_int_equal(fin_closer_drain(closer, 5000), 0); /* busy there, too */
    assert_int_equal(one.calls, 1);
    drop_all(fds[THEM], -1);
    fin_closer_free(closer);
}

static int fresh[2];

/* The new socket gets the number that is free by now. */
static void submit_another(struct one *one)
{
    struct fin_policy policy = policy_of(FIN_COURTESY_ORDERLY);
    int fds[2];

    unix_pair(SOCK_STREAM, fds);
    if (fds[THEM] == one->fd) {
        fds[THEM] = fds[US];
        fds[US] = one->fd;
    }
    assert_int_equal(fds[US], one->fd);
    memcpy(fresh, fds, sizeof fresh);
    submit(one->closer, one->other, fresh[US], &policy);
}

static void test_same_number_again(void **state)
{
    struct fin_policy policy = policy_of(FIN_COURTESY_PROMPT);
    struct one second = { 0 }, first = { .then = submit_another, .other = &second };
    struct fin_closer *closer = closer_of(0);
    int fds[2];

    (void) state;
    tcp_pair(AF_INET, BUFFERS_USUAL, fds);
    submit(closer, &first, fds[US], &policy);
    await(closer, &first);
    assert_int_equal(second.calls, 0);
    assert_false(is_free(fresh[US]));
    give(fresh[THEM], "unread");
    drop_all(fresh[THEM], -1);
    await(closer, &second);
    assert_outcome(&second.receipt, FIN_OUTCOME_GRACEFUL, FIN_END_FIN);
    assert_int_equal(second.receipt.discarded, 6);
    assert_true(second.op != first.op);
    drop_all(fds[THEM], -1);
    fin_closer_free(closer);
}

static void abort_other(struct one *one)
{
    assert_int_equal(fin_closer_abort(one->closer, one->other->op), 0);
}

static void test_abort_another(void **state)
{
    struct fin_policy prompt = policy_of(FIN_COURTESY_PROMPT);
    struct fin_policy policy = policy_of(FIN_COURTESY_ORDERLY);
    struct one second = { 0 }, first = { .then = abort_other, .other = &second };
    struct fin_closer *closer = closer_of(0);
    int a[2], b[2];

    (void) state;
    policy.linger_ms = 10000;
    tcp_pair(AF_INET, BUFFERS_USUAL, a);
    tcp_pair(AF_INET, BUFFERS_USUAL, b);
    submit(closer, &second, a[US], &policy);
    submit(closer, &first, b[US], &prompt);
    await(closer, &second);
    assert_int_equal(first.turn, 1);
    assert_outcome(&second.receipt, FIN_OUTCOME_ABORTED, FIN_END_RESET);
    assert_int_equal(see(a[THEM]).next_send, EPIPE);
    drop_all(a[THEM], b[THEM], -1);
    fin_closer_free(closer);
}

/* Both end in one dispatch: the abort comes too late, and still there is one completion. */
static void test_abort_one_that_ends(void **state)
{
    struct fin_policy prompt = policy_of(FIN_COURTESY_PROMPT);
    struct one second = { 0 }, first = { .then = abort_other, .other = &second };
    struct fin_closer *closer = closer_of(0);
    int a[2], b[2];

    (void) state;
    tcp_pair(AF_INET, BUFFERS_USUAL, a);
    tcp_pair(AF_INET, BUFFERS_USUAL, b);
    submit(closer, &first, a[US], &prompt);
    submit(closer, &second, b[US], &prompt);
    while (completions() == 0)
        (void) turn(closer);
    assert_int_equal(completions(), 2);
    assert_outcome(&second.receipt, FIN_OUTCOME_PROMPT, FIN_END_KERNEL);
    while (is_readable(closer))
        assert_int_equal(fin_closer_dispatch(closer), 0);
    assert_int_equal(second.calls, 1);
    assert_seen_fin(see(b[THEM]), 0);
    drop_all(a[THEM], b[THEM], -1);
    fin_closer_free(closer);
}

static void free_closer(struct one *one)
{
    struct fin_policy policy = policy_of(FIN_COURTESY_PROMPT);

    assert_null(fin_closer_free(one->closer));
    assert_null(fin_closer_free(one->closer));
    assert_int_equal(fin_closer_submit(one->closer, 0, &policy, NULL, NULL, NULL), -ECANCELED);
}

static void free_inside(int (*run)(struct fin_closer *closer))
{
    struct fin_policy prompt = policy_of(FIN_COURTESY_PROMPT);
    struct fin_policy policy = policy_of(FIN_COURTESY_ORDERLY);
    struct one list[3] = { { .then = free_closer } };
    struct fin_closer *closer = closer_of(0);
    int saved = dup(0), input[2], fds[3][2];

    unix_pair(SOCK_STREAM, input); /* number 0 is a socket for a while */
    assert_int_equal(dup2(input[US], 0), 0);
    for (int i = 0; i < 3; i++) {
        tcp_pair(AF_INET, BUFFERS_USUAL, fds[i]);
        submit(closer, &list[i], fds[i][US], i ? &policy : &prompt);
    }
    while (list[0].calls == 0)
        assert_true(run(closer) >= 0);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(list[i].calls, 1);
        assert_true(is_free(fds[i][US]));
        assert_true(list[i].receipt.outcome == (i ? FIN_OUTCOME_ABORTED : FIN_OUTCOME_PROMPT));
        if (i)
            assert_int_equal(see(fds[i][THEM]).next_send, EPIPE);
        drop_all(fds[i][THEM], -1);
    }
    assert_int_equal(dup2(saved, 0), 0);
    drop_all(saved, input[US], input[THEM], -1);
}

static int drain_long(struct fin_closer *closer)
{
    return fin_closer_drain(closer, 10000);
}

static void test_free_inside(void **state)
{
    (void) state;
    free_inside(fin_closer_dispatch);
    free_inside(drain_long);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        GUARDED(test_streams),
        GUARDED(test_unix_streams),
        GUARDED(test_mptcp),
        GUARDED(test_courtesies),
        GUARDED(test_no_streams),
        GUARDED(test_pipes),
        GUARDED(test_listeners),
        GUARDED(test_connecting),
        GUARDED(test_refused),
        GUARDED(test_order),
        GUARDED(test_counters),
        GUARDED(test_cap),
        GUARDED(test_cap_before_dispatch),
        GUARDED(test_cap_against_a_talker),
        GUARDED(test_abort_before_dispatch),
        GUARDED(test_abort_in_flush),
        GUARDED(test_abort_in_farewell),
        GUARDED(test_abort_in_linger),
        GUARDED(test_abort_after_release),
        GUARDED(test_abort_between_steps),
        GUARDED(test_not_from_a_completion),
        GUARDED(test_same_number_again),
        GUARDED(test_abort_another),
        GUARDED(test_abort_one_that_ends),
        GUARDED(test_free_inside),
    };

    own_network();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
