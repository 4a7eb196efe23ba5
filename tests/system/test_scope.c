/* SPDX-License-Identifier: MIT */

/* Scope, holders, and the proof: who else has the socket, and when is it really over. */

#include "support.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

/* ---- a child that holds our socket ---- */

struct holder {
    int fd;
    int orders[2]; /* a Unix pair: one byte for each order, one for each answer */
    pid_t pid;
};

static bool hold(void *arg)
{
    struct holder *h = arg;
    char order;

    (void) close(h->orders[US]);
    while (recv(h->orders[THEM], &order, 1, 0) == 1) {
        char got = 0;

        if (order == 's')
            got = send(h->fd, "from the child", 14, MSG_NOSIGNAL) == 14 ? 'y' : 'n';
        if (order == 'r')
            got = recv(h->fd, &got, 1, 0) == 1 ? got : '0';
        if (order == 'c')
            got = close(h->fd) == 0 ? 'y' : 'n';
        if (send(h->orders[THEM], &got, 1, MSG_NOSIGNAL) != 1)
            return false;
    }
    return true;
}

static void holder_start(struct holder *h, int fd)
{
    h->fd = fd;
    unix_pair(SOCK_STREAM, h->orders);
    h->pid = child_start(hold, h);
    drop_all(h->orders[THEM], -1);
}

static char order(struct holder *h, char what)
{
    char got;

    assert_int_equal(send(h->orders[US], &what, 1, MSG_NOSIGNAL), 1);
    assert_int_equal(recv(h->orders[US], &got, 1, 0), 1);
    return got;
}

static void holder_end(struct holder *h)
{
    drop_all(h->orders[US], -1);
    child_join(h->pid);
}

/* The child is forked before the peer's end exists, so that it holds ours alone. */
static void held_pair(int family, int fds[2], struct holder *h)
{
    int listener;

    if (family == AF_UNIX) {
        struct sockaddr_storage address;
        socklen_t size;

        listener = listen_unix(&address, &size);
    } else {
        listener = listen_tcp(family, 0, 1, BUFFERS_USUAL);
    }
    fds[US] = connect_to(listener, 0, BUFFERS_USUAL);
    holder_start(h, fds[US]);
    fds[THEM] = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
    assert_true(fds[THEM] >= 0);
    drop_all(listener, -1);
}

static const int families[] = { AF_INET, AF_INET6, AF_UNIX };

/* ---- scope ---- */

static void test_scope_descriptor(void **state)
{
    struct fin_policy policy = policy_of(FIN_COURTESY_ORDERLY);

    (void) state;
    policy.scope = FIN_SCOPE_DESCRIPTOR;
    policy.proof_ms = 5;
    for (size_t i = 0; i < 3; i++) {
        struct fin_receipt r;
        struct holder h;
        int fds[2];

        held_pair(families[i], fds, &h);
        give(fds[THEM], "x");
        await_input(fds[US]);
        r = closed(NULL, fds[US], &policy);
        assert_outcome(&r, FIN_OUTCOME_GRACEFUL, FIN_END_NONE);
        assert_int_equal(r.held, FIN_YES);
        assert_int_equal(r.discarded, 0);
        assert_false(reached(&r, FIN_STAGE_SHUT));
        assert_false(reached(&r, FIN_STAGE_EOF));
        assert_int_equal(order(&h, 'r'), 'x'); /* input is left to it */
        assert_int_equal(order(&h, 's'), 'y');
        expect_text(fds[THEM], "from the child");
        assert_int_equal(order(&h, 'c'), 'y');
        assert_seen_fin(see(fds[THEM]), 0);
        holder_end(&h);
        drop_all(fds[THEM], -1);
    }
}

static void test_scope_descriptor_leaves_linger(void **state)
{
    struct fin_policy policy = policy_of(FIN_COURTESY_ORDERLY);
    struct linger linger = { 1, 0 };
    struct fin_receipt r;
    struct holder h;
    int fds[2];

    (void) state;
    policy.scope = FIN_SCOPE_DESCRIPTOR;
    policy.proof_ms = 5;
    held_pair(AF_INET, fds, &h);
    assert_int_equal(setsockopt(fds[US], SOL_SOCKET, SO_LINGER, &linger, sizeof linger), 0);
    r = closed(NULL, fds[US], &policy);
    assert_outcome(&r, FIN_OUTCOME_GRACEFUL, FIN_END_NONE);
    assert_int_equal(order(&h, 's'), 'y');
    expect_text(fds[THEM], "from the child");
    assert_int_equal(order(&h, 'c'), 'y'); /* as the program wished: the last close resets */
    assert_seen_reset(see(fds[THEM]));
    holder_end(&h);
    drop_all(fds[THEM], -1);
}

