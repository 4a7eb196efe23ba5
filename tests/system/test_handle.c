/* SPDX-License-Identifier: MIT */

/* The handle: its own calls, its references, and what is refused. */

#include "worker.h"

#include "base/alloc.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

/* ---- our own calls ---- */

struct late_sender {
    pthread_t thread;
    struct seen seen;
    int fd;
};

static void *send_after_end(void *arg)
{
    struct late_sender *peer = arg;

    peer->seen = see(peer->fd); /* reads to the end, then sends a byte */
    drop_all(peer->fd, -1);
    return NULL;
}

/* The byte that the peer sends after our FIN would be answered by a reset if the socket had been
 * shut for reading to wake the thread. */
static void test_recv_is_woken_without_a_shutdown(void **state)
{
    struct fin_policy policy = policy_of(FIN_COURTESY_ORDERLY);
    struct fin_receipt receipt;
    struct late_sender peer;
    struct worker w;
    int fds[2];
    struct fin_handle *handle;

    (void) state;
    tcp_pair(AF_INET, BUFFERS_USUAL, fds);
    handle = handle_of(fds[US]);
    start(&w, handle, receive);
    await_call(&w, SYS_ppoll);
    peer.fd = fds[THEM];
    assert_int_equal(pthread_create(&peer.thread, NULL, send_after_end, &peer), 0);
    receipt = closed_handle(handle, &policy);
    assert_int_equal(join(&w), -ECANCELED);
    assert_true(is_free(fds[US]));
    assert_outcome(&receipt, FIN_OUTCOME_GRACEFUL, FIN_END_FIN);
    assert_true(reached(&receipt, FIN_STAGE_EOF));
    assert_int_equal(receipt.discarded, 1);
    assert_int_equal(receipt.tombstone, 0);
    assert_int_equal(pthread_join(peer.thread, NULL), 0);
    assert_seen_fin(peer.seen, 0);
    assert_cancelled(handle);
    assert_null(fin_handle_free(handle));
}

static void test_send_into_a_full_window_is_woken(void **state)
{
    struct fin_policy policy = policy_of(FIN_COURTESY_ORDERLY);
    struct fin_receipt receipt;
    struct answerer peer;
    struct worker w;
    size_t bytes;
    int fds[2];
    struct fin_handle *handle;

    (void) state;
    tcp_pair(AF_INET6, BUFFERS_SMALL, fds);
    bytes = fill(fds[US]);
    give(fds[THEM], "unread");
    handle = handle_of(fds[US]);
    start(&w, handle, send_part);
    await_call(&w, SYS_ppoll);
    answer(&peer, fds[THEM]);
    receipt = closed_handle(handle, &policy);
    (void) join(&w);
    if (w.result > 0) /* the peer began to read before the close */
        bytes += (size_t) w.result;
    else
        assert_int_equal(w.result, -ECANCELED);
    assert_outcome(&receipt, FIN_OUTCOME_GRACEFUL, FIN_END_FIN);
    assert_int_equal(receipt.discarded, strlen("unread"));
    assert_seen_fin(answered(&peer), bytes);
    assert_null(fin_handle_free(handle));
}

static void test_send_counts_what_went_out(void **state)
{
    struct fin_policy policy = policy_hasty(FIN_COURTESY_ABORT);
    struct worker w;
    int fds[2];
    struct fin_handle *handle;

    (void) state;
    tcp_pair(AF_INET, BUFFERS_SMALL, fds);
    handle = handle_of(fds[US]);
    start(&w, handle, send_block);
    await_call(&w, SYS_ppoll);
    (void) closed_handle(handle, &policy);
    assert_true(join(&w) > 0);
    assert_true(w.result < 1 << 20);
    assert_null(fin_handle_free(handle));
    drop_all(fds[THEM], -1);
}

