/* SPDX-License-Identifier: MIT */

/* Layers of the program's own, above peers of every pace. */

#include "closer_support.h"

#include <errno.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define SIZE (8u << 20)
#define SLOW_MS 600 /* far longer than a flush may be without progress */
#define FLUSH_MS 100

/* A layer with bytes to send. */
struct bulk {
    struct fin_layer layer;
    int fd;
    size_t left;
};

static int flush_bulk(void *arg, uint64_t *unsent)
{
    static const char bytes[1 << 16];
    struct bulk *bulk = arg;
    ssize_t n = 0;

    while (bulk->left > 0 && n >= 0) {
        size_t size = bulk->left < sizeof bytes ? bulk->left : sizeof bytes;

        n = send(bulk->fd, bytes, size, MSG_DONTWAIT | MSG_NOSIGNAL);
        bulk->left -= n > 0 ? (size_t) n : 0;
    }
    *unsent = bulk->left;
    if (n < 0 && errno != EAGAIN)
        return -errno;
    return bulk->left ? FIN_LAYER_WANT_WRITE : FIN_LAYER_DONE;
}

static int notify_nothing(void *arg)
{
    (void) arg;
    return FIN_LAYER_NONE;
}

static int read_bulk(void *arg, uint64_t max, uint64_t *n)
{
    const struct bulk *bulk = arg;
    char buf[4096];
    size_t size = max < sizeof buf ? (size_t) max : sizeof buf;
    ssize_t result = recv(bulk->fd, buf, size, MSG_DONTWAIT);

    if (result > 0)
        *n = (uint64_t) result;
    if (result < 0 && errno != EAGAIN)
        return -errno;
    return result > 0 ? FIN_LAYER_DONE : result == 0 ? FIN_LAYER_EOF : FIN_LAYER_WANT_READ;
}

static void bulk_begin(struct bulk *bulk, int fd)
{
    static const struct fin_layer init = FIN_LAYER_INIT;

    *bulk = (struct bulk) { .layer = init, .fd = fd, .left = SIZE };
    bulk->layer.arg = bulk;
    bulk->layer.flush = flush_bulk;
    bulk->layer.notify = notify_nothing;
    bulk->layer.read = read_bulk;
}

/* ---- a peer that takes little at a time ----
 *
 * There is room to send only once a third of the kernel's queue is gone, which takes it longer than
 * a flush may be without progress. */

struct slow_peer {
    pthread_t thread;
    int fd;
    size_t before;     /* read slowly */
    size_t answers_at; /* what it has read then; 0: it doesn't */
    struct seen seen;
};

static void *read_slowly(void *arg)
{
    static const struct timespec pause = { .tv_nsec = 10000000 };
    struct slow_peer *peer = arg;
    uint64_t end = clock_ns() + SLOW_MS * 1000000ull;
    char buf[16384];
    ssize_t n = 1;

    while (n > 0 && clock_ns() < end) {
        n = recv(peer->fd, buf, sizeof buf, 0);
        peer->before += n > 0 ? (size_t) n : 0;
        (void) nanosleep(&pause, NULL); /* its pace */
    }
    while (n > 0 && peer->before < peer->answers_at) {
        n = recv(peer->fd, buf, sizeof buf, 0);
        peer->before += n > 0 ? (size_t) n : 0;
    }
    if (peer->answers_at)
        give(peer->fd, "!");
    peer->seen = see_end(peer->fd);
    (void) close(peer->fd);
    return NULL;
}

static void slow_begin(struct slow_peer *peer, int fd)
{
    peer->fd = fd;
    assert_int_equal(pthread_create(&peer->thread, NULL, read_slowly, peer), 0);
}

static void assert_took_all(struct slow_peer *peer, const struct fin_receipt *r)
{
    assert_int_equal(pthread_join(peer->thread, NULL), 0);
    peer->seen.bytes += peer->before;
    assert_seen_fin(peer->seen, SIZE);
    assert_int_equal(r->outcome, FIN_OUTCOME_GRACEFUL);
    assert_int_equal(r->unsent, 0);
    assert_true(r->stage_ns[FIN_STAGE_FLUSHED] > FLUSH_MS * 2000000ll);
}

static struct fin_policy slow_policy(void)
{
    struct fin_policy policy = policy_of(FIN_COURTESY_ORDERLY);

    policy.flush_ms = FLUSH_MS;
    policy.linger_ms = policy.total_ms = 30000;
    return policy;
}

static void test_slow_peer(void **state)
{
    struct fin_receipt r = FIN_RECEIPT_INIT;
    struct fin_policy policy = slow_policy();
    struct slow_peer peer = { 0 };
    struct bulk bulk;
    int fds[2];

    (void) state;
    tcp_pair(AF_INET, BUFFERS_USUAL, fds);
    bulk_begin(&bulk, fds[US]);
    slow_begin(&peer, fds[THEM]);
    assert_int_equal(fin_close_layered(NULL, fds[US], &bulk.layer, &policy, &r), 0);
    assert_took_all(&peer, &r);
}

static void test_slow_peer_of_the_closer(void **state)
{
    struct fin_policy policy = slow_policy();
    struct slow_peer peer = { 0 };
    struct bulk bulk;
    struct one one = { 0 };
    struct fin_closer *closer = closer_of(1);
    int fds[2];

    (void) state;
    tcp_pair(AF_INET, BUFFERS_USUAL, fds);
    bulk_begin(&bulk, fds[US]);
    slow_begin(&peer, fds[THEM]);
    prepare(closer, &one, fds[US]);
    assert_int_equal(
        fin_closer_submit_layered(closer, fds[US], &bulk.layer, &policy, completed, &one, &one.op),
        0);
    await(closer, &one);
    assert_took_all(&peer, &one.receipt);
    fin_closer_free(closer);
}