/* If ours was the last reference, the kernel ends the connection, and the receipt says how. */
static void test_scope_descriptor_last(void **state)
{
    struct fin_policy policy = policy_of(FIN_COURTESY_ORDERLY);
    struct linger now = { 1, 0 };

    (void) state;
    policy.scope = FIN_SCOPE_DESCRIPTOR;
    for (int how = 0; how < 3; how++) { /* plain, with unread input, with SO_LINGER{1,0} */
        struct fin_receipt r;
        struct seen seen;
        int fds[2];

        tcp_pair(AF_INET, BUFFERS_USUAL, fds);
        give(fds[US], "hello");
        if (how == 1) {
            give(fds[THEM], "x");
            await_input(fds[US]);
        }
        if (how == 2)
            (void) setsockopt(fds[US], SOL_SOCKET, SO_LINGER, &now, sizeof now);
        r = closed(NULL, fds[US], &policy);
        seen = see(fds[THEM]);
        assert_int_equal(r.held, FIN_NO);
        assert_outcome(&r, how ? FIN_OUTCOME_RESET : FIN_OUTCOME_PROMPT,
                       how ? FIN_END_RESET : FIN_END_KERNEL);
        assert_int_equal(seen.end, how ? ECONNRESET : 0);
        drop_all(fds[THEM], -1);
    }
}

static void test_scope_connection_held(void **state)
{
    (void) state;
    for (size_t i = 0; i < 3; i++)
        for (enum fin_courtesy c = FIN_COURTESY_PROMPT; c <= FIN_COURTESY_ORDERLY; c++) {
            struct fin_policy policy = policy_of(c);
            struct fin_receipt r;
            struct answerer peer;
            struct holder h;
            int fds[2];

            policy.proof_ms = 5;
            held_pair(families[i], fds, &h);
            give(fds[US], "hello");
            answer(&peer, fds[THEM]);
            r = closed(NULL, fds[US], &policy);
            assert_seen_fin(answered(&peer), 5); /* although the child holds it still */
            /* prompt does not wait for the acknowledgement of a FIN over TCP */
            if (c != FIN_COURTESY_PROMPT || families[i] == AF_UNIX)
                assert_int_equal(r.end, FIN_END_FIN);
            assert_int_equal(r.held, FIN_YES);
            assert_int_equal(r.outcome,
                             c == FIN_COURTESY_PROMPT ? FIN_OUTCOME_PROMPT : FIN_OUTCOME_GRACEFUL);
            assert_false(unverifiable(&r, FIN_STAGE_UNREFERENCED));
            assert_int_equal(order(&h, 's'), 'n');
            holder_end(&h);
        }
}

static void test_abort_held(void **state)
{
    struct fin_policy policy = policy_of(FIN_COURTESY_ABORT);
    struct fin_receipt r;
    struct holder h;
    int fds[2];

    (void) state;
    policy.proof_ms = 5;
    held_pair(AF_INET, fds, &h);
    r = closed(NULL, fds[US], &policy);
    assert_outcome(&r, FIN_OUTCOME_ABORTED, FIN_END_RESET);
    assert_int_equal(r.held, FIN_YES);
    assert_seen_reset(see(fds[THEM]));
    holder_end(&h);
    drop_all(fds[THEM], -1);
}

/* A descriptor in flight is held, though no process has it open. */
static void test_in_flight(void **state)
{
    struct fin_policy policy = policy_of(FIN_COURTESY_ORDERLY);
    union {
        struct cmsghdr header;
        char bytes[CMSG_SPACE(sizeof(int))];
    } control = { .header = { CMSG_LEN(sizeof(int)), SOL_SOCKET, SCM_RIGHTS } };
    struct iovec part = { (char[]) { "x" }, 1 };
    struct msghdr message = { .msg_iov = &part,
                              .msg_iovlen = 1,
                              .msg_control = &control,
                              .msg_controllen = sizeof control.bytes };
    int carrier[2], pipes[2];
    struct fin_receipt r;

    (void) state;
    policy.proof_ms = 5;
    unix_pair(SOCK_STREAM, carrier);
    assert_int_equal(pipe2(pipes, O_CLOEXEC), 0);
    memcpy(CMSG_DATA(&control.header), &pipes[0], sizeof(int));
    assert_int_equal(sendmsg(carrier[US], &message, 0), 1);
    r = closed(NULL, pipes[0], &policy);
    assert_int_equal(r.held, FIN_YES);
    assert_outcome(&r, FIN_OUTCOME_GRACEFUL, FIN_END_NONE);
    drop_all(carrier[US], carrier[THEM], pipes[1], -1);
}