/* A close during fin_handle_send(), when a part is with the peer. */
static struct fin_receipt cut(int fds[2], void (*job)(struct worker *w), struct seen *seen,
                              size_t *sent)
{
    struct fin_policy policy = policy_of(FIN_COURTESY_ORDERLY);
    struct fin_handle *handle = handle_of(fds[US]);
    struct fin_receipt receipt;
    struct answerer peer;
    struct worker w;

    start(&w, handle, job);
    await_call(&w, SYS_ppoll);
    answer(&peer, fds[THEM]);
    receipt = closed_handle(handle, &policy);
    *sent = (size_t) join(&w);
    *seen = answered(&peer);
    assert_in_range(*sent, 1, (1 << 20) - 1);
    assert_null(fin_handle_free(handle));
    return receipt;
}

static void test_a_part_ends_in_a_reset(void **state)
{
    struct fin_receipt receipt;
    struct seen seen;
    size_t sent;
    int fds[2];

    (void) state;
    tcp_pair(AF_INET, BUFFERS_SMALL, fds);
    receipt = cut(fds, send_block, &seen, &sent);
    assert_outcome(&receipt, FIN_OUTCOME_ERROR, FIN_END_RESET);
    assert_int_equal(receipt.error, -ECANCELED);
    assert_int_equal(receipt.phase, FIN_PHASE_FLUSH);
    assert_int_equal(receipt.unsent, (1 << 20) - sent);
    assert_int_equal(seen.end, ECONNRESET);
}

static void test_a_part_that_is_fine(void **state)
{
    struct fin_receipt receipt;
    struct seen seen;
    size_t sent;
    int fds[2];

    (void) state;
    tcp_pair(AF_INET, BUFFERS_SMALL, fds);
    receipt = cut(fds, send_part, &seen, &sent);
    assert_outcome(&receipt, FIN_OUTCOME_GRACEFUL, FIN_END_FIN);
    assert_int_equal(receipt.unsent, 0);
    assert_seen_fin(seen, sent);
}

/* It can't be reset, but the receipt says what it lacks. */
static void test_a_part_on_a_unix_stream(void **state)
{
    struct fin_receipt receipt;
    struct seen seen;
    size_t sent;
    int fds[2];

    (void) state;
    unix_pair(SOCK_STREAM, fds);
    receipt = cut(fds, send_block, &seen, &sent);
    assert_int_equal(receipt.outcome, FIN_OUTCOME_ERROR);
    assert_int_not_equal(receipt.end, FIN_END_FIN);
    assert_int_equal(receipt.unsent, (1 << 20) - sent);
    assert_int_equal(seen.bytes, sent);
}

static void test_data_goes_through(void **state)
{
    char buf[8] = "";
    int fds[2];
    struct fin_handle *handle;

    (void) state;
    tcp_pair(AF_INET, BUFFERS_USUAL, fds);
    handle = handle_of(fds[US]);
    assert_int_equal(fin_handle_send(handle, "hello", 5, 0, 0), 5);
    expect_text(fds[THEM], "hello");
    assert_int_equal(fin_handle_send(handle, "", 0, 0, 0), 0);
    give(fds[THEM], "world");
    await_input(fds[US]);
    assert_int_equal(fin_handle_recv(handle, buf, 5, MSG_PEEK, -1), 5);
    assert_int_equal(fin_handle_recv(handle, buf, 5, 0, -1), 5);
    assert_string_equal(buf, "world");
    assert_int_equal(shutdown(fds[THEM], SHUT_WR), 0);
    assert_int_equal(fin_handle_recv(handle, buf, 5, 0, -1), 0);
    assert_null(fin_handle_free(handle));
    assert_true(is_free(fds[US]));
    assert_seen_fin(see(fds[THEM]), 0);
    drop_all(fds[THEM], -1);
}

