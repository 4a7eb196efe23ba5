/* SPDX-License-Identifier: MIT */

/* Every embedded peer, over TCP and TLS, from both sides: the receipt, and what the peer got. */

#include "support.h"

#include "peers/client.h"
#include "peers/credentials.h"
#include "peers/peers.h"

#include <string.h>

struct row {
    enum peer_kind kind;
    enum fin_outcome outcome;
    enum fin_phase phase;
    enum fin_end end;
    bool tls;
    /* of the peer */
    bool notified, eof, reset, complete;
    /* stages of ours */
    bool acked, got_eof, answered;
};

#define FINE FIN_OUTCOME_GRACEFUL, FIN_PHASE_NONE, FIN_END_FIN
#define BOUNDED FIN_OUTCOME_BOUNDED, FIN_PHASE_LINGER, FIN_END_RESET
#define LATE(phase, end) FIN_OUTCOME_TIMED_OUT, FIN_PHASE_##phase, FIN_END_##end

static const struct row rows[] = {
    { PEER_CLEAN, FINE, 0, 0, 1, 0, 1, 1, 1, 0 },
    { PEER_SLOW, FINE, 0, 0, 1, 0, 1, 1, 1, 0 },
    { PEER_MUTE, LATE(LINGER, FIN), 0, 0, 1, 0, 1, 1, 0, 0 },
    { PEER_DEAF, LATE(LINGER, KERNEL), 0, 0, 1, 0, 1, 0, 0, 0 },
    { PEER_CHATTY, BOUNDED, 0, 0, 1, 1, 1, 1, 0, 0 },
    { PEER_UNREAD, FINE, 0, 0, 1, 0, 1, 1, 1, 0 },
    { PEER_RESETTING, FIN_OUTCOME_RESET, FIN_PHASE_LINGER, FIN_END_RESET, 0, 0, 1, 0, 1, 1, 0, 0 },
    { PEER_HELD, FINE, 0, 0, 1, 0, 1, 1, 1, 0 },
    { PEER_CLEAN, FINE, 1, 1, 1, 0, 1, 1, 1, 1 },
    { PEER_SLOW, FINE, 1, 1, 1, 0, 1, 1, 1, 1 },
    { PEER_MUTE, LATE(LINGER, FIN), 1, 1, 1, 0, 1, 1, 0, 0 },
    { PEER_DEAF, LATE(FLUSH, RESET), 1, 0, 0, 1, 0, 0, 0, 0 },
    { PEER_CHATTY, BOUNDED, 1, 1, 1, 1, 1, 1, 0, 0 },
    { PEER_UNREAD, FINE, 1, 1, 1, 0, 1, 1, 1, 1 },
    { PEER_RESETTING, FIN_OUTCOME_RESET, FIN_PHASE_LINGER, FIN_END_RESET, 1, 1, 1, 0, 1, 1, 0, 0 },
    { PEER_HELD, FINE, 1, 1, 1, 0, 1, 1, 1, 1 },
    { PEER_TRUNCATING, FIN_OUTCOME_TRUNCATED, FIN_PHASE_LINGER, FIN_END_FIN, 1, 1, 1, 0, 1, 1, 1,
      0 },
    { PEER_NOTIFY_THEN_DEAF, LATE(FLUSH, RESET), 1, 0, 0, 1, 0, 0, 0, 1 },
};

static struct credentials credentials;

static int make_credentials(void **state)
{
    (void) state;
    return credentials_make(&credentials);
}

static int free_credentials(void **state)
{
    (void) state;
    credentials_free(&credentials);
    return 0;
}

static void judge_receipt(const struct row *row, const struct fin_receipt *r)
{
    assert_outcome(r, row->outcome, row->end);
    assert_string_equal(fin_phase_name(r->phase), fin_phase_name((int) row->phase));
    assert_int_equal(r->held, row->kind == PEER_HELD ? FIN_YES : FIN_NO);
    assert_int_equal(reached(r, FIN_STAGE_NOTIFIED), row->notified);
    assert_int_equal(reached(r, FIN_STAGE_EOF), row->got_eof);
    /* chatty and resetting peers acknowledge sooner or later */
    if (row->kind != PEER_CHATTY && row->kind != PEER_RESETTING)
        assert_int_equal(reached(r, FIN_STAGE_ACKED), row->acked);
    if (row->kind != PEER_NOTIFY_THEN_DEAF)
        assert_int_equal(reached(r, FIN_STAGE_ANSWERED), row->answered);
    assert_int_equal(r->unsent > 0, !row->complete);
}

static void judge_view(const struct row *row, const struct peer_view *view, uint64_t written)
{
    assert_true(view->connected);
    assert_int_equal(view->notified, row->notified);
    assert_int_equal(view->eof, row->eof);
    assert_int_equal(view->reset, row->reset);
    if (row->complete)
        assert_int_equal(view->bytes, written);
    else
        assert_true(view->bytes <= written);
    if (row->kind == PEER_UNREAD) {
        assert_false(view->pollerr);
        assert_int_equal(view->so_error, 0);
        assert_int_equal(view->next_send, 0);
    }
}

static void meet(const struct row *row)
{
    struct fin_policy policy = policy_of(FIN_COURTESY_ORDERLY);
    struct fin_receipt r = FIN_RECEIPT_INIT;
    struct peer *peer = NULL;
    struct peer_view view;
    struct client client;
    int fd;

    print_message("           %s over %s\n", peer_kind_name(row->kind), row->tls ? "TLS" : "TCP");
    policy.flush_ms = policy.farewell_ms = 1000;
    policy.linger_ms = 1500;
    policy.proof_ms = 5;
    assert_int_equal(peer_start(row->kind, row->tls ? credentials.server : NULL, AF_INET, &peer),
                     0);
    assert_int_equal(client_open(&client, peer, row->tls ? credentials.client : NULL), 0);
    assert_int_equal(client_prepare(&client, row->kind), 0);
    fd = client.fd;
    assert_int_equal(client_close(&client, NULL, &policy, &r), 0);
    assert_true(is_free(fd));
    peer_finish(peer, 5000, &view);
    assert_sound(&r);
    judge_receipt(row, &r);
    judge_view(row, &view, client.written);
    client_free(&client);
}

static void meet_all(bool tls)
{
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        if (rows[i].tls == tls)
            meet(&rows[i]);
}

static void test_over_tcp(void **state)
{
    (void) state;
    meet_all(false);
}

static void test_over_tls(void **state)
{
    (void) state;
    meet_all(true);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        GUARDED(test_over_tcp),
        GUARDED(test_over_tls),
    };

    own_network();
    return cmocka_run_group_tests(tests, make_credentials, free_credentials);
}