struct late {
    struct holder *holder;
    int theirs;
};

/* Lets the child close its copy once ours has been shut. */
static void *release_late(void *arg)
{
    struct late *late = arg;
    char byte;

    (void) recv(late->theirs, &byte, 1, 0);
    (void) order(late->holder, 'c');
    return NULL;
}

static void test_waits_for_last_reference(void **state)
{
    struct fin_policy policy = policy_of(FIN_COURTESY_PROMPT);
    struct fin_receipt r;
    pthread_t thread;
    struct holder h;
    struct late late = { .holder = &h };
    int fds[2];

    (void) state;
    policy.proof_ms = GUARD_S * 1000;
    held_pair(AF_INET, fds, &h);
    late.theirs = fds[THEM];
    assert_int_equal(pthread_create(&thread, NULL, release_late, &late), 0);
    r = closed(NULL, fds[US], &policy);
    assert_int_equal(pthread_join(thread, NULL), 0);
    assert_int_equal(r.held, FIN_NO);
    holder_end(&h);
    drop_all(fds[THEM], -1);
}

/* ---- proof ---- */

static void test_proof_released(void **state)
{
    struct fin_policy policy = policy_of(FIN_COURTESY_PROMPT);
    struct fin_receipt r;
    int fds[2];

    (void) state;
    policy.proof = FIN_STAGE_RELEASED;
    tcp_pair(AF_INET, BUFFERS_USUAL, fds);
    r = closed(NULL, fds[US], &policy);
    assert_outcome(&r, FIN_OUTCOME_PROMPT, FIN_END_KERNEL);
    assert_int_equal(r.held, FIN_UNVERIFIABLE); /* nobody looked */
    assert_int_equal(r.unverifiable, 0);
    assert_false(reached(&r, FIN_STAGE_UNREFERENCED));
    drop_all(fds[THEM], -1);
}

/* Our FIN goes first: TIME_WAIT is ours, and finished is reached long before gone. */
static void test_proof_finished(void **state)
{
    struct fin_policy policy = policy_of(FIN_COURTESY_ORDERLY);

    (void) state;
    for (int family = AF_INET; family <= AF_INET6; family += AF_INET6 - AF_INET)
        for (int proof = FIN_STAGE_FINISHED; proof <= FIN_STAGE_GONE; proof++) {
            struct answerer peer;
            struct fin_receipt r;
            int fds[2];

            policy.proof = proof;
            policy.proof_ms = proof == FIN_STAGE_GONE ? 30 : 5000;
            tcp_pair(family, BUFFERS_USUAL, fds);
            answer(&peer, fds[THEM]);
            r = closed(NULL, fds[US], &policy);
            assert_seen_fin(answered(&peer), 0);
            assert_outcome(&r, FIN_OUTCOME_GRACEFUL, FIN_END_FIN);
            assert_true(reached(&r, FIN_STAGE_FINISHED));
            assert_false(reached(&r, FIN_STAGE_GONE) && time_wait_is_certain());
            assert_int_equal(r.unverifiable, 0);
            assert_int_equal(r.held, FIN_NO);
        }
}

/* The peer's FIN goes first: it has TIME_WAIT, and ours is gone at once. */
static void test_proof_gone(void **state)
{
    struct fin_policy policy = policy_of(FIN_COURTESY_ORDERLY);

    (void) state;
    policy.proof = FIN_STAGE_GONE;
    for (int family = AF_INET; family <= AF_INET6; family += AF_INET6 - AF_INET) {
        struct fin_receipt r;
        int fds[2];

        tcp_pair(family, BUFFERS_USUAL, fds);
        assert_int_equal(shutdown(fds[THEM], SHUT_WR), 0);
        r = closed(NULL, fds[US], &policy);
        assert_outcome(&r, FIN_OUTCOME_GRACEFUL, FIN_END_FIN);
        assert_true(reached(&r, FIN_STAGE_GONE));
        assert_int_equal(r.unverifiable, 0);
        assert_seen_fin(see(fds[THEM]), 0);
        drop_all(fds[THEM], -1);
    }
}