static void test_waiting_has_an_end(void **state)
{
    struct fin_policy policy = policy_hasty(FIN_COURTESY_PROMPT);
    struct timespec then, now;
    int64_t n;
    char byte;
    int fds[2];
    struct fin_handle *handle;

    (void) state;
    tcp_pair(AF_INET, BUFFERS_SMALL, fds);
    (void) fill(fds[US]);
    handle = handle_of(fds[US]);
    (void) clock_gettime(CLOCK_MONOTONIC, &then);
    assert_int_equal(fin_handle_recv(handle, &byte, 1, 0, 20), -ETIMEDOUT);
    (void) clock_gettime(CLOCK_MONOTONIC, &now);
    assert_true((now.tv_sec - then.tv_sec) * 1000000000 + now.tv_nsec - then.tv_nsec >= 20000000);
    assert_int_equal(fin_handle_recv(handle, &byte, 1, 0, 0), -ETIMEDOUT);
    assert_int_equal(fin_handle_recv(handle, &byte, 1, MSG_DONTWAIT, -1), -EAGAIN);
    do /* the window of a fresh connection may still grow a little */
        n = fin_handle_send(handle, "x", 1, 0, 5);
    while (n == 1);
    assert_int_equal(n, -ETIMEDOUT);
    assert_int_equal(fin_handle_recv(handle, &byte, 1, 0, -2), -EINVAL);
    (void) closed_handle(handle, &policy);
    assert_null(fin_handle_free(handle));
    drop_all(fds[THEM], -1);
}

static void ignore(int number)
{
    (void) number;
}

static void test_a_signal_changes_nothing(void **state)
{
    struct sigaction action = { .sa_handler = ignore }, old;
    struct worker w;
    int fds[2];
    struct fin_handle *handle;

    (void) state;
    assert_int_equal(sigaction(SIGUSR1, &action, &old), 0);
    unix_pair(SOCK_STREAM, fds);
    handle = handle_of(fds[US]);
    start(&w, handle, receive);
    await_call(&w, SYS_ppoll);
    assert_int_equal(pthread_kill(w.thread, SIGUSR1), 0);
    await_call(&w, SYS_ppoll);
    give(fds[THEM], "late");
    assert_int_equal(join(&w), 4);
    assert_null(fin_handle_free(handle));
    drop_all(fds[THEM], -1);
    assert_int_equal(sigaction(SIGUSR1, &old, NULL), 0);
}

/* A blocking recv(2) gives 0 here, and one with MSG_DONTWAIT says EAGAIN for ever. */
static void test_a_datagram_socket_shut_for_reading_is_at_its_end(void **state)
{
    char byte;
    int fds[2];
    struct fin_handle *handle;

    (void) state;
    unix_pair(SOCK_DGRAM, fds);
    handle = handle_of(fds[US]);
    assert_int_equal(fin_handle_send(handle, "", 0, 0, 0), 0);
    assert_int_equal(recv(fds[THEM], &byte, 1, 0), 0);
    assert_int_equal(shutdown(fds[US], SHUT_RD), 0);
    assert_int_equal(fin_handle_recv(handle, &byte, 1, 0, GUARD_S * 1000), 0);
    assert_null(fin_handle_free(handle));
    drop_all(fds[THEM], -1);
}

/* ---- accept ---- */

static void check_accept_is_woken(int listener, enum fin_scope scope)
{
    struct fin_policy policy = policy_of(FIN_COURTESY_ORDERLY);
    struct fin_handle *handle = handle_of(listener);
    struct fin_receipt receipt;
    struct worker w[2];

    policy.scope = (int) scope;
    start(&w[0], handle, take);
    start(&w[1], handle, take);
    await_call(&w[0], SYS_ppoll);
    await_call(&w[1], SYS_ppoll);
    receipt = closed_handle(handle, &policy);
    assert_int_equal(join(&w[0]), -ECANCELED);
    assert_int_equal(join(&w[1]), -ECANCELED);
    assert_int_equal(receipt.tombstone, 0);
    assert_int_equal(receipt.held, FIN_NO);
    assert_true(is_free(listener));
    assert_null(fin_handle_free(handle));
}

static void test_accept_is_woken(void **state)
{
    struct sockaddr_storage address;
    socklen_t size;

    (void) state;
    check_accept_is_woken(listen_tcp(AF_INET, 0, 8, BUFFERS_USUAL), FIN_SCOPE_DEFAULT);
    check_accept_is_woken(listen_tcp(AF_INET6, 0, 8, BUFFERS_USUAL), FIN_SCOPE_CONNECTION);
    check_accept_is_woken(listen_unix(&address, &size), FIN_SCOPE_DEFAULT);
    check_accept_is_woken(listen_unix(&address, &size), FIN_SCOPE_CONNECTION);
}

