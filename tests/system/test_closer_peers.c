/* SPDX-License-Identifier: MIT */

/* Two thousand closes against every kind of peer at random, TCP and TLS, many at once: each ends as
 * it must, for us and for the peer, and in bounded time. `test_closer_peers SEED` repeats a run. */

#include "closer_support.h"

#include "peers/client.h"
#include "peers/credentials.h"
#include "probe/expected.h"

#include <errno.h>
#include <finack/openssl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>

#define CLOSES 2000
#define ROUND_MAX 1000 /* at once, if there are descriptors for so many */
#define EACH_NEEDS 5   /* descriptors: ours, the peer's three, a holder's line */
#define SPARE 200
#define OPENERS 8
#define GRACE_MS 5000

struct row {
    const struct expectation *expected;
    struct peer *peer;
    struct client client;
    struct one one;
    int error;
};

static struct credentials credentials;
static struct row rows[ROUND_MAX];
static unsigned round_size;
static atomic_uint next_row;
static unsigned seed;

static unsigned next_random(void)
{
    seed = seed * 1664525u + 1013904223u;
    return seed >> 8;
}

/* A second draw for what takes the most time: handshakes and forks. */
static const struct expectation *choose(void)
{
    const struct expectation *chosen = &expectations[next_random() % EXPECTATIONS];

    if (chosen->tls || chosen->kind == PEER_HELD)
        chosen = &expectations[next_random() % EXPECTATIONS];
    return chosen;
}

/* ---- opening, in several threads ---- */

static int open_row(struct row *row)
{
    const struct expectation *x = row->expected;
    int family = row->one.fd, result;

    result = peer_start(x->kind, x->tls ? credentials.server : NULL, family, &row->peer);
    if (result == 0)
        result = client_open(&row->client, row->peer, x->tls ? credentials.client : NULL);
    if (result == 0)
        result = client_prepare(&row->client, x->kind);
    return result;
}

static void *open_rows(void *arg)
{
    unsigned i;

    (void) arg;
    while ((i = atomic_fetch_add(&next_row, 1)) < round_size)
        rows[i].error = open_row(&rows[i]);
    return NULL;
}

static void open_round(void)
{
    pthread_t openers[OPENERS];

    memset(rows, 0, sizeof rows);
    for (unsigned i = 0; i < round_size; i++) {
        rows[i].expected = choose();
        rows[i].client = (struct client) { .fd = -1, .holder_end = -1 };
        rows[i].one.fd = next_random() % 2 ? AF_INET : AF_INET6;
    }
    atomic_store(&next_row, 0);
    for (int i = 0; i < OPENERS; i++)
        assert_int_equal(pthread_create(&openers[i], NULL, open_rows, NULL), 0);
    for (int i = 0; i < OPENERS; i++)
        assert_int_equal(pthread_join(openers[i], NULL), 0);
    for (unsigned i = 0; i < round_size; i++)
        assert_int_equal(rows[i].error, 0);
}

/* ---- closing ---- */

static void submit_row(struct fin_closer *closer, struct row *row, const struct fin_policy *policy)
{
    struct client *c = &row->client;
    struct one *one = &row->one;
    const struct fin_ssl_write *unfinished = c->unfinished.buf ? &c->unfinished : NULL;

    if (!c->ssl) {
        submit(closer, one, c->fd, policy);
    } else {
        prepare(closer, one, c->fd);
        assert_int_equal(
            fin_closer_submit_ssl(closer, c->ssl, unfinished, policy, completed, one, &one->op), 0);
    }
    c->fd = -1;
}

/* A search for the holders reads all of /proc: one in eight is enough here. */
static void submit_round(struct fin_closer *closer, struct fin_policy policy)
{
    for (unsigned i = 0; i < round_size; i++) {
        policy.find_holders = i % 8 == 0;
        submit_row(closer, &rows[i], &policy);
    }
}

static void complain(const struct row *row, const struct peer_view *v)
{
    char line[512];

    (void) fin_receipt_format(&row->one.receipt, line, sizeof line);
    print_error("%s%s: %s\n", peer_kind_name(row->expected->kind),
                row->expected->tls ? " over TLS" : "", line);
    print_error("the peer: %llu of %llu bytes, notified %d, eof %d, reset %d, read %d, error %d, "
                "send %d\n",
                (unsigned long long) v->bytes, (unsigned long long) row->client.written,
                v->notified, v->eof, v->reset, v->read_error, v->so_error, v->next_send);
}

static void check_row(struct row *row, const struct fin_policy *policy)
{
    struct probe_result result = { .receipt = row->one.receipt, .closed = true, .has_view = true };
    uint64_t written = row->client.written;

    peer_finish(row->peer, GRACE_MS, &result.view);
    assert_int_equal(row->one.calls, 1);
    assert_sound(&row->one.receipt);
    if (expectation_judge(row->expected, policy, written, &result) != VERDICT_OK) {
        complain(row, &result.view);
        fail();
    }
    if (row->one.receipt.search == FIN_SEARCH_FOUND) /* else its time was over */
        assert_int_equal(row->one.receipt.holder[0].pid, row->client.holder);
    client_free(&row->client);
}

/* No close takes longer than its policy allows, however many there are. */
static void close_round(struct fin_closer *closer, const struct fin_policy *policy)
{
    uint64_t limit = clock_ns() + GUARD_S * 1000000000ull;

    submit_round(closer, *policy);
    for (unsigned i = 0; i < round_size; i++) {
        await(closer, &rows[i].one);
        assert_true(clock_ns() < limit);
    }
    for (unsigned i = 0; i < round_size; i++)
        assert_true(rows[i].one.receipt.stage_ns[FIN_STAGE_RELEASED]
                    < (policy->total_ms + 1000) * 1000000ll);
}

static unsigned at_once(void)
{
    struct rlimit limit;
    rlim_t fit;

    assert_int_equal(getrlimit(RLIMIT_NOFILE, &limit), 0);
    limit.rlim_cur = limit.rlim_max;
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
    assert_true(limit.rlim_cur > 2 * SPARE);
    fit = (limit.rlim_cur - SPARE) / EACH_NEEDS;
    return fit < ROUND_MAX ? (unsigned) fit : ROUND_MAX;
}

static void test_all_peers(void **state)
{
    struct fin_policy policy = policy_of(FIN_COURTESY_ORDERLY);
    unsigned most = at_once();
    struct fin_closer *closer;

    (void) state;
    policy.flush_ms = policy.farewell_ms = policy.linger_ms = 2500;
    policy.total_ms = 8000;
    policy.proof_ms = 100;
    assert_int_equal(credentials_make(&credentials), 0);
    closer = closer_of(0);
    for (unsigned done = 0; done < CLOSES; done += round_size) {
        round_size = CLOSES - done < most ? CLOSES - done : most;
        open_round();
        close_round(closer, &policy);
        for (unsigned i = 0; i < round_size; i++)
            check_row(&rows[i], &policy);
    }
    assert_int_equal(pending(closer), 0);
    assert_int_equal(completions(), CLOSES);
    fin_closer_free(closer);
    credentials_free(&credentials);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = { GUARDED(test_all_peers) };

    seed = argc > 1 ? (unsigned) strtoul(argv[1], NULL, 10) : (unsigned) time(NULL);
    (void) printf("# seed %u\n", seed);
    own_network();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