static void test_proof_gone_unix(void **state)
{
    struct fin_policy policy = policy_of(FIN_COURTESY_PROMPT);
    struct fin_receipt r;
    int fds[2];

    (void) state;
    policy.proof = FIN_STAGE_GONE;
    unix_pair(SOCK_STREAM, fds);
    r = closed(NULL, fds[US], &policy);
    assert_outcome(&r, FIN_OUTCOME_PROMPT, FIN_END_FIN);
    assert_true(reached(&r, FIN_STAGE_GONE));
    drop_all(fds[THEM], -1);
}

/* An orphan that the kernel still serves is not finished, and that is no guess. */
static void test_proof_not_reached(void **state)
{
    struct fin_policy policy = policy_hasty(FIN_COURTESY_PROMPT);
    struct fin_receipt r;
    size_t bytes;
    int fds[2];

    (void) state;
    policy.proof = FIN_STAGE_FINISHED;
    tcp_pair(AF_INET, BUFFERS_SMALL, fds);
    bytes = fill(fds[US]);
    r = closed(NULL, fds[US], &policy);
    assert_outcome(&r, FIN_OUTCOME_PROMPT, FIN_END_KERNEL);
    assert_false(reached(&r, FIN_STAGE_FINISHED));
    assert_false(unverifiable(&r, FIN_STAGE_FINISHED));
    assert_seen_fin(see(fds[THEM]), bytes);
    drop_all(fds[THEM], -1);
}

/* sock_diag's look-up goes by addresses, and these have the same: it finds one of them at most. */
static void test_reuseport_is_unverifiable(void **state)
{
    struct sockaddr_in address = { .sin_family = AF_INET, .sin_addr = { htonl(INADDR_LOOPBACK) } };
    struct fin_policy policy = policy_of(FIN_COURTESY_ORDERLY);
    int fds[4], on = 1, last = -1, unknown = 0;
    socklen_t size = sizeof address;

    (void) state;
    policy.proof = FIN_STAGE_FINISHED;
    for (int i = 0; i < 4; i++) {
        fds[i] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        assert_int_equal(setsockopt(fds[i], SOL_SOCKET, SO_REUSEPORT, &on, sizeof on), 0);
        assert_int_equal(bind(fds[i], (struct sockaddr *) &address, size), 0);
        assert_int_equal(listen(fds[i], 1), 0);
        assert_int_equal(getsockname(fds[i], (struct sockaddr *) &address, &size), 0);
    }
    for (int i = 0; i < 4; i++) {
        struct fin_identity id = FIN_IDENTITY_INIT;
        struct fin_state st = FIN_STATE_INIT;

        assert_int_equal(fin_identify(fds[i], &id), 0);
        assert_int_equal(fin_inspect(NULL, &id, &st), 0);
        if (id.confirmed)
            continue;
        assert_int_equal(st.exists, FIN_UNVERIFIABLE);
        unknown++;
        last = i;
    }
    assert_int_equal(unknown, 3);
    for (int i = 0; i < 4; i++) {
        struct fin_receipt r;

        if (i != last)
            continue;
        r = closed(NULL, fds[i], &policy);
        assert_true(unverifiable(&r, FIN_STAGE_FINISHED));
        assert_int_equal(r.held, FIN_NO);
        fds[i] = -1;
    }
    for (int i = 0; i < 4; i++)
        if (fds[i] >= 0)
            drop_all(fds[i], -1);
}

/* ---- the same 4-tuple at once ---- */

/* Bound first: a port that connect(2) picks may be shared with other connections. Port 0: any. */
static int connect_from(in_port_t port, int listener)
{
    struct sockaddr_in from = { .sin_family = AF_INET, .sin_addr = { htonl(INADDR_LOOPBACK) } };
    struct sockaddr_storage to;
    socklen_t to_size = address_of(listener, &to);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), on = port != 0;

    from.sin_port = port;
    assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on), 0);
    if (bind(fd, (struct sockaddr *) &from, sizeof from) < 0
        || connect(fd, (struct sockaddr *) &to, to_size) < 0) {
        int error = errno;

        drop_all(fd, -1);
        return -error;
    }
    return fd;
}

static in_port_t port_of(int fd)
{
    struct sockaddr_storage address;

    (void) address_of(fd, &address);
    return ((struct sockaddr_in *) &address)->sin_port;
}