static void test_accept_takes_a_connection(void **state)
{
    int listener = listen_tcp(AF_INET, 0, 8, BUFFERS_USUAL);
    struct fin_handle *handle = handle_of(listener);
    struct worker w;
    int client, taken;

    (void) state;
    assert_int_equal(fin_handle_accept(handle, 0), -ETIMEDOUT);
    start(&w, handle, take);
    await_call(&w, SYS_ppoll);
    client = connect_to(listener, 0, BUFFERS_USUAL);
    taken = (int) join(&w);
    assert_true(taken >= 0);
    assert_true(fcntl(taken, F_GETFD) & FD_CLOEXEC);
    assert_false(fcntl(taken, F_GETFL) & O_NONBLOCK);
    give(client, "x");
    expect_text(taken, "x");
    assert_null(fin_handle_free(handle));
    drop_all(client, taken, -1);
}

/* ---- several references ---- */

static void test_the_last_reference_closes(void **state)
{
    struct fin_policy policy = policy_of(FIN_COURTESY_PROMPT);
    struct fin_receipt receipt = FIN_RECEIPT_INIT;
    struct fin_handle *socket, *reader, *writer;
    struct worker w;
    int fds[2];

    (void) state;
    tcp_pair(AF_INET, BUFFERS_USUAL, fds);
    socket = handle_of(fds[US]);
    assert_int_equal(fin_handle_dup_ref(socket, &reader), 0);
    assert_int_equal(fin_handle_dup_ref(reader, &writer), 0);
    receipt.outcome = 99;
    assert_int_equal(fin_handle_close(socket, NULL, &policy, &receipt), 1);
    assert_int_equal(receipt.outcome, 99);
    assert_cancelled(socket);
    assert_int_equal(fin_handle_send(writer, "on", 2, 0, -1), 2);
    start(&w, reader, receive);
    await_call(&w, SYS_ppoll);
    assert_int_equal(fin_handle_close(reader, NULL, &policy, &receipt), 1);
    assert_int_equal(join(&w), -ECANCELED); /* its own reference was closed */
    assert_null(fin_handle_free(reader));
    assert_false(is_free(fds[US]));
    assert_int_equal(fin_handle_send(writer, "!", 1, 0, -1), 1);
    receipt = closed_handle(writer, &policy);
    assert_true(is_free(fds[US])); /* at that moment, though a closed reference is left */
    assert_seen_fin(see(fds[THEM]), 3);
    assert_null(fin_handle_free(socket));
    assert_null(fin_handle_free(writer));
    drop_all(fds[THEM], -1);
}

static void test_a_thread_on_another_reference_goes_on(void **state)
{
    struct fin_policy policy = policy_of(FIN_COURTESY_PROMPT);
    struct fin_handle *first, *second;
    struct worker w;
    int fds[2];

    (void) state;
    unix_pair(SOCK_SEQPACKET, fds);
    first = handle_of(fds[US]);
    assert_int_equal(fin_handle_dup_ref(first, &second), 0);
    start(&w, second, receive);
    await_call(&w, SYS_ppoll);
    assert_null(fin_handle_free(first));
    await_call(&w, SYS_ppoll);
    give(fds[THEM], "message");
    assert_int_equal(join(&w), 7);
    (void) closed_handle(second, &policy);
    assert_null(fin_handle_free(second));
    drop_all(fds[THEM], -1);
}

struct closer {
    struct fin_handle *handle;
    pthread_barrier_t *barrier;
    pthread_t thread;
    int result;
};

static void *close_main(void *arg)
{
    struct fin_policy policy = policy_of(FIN_COURTESY_PROMPT);
    struct fin_receipt receipt = FIN_RECEIPT_INIT;
    struct closer *c = arg;

    (void) pthread_barrier_wait(c->barrier);
    c->result = fin_handle_close(c->handle, NULL, &policy, &receipt);
    return NULL;
}

static void close_at_once(struct fin_handle *a, struct fin_handle *b, int results[2])
{
    pthread_barrier_t barrier;
    struct closer closers[2] = { { .handle = a }, { .handle = b } };

    assert_int_equal(pthread_barrier_init(&barrier, NULL, 2), 0);
    for (int i = 0; i < 2; i++) {
        closers[i].barrier = &barrier;
        assert_int_equal(pthread_create(&closers[i].thread, NULL, close_main, &closers[i]), 0);
    }
    for (int i = 0; i < 2; i++) {
        assert_int_equal(pthread_join(closers[i].thread, NULL), 0);
        results[i] = closers[i].result;
    }
    assert_int_equal(pthread_barrier_destroy(&barrier), 0);
}