/* ---- a farewell, and the answer to it, behind a full queue ---- */

static int notify_in_a_byte(void *arg)
{
    const struct bulk *bulk = arg;

    if (send(bulk->fd, "!", 1, MSG_DONTWAIT | MSG_NOSIGNAL) == 1)
        return FIN_LAYER_DONE;
    return errno == EAGAIN ? FIN_LAYER_WANT_WRITE : -errno;
}

static int notify_done(void *arg)
{
    (void) arg;
    return FIN_LAYER_DONE;
}

static int read_answer(void *arg, uint64_t max, uint64_t *n)
{
    int result = read_bulk(arg, max, n);

    return result == FIN_LAYER_DONE ? FIN_LAYER_ANSWERED : result;
}

static void close_behind_a_queue(int courtesy, int (*notify)(void *), size_t sent)
{
    struct fin_receipt r = FIN_RECEIPT_INIT;
    struct fin_policy policy = slow_policy();
    struct slow_peer peer = { 0 };
    struct bulk bulk;
    size_t queued;
    int fds[2];

    policy.courtesy = courtesy;
    policy.farewell_ms = FLUSH_MS;
    tcp_pair(AF_INET, BUFFERS_USUAL, fds);
    queued = fill(fds[US]);
    bulk_begin(&bulk, fds[US]);
    bulk.left = 0;
    bulk.layer.notify = notify;
    bulk.layer.read = read_answer;
    peer.answers_at = queued + sent;
    slow_begin(&peer, fds[THEM]);
    assert_int_equal(fin_close_layered(NULL, fds[US], &bulk.layer, &policy, &r), 0);
    assert_int_equal(pthread_join(peer.thread, NULL), 0);
    peer.seen.bytes += peer.before;
    assert_seen_fin(peer.seen, queued + sent);
    assert_int_equal(r.outcome, FIN_OUTCOME_GRACEFUL);
    assert_true(reached(&r, FIN_STAGE_NOTIFIED));
    assert_true(reached(&r, FIN_STAGE_ANSWERED));
}

/* It reaches a peer that takes something all the time. */
static void test_slow_farewell(void **state)
{
    (void) state;
    close_behind_a_queue(FIN_COURTESY_ORDERLY, notify_in_a_byte, 1);
}

/* The peer can't answer what it has yet to read. */
static void test_slow_answer(void **state)
{
    (void) state;
    close_behind_a_queue(FIN_COURTESY_FULL, notify_done, 0);
}

/* It takes nothing, and is reset when its time is over. */
static void test_deaf_peer(void **state)
{
    struct fin_receipt r = FIN_RECEIPT_INIT;
    struct fin_policy policy = slow_policy();
    struct bulk bulk;
    int fds[2];

    (void) state;
    tcp_pair(AF_INET, BUFFERS_USUAL, fds);
    bulk_begin(&bulk, fds[US]);
    assert_int_equal(fin_close_layered(NULL, fds[US], &bulk.layer, &policy, &r), 0);
    assert_int_equal(r.outcome, FIN_OUTCOME_TIMED_OUT);
    assert_int_equal(r.end, FIN_END_RESET);
    assert_int_equal(r.unsent, bulk.left);
    assert_true(r.unsent > 0);
    assert_true(r.stage_ns[FIN_STAGE_RELEASED] < SLOW_MS * 1000000ll);
    assert_seen_reset(see(fds[THEM]));
    (void) close(fds[THEM]);
}

/* ---- input behind an end that was a shutdown(2) of the program's ---- */

struct late {
    struct bulk bulk;
    int peer;
};

/* The stream has ended for who reads it; then the peer sends more. */
static int read_and_let_send(void *arg, uint64_t max, uint64_t *n)
{
    struct late *late = arg;
    int result = read_bulk(&late->bulk, max, n);

    if (result == FIN_LAYER_EOF && late->peer >= 0) {
        give(late->peer, "late");
        await_input(late->bulk.fd);
        late->peer = -1;
    }
    return result;
}

/* close(2) would reset for what is unread. */
static void test_input_behind_an_end(void **state)
{
    struct fin_receipt r = FIN_RECEIPT_INIT;
    struct fin_policy policy = policy_of(FIN_COURTESY_FULL);
    struct late late;
    int fds[2];

    (void) state;
    policy.linger_ms = 300;
    tcp_pair(AF_INET, BUFFERS_USUAL, fds);
    assert_int_equal(shutdown(fds[US], SHUT_RD), 0);
    late.peer = fds[THEM];
    bulk_begin(&late.bulk, fds[US]);
    late.bulk.left = 0;
    late.bulk.layer.arg = &late;
    late.bulk.layer.read = read_and_let_send;
    late.bulk.layer.notify = notify_done;
    assert_int_equal(fin_close_layered(NULL, fds[US], &late.bulk.layer, &policy, &r), 0);
    assert_int_equal(late.peer, -1);
    assert_int_equal(r.discarded, 4);
    assert_int_equal(r.end, FIN_END_FIN);
    assert_true(reached(&r, FIN_STAGE_ACKED));
    assert_seen_fin(see_end(fds[THEM]), 0);
    (void) close(fds[THEM]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        GUARDED(test_slow_peer),           GUARDED(test_slow_peer_of_the_closer),
        GUARDED(test_slow_farewell),       GUARDED(test_slow_farewell),
        GUARDED(test_slow_answer),         GUARDED(test_deaf_peer),
        GUARDED(test_input_behind_an_end),
    };

    own_network();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