static void test_rebindable(void **state)
{
    int listener = listen_tcp(AF_INET, 0, 8, BUFFERS_USUAL), off = 0;
    int fd = connect_from(0, listener);
    in_port_t port = port_of(fd);
    struct fin_policy policy = policy_of(FIN_COURTESY_ORDERLY);

    (void) state;
    policy.proof = FIN_STAGE_FINISHED;
    for (int i = 0; i <= 20; i++) {
        struct answerer peer;
        struct fin_receipt r;

        policy.rebindable = i < 20;
        answer(&peer, accept4(listener, NULL, NULL, SOCK_CLOEXEC));
        r = closed(NULL, fd, &policy);
        (void) answered(&peer);
        assert_outcome(&r, FIN_OUTCOME_GRACEFUL, FIN_END_FIN);
        assert_true(reached(&r, FIN_STAGE_FINISHED));
        fd = connect_from(port, listener);
        if (i < 20)
            assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &off, sizeof off), 0);
    }
    if (time_wait_is_certain())
        assert_int_equal(fd, -EADDRINUSE); /* without it TIME_WAIT has the address */
    if (fd >= 0)
        drop_all(fd, -1);
    drop_all(listener, -1);
}

/* ---- no descriptor to be had ---- */

static struct rlimit usual;

static void forbid_descriptors(void)
{
    struct rlimit none = usual;
    int lowest;

    assert_int_equal(setrlimit(RLIMIT_NOFILE, &usual), 0);
    lowest = open("/dev/null", O_RDONLY | O_CLOEXEC);
    drop_all(lowest, -1);
    none.rlim_cur = (rlim_t) lowest;
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
}

static int allow_descriptors(void **state)
{
    return setrlimit(RLIMIT_NOFILE, &usual) < 0 ? -1 : guard_end(state);
}

static struct fin_receipt close_without_descriptors(struct fin_kernel *kernel)
{
    struct fin_policy policy = policy_of(FIN_COURTESY_ORDERLY);
    struct answerer peer;
    struct fin_receipt r;
    int fds[2];

    policy.proof = FIN_STAGE_FINISHED;
    tcp_pair(AF_INET, BUFFERS_USUAL, fds);
    give(fds[US], "hello");
    forbid_descriptors();
    answer(&peer, fds[THEM]);
    r = closed(kernel, fds[US], &policy);
    assert_seen_fin(answered(&peer), 5);
    assert_outcome(&r, FIN_OUTCOME_GRACEFUL, FIN_END_FIN);
    assert_true(reached(&r, FIN_STAGE_ACKED));
    assert_true(reached(&r, FIN_STAGE_EOF));
    return r;
}

static void test_no_descriptor(void **state)
{
    struct fin_kernel *kernel = NULL;
    struct fin_receipt r = close_without_descriptors(NULL);

    (void) state;
    assert_int_equal(r.held, FIN_UNVERIFIABLE);
    assert_true(unverifiable(&r, FIN_STAGE_UNREFERENCED));
    assert_true(unverifiable(&r, FIN_STAGE_FINISHED));
    forbid_descriptors();
    assert_int_equal(fin_kernel_new(&kernel), -EMFILE);
    assert_null(kernel);
}

/* What the handle reserved is there when it is needed. */
static void test_no_descriptor_with_handle(void **state)
{
    struct fin_kernel *kernel = NULL;
    struct fin_receipt r;

    (void) state;
    assert_int_equal(fin_kernel_new(&kernel), 0);
    r = close_without_descriptors(kernel);
    assert_int_equal(r.held, FIN_NO);
    assert_true(reached(&r, FIN_STAGE_FINISHED));
    assert_int_equal(r.unverifiable, 0);
    assert_null(fin_kernel_free(kernel));
}

#define POOR(test) GUARDED_BY(test, guard_begin, allow_descriptors)

int main(void)
{
    const struct CMUnitTest tests[] = {
        GUARDED(test_scope_descriptor),
        GUARDED(test_scope_descriptor_leaves_linger),
        GUARDED(test_scope_descriptor_last),
        GUARDED(test_scope_connection_held),
        GUARDED(test_abort_held),
        GUARDED(test_in_flight),
        GUARDED(test_waits_for_last_reference),
        GUARDED(test_proof_released),
        GUARDED(test_proof_finished),
        GUARDED(test_proof_gone),
        GUARDED(test_proof_gone_unix),
        GUARDED(test_proof_not_reached),
        GUARDED(test_reuseport_is_unverifiable),
        GUARDED(test_rebindable),
        POOR(test_no_descriptor),
        POOR(test_no_descriptor_with_handle),
    };

    if (getrlimit(RLIMIT_NOFILE, &usual) < 0)
        return 1;
    own_network();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