static void test_two_close_at_once(void **state)
{
    int fds[2], results[2];

    (void) state;
    for (int i = 0; i < 200; i++) {
        bool same = i % 2 == 0;
        struct fin_handle *a, *b;

        unix_pair(SOCK_STREAM, fds);
        a = b = handle_of(fds[US]);
        if (!same)
            assert_int_equal(fin_handle_dup_ref(a, &b), 0);
        close_at_once(a, b, results);
        assert_true(is_free(fds[US]));
        assert_true(results[0] == 0 || results[1] == 0);
        assert_int_equal(results[0] + results[1], same ? -ECANCELED : 1);
        assert_null(fin_handle_free(a));
        if (!same)
            assert_null(fin_handle_free(b));
        drop_all(fds[THEM], -1);
    }
}

/* ---- mistakes, and a lack of memory ---- */

static int allocations_left;

static void *alloc_some(size_t size)
{
    return allocations_left-- > 0 ? malloc(size) : NULL;
}

static void test_new_without_memory_leaves_the_socket(void **state)
{
    struct fin__allocator usual = fin__allocator;
    struct fin_handle *handle = NULL;
    int fds[2], failures = 0;

    (void) state;
    unix_pair(SOCK_STREAM, fds);
    fin__allocator.alloc = alloc_some;
    while (!handle) {
        int result;

        allocations_left = failures;
        result = fin_handle_new(fds[US], &handle);
        assert_int_equal(result, handle ? 0 : -ENOMEM);
        failures += handle == NULL;
    }
    fin__allocator = usual;
    assert_int_equal(failures, 2);
    assert_false(is_free(fds[US]));
    assert_null(fin_handle_free(handle));
    drop_all(fds[THEM], -1);
}

static void test_mistakes_are_refused(void **state)
{
    struct fin_policy policy = FIN_POLICY_INIT;
    struct fin_receipt receipt = FIN_RECEIPT_INIT;
    struct fin_handle *handle = NULL;
    int pipe_fds[2], fds[2];

    (void) state;
    assert_int_equal(pipe2(pipe_fds, O_CLOEXEC), 0);
    unix_pair(SOCK_STREAM, fds);
    assert_int_equal(fin_handle_new(pipe_fds[0], &handle), -EOPNOTSUPP);
    assert_int_equal(fin_handle_new(-1, &handle), -EBADF);
    assert_int_equal(fin_handle_new(fds[US], NULL), -EINVAL);
    assert_null(handle);
    handle = handle_of(fds[US]);
    assert_int_equal(fin_handle_dup_ref(handle, NULL), -EINVAL);
    assert_int_equal(fin_handle_close(NULL, NULL, &policy, &receipt), -EINVAL);
    policy.linger_ms = -1;
    assert_int_equal(fin_handle_close(handle, NULL, &policy, &receipt), -ERANGE);
    assert_int_equal(fin_handle_enter(NULL), -EINVAL);
    assert_int_equal(fin_handle_recv(NULL, NULL, 0, 0, 0), -EINVAL);
    assert_int_equal(fin_handle_send(handle, "open", 4, 0, -1), 4);
    assert_null(fin_handle_free(NULL));
    assert_null(fin_handle_free(handle));
    drop_all(fds[THEM], pipe_fds[0], pipe_fds[1], -1);
}

/* ---- a forked child ---- */

static bool close_copy(void *arg)
{
    struct fin_policy policy = policy_hasty(FIN_COURTESY_ORDERLY);
    struct fin_receipt receipt = FIN_RECEIPT_INIT;

    policy.scope = FIN_SCOPE_DESCRIPTOR;
    return fin_handle_close(arg, NULL, &policy, &receipt) == 0 && receipt.tombstone == 0
        && fin_handle_free(arg) == NULL;
}

static void test_a_child_closes_its_copy(void **state)
{
    struct fin_policy policy = policy_of(FIN_COURTESY_PROMPT);
    struct worker w;
    int fds[2];
    struct fin_handle *handle;

    (void) state;
    tcp_pair(AF_INET, BUFFERS_USUAL, fds);
    handle = handle_of(fds[US]);
    child_join(child_start(close_copy, handle));
    start(&w, handle, receive);
    await_call(&w, SYS_ppoll);
    give(fds[THEM], "ours");
    assert_int_equal(join(&w), 4);
    (void) closed_handle(handle, &policy);
    assert_seen_fin(see(fds[THEM]), 0);
    assert_null(fin_handle_free(handle));
    drop_all(fds[THEM], -1);
}

static bool receive_in_child(void *arg)
{
    char byte;

    return fin_handle_recv(arg, &byte, 1, 0, GUARD_S * 1000) == 1;
}

/* The eventfd that the parent's close makes readable is the child's too. */
static void test_a_child_outlives_the_close_of_its_parent(void **state)
{
    struct fin_policy policy = policy_hasty(FIN_COURTESY_ORDERLY);
    int fds[2];
    struct fin_handle *handle;
    pid_t child;

    (void) state;
    tcp_pair(AF_INET, BUFFERS_USUAL, fds);
    handle = handle_of(fds[US]);
    child = child_start(receive_in_child, handle);
    await_call_in_child(child, SYS_ppoll);
    policy.scope = FIN_SCOPE_DESCRIPTOR;
    assert_int_equal(closed_handle(handle, &policy).held, FIN_YES);
    assert_null(fin_handle_free(handle));
    await_call_in_child(child, SYS_ppoll);
    give(fds[THEM], "x");
    child_join(child);
    drop_all(fds[THEM], -1);
}

static void stand_inside(struct worker *w)
{
    w->fd = fin_handle_enter(w->handle);
    while (!w->release)
        (void) sched_yield();
    fin_handle_leave(w->handle);
}

/* Threads of the parent that are inside are not there in the child. */
static void test_a_child_does_not_wait_for_its_parents_threads(void **state)
{
    struct fin_policy policy = policy_of(FIN_COURTESY_PROMPT);
    struct worker own, foreign;
    int fds[2];
    struct fin_handle *handle;

    (void) state;
    tcp_pair(AF_INET, BUFFERS_USUAL, fds);
    handle = handle_of(fds[US]);
    start(&own, handle, receive);
    await_call(&own, SYS_ppoll);
    start(&foreign, handle, stand_inside);
    await_entry(&foreign);
    child_join(child_start(close_copy, handle));
    foreign.release = 1;
    (void) join(&foreign);
    (void) closed_handle(handle, &policy);
    assert_int_equal(join(&own), -ECANCELED);
    assert_seen_fin(see(fds[THEM]), 0);
    assert_null(fin_handle_free(handle));
    drop_all(fds[THEM], -1);
}

static void *use_all_the_time(void *arg)
{
    struct worker *w = arg;
    struct fin_handle *other;
    int fd;

    while (!w->release) {
        (void) fin_handle_enter(w->handle);
        fin_handle_leave(w->handle);
        if (fin_handle_dup_ref(w->handle, &other) == 0)
            (void) fin_handle_free(other);
        fd = fcntl(w->fd, F_DUPFD_CLOEXEC, 0);
        if (fin_handle_new(fd, &other) < 0
            || fin_handle_free(other)) /* the dead descriptor's lock */
            abort();
    }
    return NULL;
}

static bool leave_and_free(void *arg)
{
    (void) fin_handle_free(arg);
    return true;
}

/* The locks of a handle may be taken at the moment of a fork. */
static void test_a_child_takes_no_lock_of_its_parents(void **state)
{
    struct worker w = { .release = 0 };
    int fds[2];

    (void) state;
    busy();
    unix_pair(SOCK_STREAM, fds);
    w.handle = handle_of(fds[US]);
    w.fd = fds[THEM];
    assert_int_equal(pthread_create(&w.thread, NULL, use_all_the_time, &w), 0);
    for (int i = 0; i < 300; i++)
        child_join(child_start(leave_and_free, w.handle));
    w.release = 1;
    assert_int_equal(pthread_join(w.thread, NULL), 0);
    assert_null(fin_handle_free(w.handle));
    drop_all(fds[THEM], -1);
}

static bool freed_is_gone(void *arg)
{
    struct worker *w = arg;
    struct fin_identity id = FIN_IDENTITY_INIT;

    (void) fin_handle_free(w->handle);
    return fin_identify(w->fd, &id) < 0 || id.inode != (uint64_t) w->result;
}

static void *close_slowly(void *arg)
{
    struct worker *w = arg;
    struct fin_policy policy = policy_of(FIN_COURTESY_ORDERLY);

    policy.linger_ms = 5000;
    (void) closed_handle(w->handle, &policy);
    return NULL;
}

/* What the parent closes at the fork is the parent's; the child lets its copy go. */
static void test_a_child_lets_go_what_its_parent_closes(void **state)
{
    struct worker w = { .release = 0 };
    struct fin_identity id = FIN_IDENTITY_INIT;
    int fds[2];

    (void) state;
    tcp_pair(AF_INET, BUFFERS_USUAL, fds);
    assert_int_equal(fin_identify(fds[US], &id), 0);
    w.handle = handle_of(fds[US]);
    assert_int_equal(pthread_create(&w.thread, NULL, close_slowly, &w), 0);
    await_input(fds[THEM]); /* our FIN: the close waits for theirs */
    w.fd = fds[US];
    w.result = (int64_t) id.inode;
    child_join(child_start(freed_is_gone, &w));
    drop_all(fds[THEM], -1);
    assert_int_equal(pthread_join(w.thread, NULL), 0);
    assert_null(fin_handle_free(w.handle));
}

/* A handle works in the child as it does in the parent: its close wakes the child's own threads. */
static bool use_in_child(void *arg)
{
    struct fin_policy policy = policy_hasty(FIN_COURTESY_ORDERLY);
    struct worker w;

    policy.scope = FIN_SCOPE_DESCRIPTOR;
    start(&w, arg, receive);
    await_call(&w, SYS_ppoll);
    if (closed_handle(arg, &policy).tombstone)
        return false;
    return join(&w) == -ECANCELED && fin_handle_free(arg) == NULL;
}

static void test_a_childs_close_wakes_its_own_threads(void **state)
{
    int fds[2];
    struct fin_handle *handle;

    (void) state;
    tcp_pair(AF_INET, BUFFERS_USUAL, fds);
    handle = handle_of(fds[US]);
    child_join(child_start(use_in_child, handle));
    assert_null(fin_handle_free(handle));
    assert_seen_fin(see(fds[THEM]), 0);
    drop_all(fds[THEM], -1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        GUARDED(test_recv_is_woken_without_a_shutdown),
        GUARDED(test_send_into_a_full_window_is_woken),
        GUARDED(test_send_counts_what_went_out),
        GUARDED(test_a_part_ends_in_a_reset),
        GUARDED(test_a_part_that_is_fine),
        GUARDED(test_a_part_on_a_unix_stream),
        GUARDED(test_data_goes_through),
        GUARDED(test_waiting_has_an_end),
        GUARDED(test_a_signal_changes_nothing),
        GUARDED(test_a_datagram_socket_shut_for_reading_is_at_its_end),
        GUARDED(test_accept_is_woken),
        GUARDED(test_accept_takes_a_connection),
        GUARDED(test_the_last_reference_closes),
        GUARDED(test_a_thread_on_another_reference_goes_on),
        GUARDED(test_two_close_at_once),
        GUARDED(test_new_without_memory_leaves_the_socket),
        GUARDED(test_mistakes_are_refused),
        GUARDED(test_a_child_closes_its_copy),
        GUARDED(test_a_child_outlives_the_close_of_its_parent),
        GUARDED(test_a_child_does_not_wait_for_its_parents_threads),
        GUARDED(test_a_child_takes_no_lock_of_its_parents),
        GUARDED(test_a_child_lets_go_what_its_parent_closes),
        GUARDED(test_a_childs_close_wakes_its_own_threads),
    };

    return cmocka_run_group_tests_name("handle", tests, NULL, NULL);
}
