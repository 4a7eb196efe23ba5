/* SPDX-License-Identifier: MIT */

#include "rules.h"

#include <errno.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define MS 1000000
#define LATE_NS (120 * MS) /* what a machine at work may add */
#define CROSS_NS (15 * MS) /* what happens on both sides within this time has crossed on the way */
#define SMALL 4096         /* always fits into a receive buffer */

/* ---- what is true ---- */

static bool reached(const struct play *p, enum fin_stage stage)
{
    return p->receipt.stage_ns[stage] >= 0;
}

static bool settled(const struct play *p, enum fin_stage stage)
{
    return reached(p, stage) || p->receipt.unverifiable & (1u << stage);
}

static uint64_t stage_at(const struct play *p, enum fin_stage stage)
{
    return p->receipt.requested_ns + (uint64_t) p->receipt.stage_ns[stage];
}

/* The same from below: of Python's closes it is only known that they were asked for by then. */
static uint64_t earliest_at(const struct play *p, enum fin_stage stage)
{
    return scene_is_python(&p->scene) ? p->began + (uint64_t) p->receipt.stage_ns[stage]
                                      : stage_at(p, stage);
}

/* The bytes of ours that went into the kernel, by the program and by the layer. */
static uint64_t in_kernel(const struct play *p)
{
    return p->handed + p->layer_sent + p->layer_farewell;
}

/* What the peer's program must have read before it may read EOF. */
static uint64_t all_bytes(const struct play *p)
{
    return p->handed + p->layer_sent + p->layer_left + p->unfinished;
}

/* The peer's program ended its side in a way that may have reset the connection. */
static bool peer_may_reset(const struct play *p)
{
    return p->view->acted_ns && p->scene.v[PEER_ACT] >= ACT_CLOSE
        && p->scene.v[PEER_ACT] != ACT_SHUT;
}

/* It reset, for certain, and sent no FIN before. */
static bool peer_did_reset(const struct play *p)
{
    bool closed = peer_may_reset(p);

    /* A Unix socket keeps no trace of an error that somebody has taken. */
    bool traceless = p->scene.v[ERROR] || p->scene.v[INPUT] || p->scene.v[WORKERS]
        || p->scene.v[HOLDER] == HELD_CHILD_READS || p->scene.v[DRIVER] == PY_SOCKET;

    if (scene_is_unix(&p->scene))
        return closed && p->view->acted_unread && !traceless;
    return closed && (p->scene.v[PEER_ACT] == ACT_RESET || p->view->acted_unread);
}

/* The network lost packets, a RST among them perhaps. */
static bool network_drops(const struct play *p)
{
    return p->view->fault_ns && p->scene.v[FAULT] != FAULT_KILLED;
}

/* Somebody in between reset either end. */
static bool network_resets(const struct play *p)
{
    return p->view->fault_ns
        && (p->scene.v[FAULT] == FAULT_RESET || p->scene.v[FAULT] == FAULT_KILLED);
}

static bool peer_saw_reset(const struct play *p)
{
    const struct view *v = p->view;
    bool sends_tell = !scene_is_unix(&p->scene) || v->send_error == ECONNRESET;

    return v->end == VIEW_RESET || v->so_error == ECONNRESET || v->so_error == EPIPE
        || (sends_tell && v->send_error);
}

static bool peer_saw_end(const struct play *p)
{
    return p->view->end == VIEW_EOF && p->view->read >= all_bytes(p);
}

/* The peer closed because it had read everything, a while before the close could reset it. */
static bool peer_was_content(const struct play *p)
{
    return p->scene.v[PEER_ACT] == ACT_AT_EOF && p->view->did_ns && peer_saw_end(p)
        && p->view->did_ns + CROSS_NS < earliest_at(p, FIN_STAGE_UNWATCHED);
}

/* The peer shut or closed at about the moment that the close looked what it would find: the last
 * look saw no FIN, close(2) did. Of MPTCP the kernel may say no more than that both have ended. */
static bool ends_crossed(const struct play *p)
{
    uint64_t released =
        p->receipt.requested_ns + (uint64_t) p->receipt.stage_ns[FIN_STAGE_RELEASED];

    if (p->scene.v[KIND] == MPTCP)
        return p->view->acted_ns && reached(p, FIN_STAGE_ACKED);
    return p->view->acted_ns && p->view->acted_ns < released
        && (!p->view->did_ns || p->view->did_ns + CROSS_NS > released);
}

/* More of the peer's can have come than we read, or can come: our close may reset it. */
static bool more_may_come(const struct play *p)
{
    return p->scene.v[PEER_CHATS] || p->view->sent > SMALL || p->scene.v[URGENT]
        || scene_is_tls(&p->scene);
}

static bool ends_here(const struct play *p)
{
    return scene_is_stream(&p->scene) && !scene_of_descriptor(&p->scene);
}

static bool waits_for_peer(const struct play *p)
{
    return ends_here(p) && p->policy.courtesy >= FIN_COURTESY_ORDERLY;
}

/* Who holds the description when the receipt is written. */
static enum fin_answer truly_held(const struct play *p)
{
    if (p->scene.v[WORKERS])
        return FIN_UNVERIFIABLE; /* until the thread has left */
    return p->scene.v[HOLDER] ? FIN_YES : FIN_NO;
}

static bool has_farewell(const struct play *p)
{
    return scene_is_layered(&p->scene) || scene_is_tls(&p->scene) || scene_is_python(&p->scene);
}

static uint64_t spent(const struct play *p)
{
    return p->ended - p->began;
}

static uint64_t shortest_wait(const struct play *p)
{
    int32_t least =
        p->policy.linger_ms < p->policy.total_ms ? p->policy.linger_ms : p->policy.total_ms;

    if (has_farewell(p) && p->policy.flush_ms < least)
        least = p->policy.flush_ms;
    if (has_farewell(p) && p->policy.farewell_ms < least)
        least = p->policy.farewell_ms;
    return (uint64_t) least * MS;
}

/* ---- rules: each returns true if it is broken ---- */

static bool call_failed(const struct play *p)
{
    return p->result != 0;
}

static bool never_completed(const struct play *p)
{
    return !p->completed;
}

static bool too_late(const struct play *p)
{
    uint64_t bound = (uint64_t) (p->policy.total_ms + p->policy.proof_ms) * MS;

    return spent(p) > bound + p->stolen + LATE_NS;
}

static bool linger_too_long(const struct play *p)
{
    const struct fin_receipt *r = &p->receipt;
    uint64_t linger = (uint64_t) p->policy.linger_ms * MS;
    bool nothing_moves = p->scene.v[SENT] < 3 && !has_farewell(p) && waits_for_peer(p)
        && !p->scene.v[PEER_CHATS] && p->scene.v[PEER_SENDS] < 3;

    return nothing_moves && reached(p, FIN_STAGE_RELEASED)
        && (uint64_t) r->stage_ns[FIN_STAGE_RELEASED]
        > linger + linger / 2 + p->stolen + LATE_NS / 4
        && p->policy.linger_ms >= 40;
}

static bool timed_out_early(const struct play *p)
{
    return p->receipt.outcome == FIN_OUTCOME_TIMED_OUT && !p->receipt.forced
        && spent(p) + MS < shortest_wait(p);
}

static bool number_left(const struct play *p)
{
    return !p->number_is_free && !p->receipt.tombstone;
}

static bool tombstone_for_nobody(const struct play *p)
{
    return p->receipt.tombstone && p->scene.v[WORKERS] == WORKERS_NONE;
}

static bool descriptors_differ(const struct play *p)
{
    if (scene_is_python(&p->scene))
        return p->left_open;
    for (int i = 0; i < DESCRIPTORS; i++) {
        if (p->before.open[i] != p->after.open[i] && i != p->fd && i != p->peer.control
            && i != p->net.control && i != p->holder_fd && i != p->flight[0] && i != p->flight[1])
            return true;
    }
    return false;
}

static bool bytes_corrupt(const struct play *p)
{
    return p->view->corrupt;
}

static bool fin_with_bytes_missing(const struct play *p)
{
    bool dropped = scene_of_descriptor(&p->scene) && scene_is_python(&p->scene)
        && scene_is_tls(&p->scene); /* below TLS, uncounted */
    uint64_t least = all_bytes(p);

    if (dropped || !scene_is_stream(&p->scene) || p->view->end != VIEW_EOF || p->view->send_error
        || p->view->so_error == ECONNRESET)
        return false;
    if (scene_is_unix(&p->scene) || scene_of_descriptor(&p->scene)
        || p->scene.v[SHUT] >= SHUT_WRITING)
        least = p->handed
            + (scene_is_layered(&p->scene)
                   ? p->layer_sent
                   : 0); /* a FIN could not be kept back, see docs/design.md */
    return p->view->read < least;
}

static bool end_of_nothing(const struct play *p)
{
    return !scene_is_stream(&p->scene) && p->receipt.end != FIN_END_NONE
        && p->scene.v[KIND] < CONNECTING;
}

/* The program read the peer's end itself, without close_notify before: none can be said any
 * more. */
static bool session_died(const struct play *p)
{
    return scene_is_tls(&p->scene) && p->scene.v[INPUT] && p->view->acted_ns
        && p->view->acted_ns < p->began && !p->view->said_ns;
}

/* What comes behind the release is answered by RST (RFC 9293, 3.10.7.1), which hides our FIN from
 * a peer that has not read it. */
static bool sent_into_the_closed(const struct play *p)
{
    return peer_saw_reset(p) && p->view->sent_ns + CROSS_NS > stage_at(p, FIN_STAGE_RELEASED);
}

static bool fin_nobody_read(const struct play *p)
{
    if ((scene_is_unix(&p->scene) || p->scene.v[KIND] == MPTCP)
        && p->scene.v[HOLDER]) /* whose close with input unread resets */
        return false;
    return p->receipt.end == FIN_END_FIN && !peer_may_reset(p) && !sent_into_the_closed(p)
        && (p->view->end != VIEW_EOF || p->view->read < all_bytes(p));
}

static bool fin_after_reset(const struct play *p)
{
    if (p->scene.v[HOLDER]) /* whose close resets, later */
        return false;
    return p->receipt.end == FIN_END_FIN && p->view->watched && !more_may_come(p)
        && !network_resets(p) && peer_saw_reset(p) && !peer_may_reset(p);
}

static bool fin_to_a_peer_that_reset(const struct play *p)
{
    return p->receipt.end == FIN_END_FIN && peer_did_reset(p)
        && p->scene.v[PEER_WHEN] == WHEN_BEFORE && p->scene.v[SHUT] < SHUT_WRITING
        && scene_is_stream(&p->scene);
}

static bool reset_nobody_saw(const struct play *p)
{
    if (p->receipt.end != FIN_END_RESET || peer_may_reset(p) || p->view->fault_ns)
        return false;
    if (p->scene.v[EMPTY]) /* unread alone it resets on some kernels (unix_release_sock()) */
        return false;
    return p->view->watched && !peer_saw_reset(p) && !ends_crossed(p);
}

/* That both had ended while it was being released is a matter of the machine's load. */
static bool reset_after_the_end(const struct play *p)
{
    bool told = p->receipt.end == FIN_END_RESET || p->receipt.outcome == FIN_OUTCOME_RESET;

    return told && scene_is_stream(&p->scene) && !peer_may_reset(p) && !p->view->fault_ns
        && !p->scene.v[EMPTY] && !p->view->watched && peer_was_content(p) && !more_may_come(p);
}

static bool outcome_reset_of_nobody(const struct play *p)
{
    if (p->receipt.outcome != FIN_OUTCOME_RESET || peer_may_reset(p) || !scene_is_stream(&p->scene)
        || network_resets(p) || network_drops(p) || p->scene.v[EMPTY])
        return false;
    return p->view->watched && !peer_saw_reset(p);
}

static bool ended_for_holders(const struct play *p)
{
    bool told = p->view->now_end != VIEW_OPEN
        || (p->view->now_poll > 0 && p->view->now_poll & (POLLRDHUP | POLLHUP | POLLERR));

    return p->receipt.end == FIN_END_NONE && scene_is_stream(&p->scene) && !peer_may_reset(p)
        && !network_resets(p) && p->scene.v[SHUT] < SHUT_WRITING && p->scene.v[HOLDER]
        && !p->view->acted_ns && told;
}

static bool none_without_holder(const struct play *p)
{
    return p->receipt.end == FIN_END_NONE && scene_is_stream(&p->scene) && truly_held(p) == FIN_NO;
}

static bool descriptor_scope_ended_it(const struct play *p)
{
    bool told = p->view->now_end != VIEW_OPEN
        || (p->view->now_poll > 0 && p->view->now_poll & (POLLRDHUP | POLLHUP | POLLERR));

    return scene_is_stream(&p->scene) && scene_of_descriptor(&p->scene) && p->scene.v[HOLDER]
        && told && !network_resets(p) && !p->view->acted_ns && p->scene.v[SHUT] < SHUT_WRITING;
}

static bool acked_without_bytes(const struct play *p)
{
    bool counts = scene_is_stream(&p->scene) && p->scene.v[KIND] != UNIX_SEQPACKET
        && !scene_is_tls(&p->scene);

    return counts && reached(p, FIN_STAGE_ACKED) && !peer_may_reset(p) && !p->view->acted_ns
        && p->view->now_poll >= 0 && p->view->now_read + p->view->now_queued < in_kernel(p);
}

static bool acked_by_a_peer_that_reset(const struct play *p)
{
    return reached(p, FIN_STAGE_ACKED) && scene_is_tcp(&p->scene) && peer_did_reset(p)
        && p->scene.v[PEER_WHEN] == WHEN_BEFORE && p->scene.v[SHUT] < SHUT_WRITING;
}

static bool acked_but_not_shut(const struct play *p)
{
    return reached(p, FIN_STAGE_ACKED) && !reached(p, FIN_STAGE_SHUT)
        && p->scene.v[SHUT] < SHUT_WRITING;
}

static bool eof_never_sent(const struct play *p)
{
    return reached(p, FIN_STAGE_EOF) && scene_is_stream(&p->scene)
        && (!p->view->acted_ns || stage_at(p, FIN_STAGE_EOF) < p->view->acted_ns);
}

static bool eof_of_a_reset(const struct play *p)
{
    return reached(p, FIN_STAGE_EOF) && peer_did_reset(p) && !scene_is_unix(&p->scene);
}

static bool graceful_unseen(const struct play *p)
{
    bool says = scene_is_layered(&p->scene) || scene_is_tls(&p->scene);
    bool full = says && p->scene.v[SHUT] < SHUT_WRITING && p->policy.courtesy == FIN_COURTESY_FULL;
    /* A Unix socket whose peer has closed sends nothing more. */
    bool past = scene_is_unix(&p->scene) && reached(p, FIN_STAGE_ANSWERED);
    bool seen =
        settled(p, FIN_STAGE_SHUT) && settled(p, FIN_STAGE_ACKED) && settled(p, FIN_STAGE_EOF);

    if (says)
        seen = seen && settled(p, FIN_STAGE_FLUSHED)
            && (settled(p, FIN_STAGE_NOTIFIED) || past || p->scene.v[SHUT] >= SHUT_WRITING);
    return p->receipt.outcome == FIN_OUTCOME_GRACEFUL && waits_for_peer(p)
        && (!seen || (full && !settled(p, FIN_STAGE_ANSWERED)));
}

static bool graceful_though_truncated(const struct play *p)
{
    return p->receipt.outcome == FIN_OUTCOME_GRACEFUL && waits_for_peer(p) && session_died(p)
        && !settled(p, FIN_STAGE_ANSWERED);
}

static bool graceful_with_losses(const struct play *p)
{
    return p->receipt.outcome == FIN_OUTCOME_GRACEFUL
        && (p->receipt.error || (ends_here(p) && (p->receipt.unsent || p->receipt.unacked)));
}

static bool graceful_to_a_peer_that_reset(const struct play *p)
{
    /* A Unix socket keeps no trace of an error that was taken. */
    if (scene_is_unix(&p->scene) && p->receipt.unverifiable & 1u << FIN_STAGE_ACKED)
        return false;
    return p->receipt.outcome == FIN_OUTCOME_GRACEFUL && waits_for_peer(p) && peer_did_reset(p)
        && p->scene.v[PEER_WHEN] == WHEN_BEFORE && p->scene.v[SHUT] < SHUT_WRITING;
}

static bool fine_unasked(const struct play *p)
{
    const struct fin_receipt *r = &p->receipt;

    if (!ends_here(p) || p->was_closing) /* that close was by the loop's policy */
        return false;
    return (r->outcome == FIN_OUTCOME_GRACEFUL && p->policy.courtesy < FIN_COURTESY_ORDERLY)
        || (r->outcome == FIN_OUTCOME_PROMPT && p->policy.courtesy != FIN_COURTESY_PROMPT)
        || (r->outcome == FIN_OUTCOME_ABORTED && p->policy.courtesy != FIN_COURTESY_ABORT
            && !p->scene.v[ABORT_MS]);
}

static bool held_wrong(const struct play *p)
{
    enum fin_answer truth = truly_held(p);

    if (truth == FIN_UNVERIFIABLE || p->was_closing)
        return false;
    if (p->policy.proof == FIN_STAGE_RELEASED)
        return p->receipt.held != FIN_UNVERIFIABLE;
    return p->receipt.held != (int) truth;
}

static bool unreferenced_wrong(const struct play *p)
{
    if (p->policy.proof == FIN_STAGE_RELEASED || truly_held(p) == FIN_UNVERIFIABLE
        || p->was_closing)
        return false;
    return reached(p, FIN_STAGE_UNREFERENCED) != (truly_held(p) == FIN_NO);
}

static bool holders_wrong(const struct play *p)
{
    const struct fin_receipt *r = &p->receipt;
    int32_t pid = p->holder_pid ? p->holder_pid : p->pid;

    if (r->held != FIN_YES || !p->policy.find_holders || p->scene.v[WORKERS])
        return r->search != FIN_SEARCH_NONE && !p->scene.v[WORKERS];
    if (p->scene.v[HOLDER] == HELD_IN_FLIGHT)
        return r->search == FIN_SEARCH_FOUND || r->search == FIN_SEARCH_NONE;
    return r->search == FIN_SEARCH_FOUND && (r->holders != 1 || r->holder[0].pid != pid);
}

static bool discarded_wrong(const struct play *p)
{
    const struct fin_receipt *r = &p->receipt;
    /* Without a session that works, what is read are records. */
    bool records = scene_is_tls(&p->scene) && (scene_is_python(&p->scene) || r->error);
    bool counts = scene_is_stream(&p->scene) && !records;

    /* A transport that was ending by itself had thrown input away by the loop's own policy. */
    return (r->discarded > p->policy.drain && !p->was_closing)
        || (counts && r->discarded + p->program_read > p->view->sent + p->scene.v[EMPTY]);
}

static bool unacked_wrong(const struct play *p)
{
    const struct fin_receipt *r = &p->receipt;
    bool acked_by_release = reached(p, FIN_STAGE_ACKED)
        && r->stage_ns[FIN_STAGE_ACKED] <= r->stage_ns[FIN_STAGE_RELEASED];
    bool counts = scene_is_tcp(&p->scene) && ends_here(p) && !p->view->acted_ns
        && !scene_is_tls(&p->scene) && !network_resets(p) && r->outcome != FIN_OUTCOME_RESET
        && p->view->now_poll >= 0;

    /* Of a dead connection a FIN that was not acknowledged can't be told from a byte. */
    if (r->unacked > in_kernel(p) + (p->scene.v[SHUT] >= SHUT_WRITING && peer_may_reset(p))
        && !scene_is_tls(&p->scene))
        return true;
    if (r->unacked && (acked_by_release || (r->end == FIN_END_FIN && !reached(p, FIN_STAGE_ACKED))))
        return true;
    return counts && p->view->now_read + p->view->now_queued + r->unacked < in_kernel(p);
}

static bool unsent_wrong(const struct play *p)
{
    const struct fin_receipt *r = &p->receipt;

    if (r->unsent && r->end == FIN_END_FIN)
        return true;
    if (scene_is_python(&p->scene))
        return scene_is_stream(&p->scene) && !scene_is_tls(&p->scene) && !p->was_closing
            && r->unsent > p->buffered;
    if (scene_is_tls(&p->scene))
        return r->unsent > p->unfinished || (r->unsent && reached(p, FIN_STAGE_FLUSHED));
    return scene_is_stream(&p->scene) && r->unsent != p->layer_left;
}

static bool flushed_wrong(const struct play *p)
{
    return reached(p, FIN_STAGE_FLUSHED) && p->layer_left > 0;
}

static bool notified_wrong(const struct play *p)
{
    if (!scene_is_tls(&p->scene))
        return reached(p, FIN_STAGE_NOTIFIED) != p->layer_farewell;
    if (p->view->said_ns && p->view->said_ns < p->began)
        return false; /* a transport answers by itself */
    if (p->view->notified)
        return !reached(p, FIN_STAGE_NOTIFIED);
    return reached(p, FIN_STAGE_NOTIFIED) && p->view->end == VIEW_EOF && !peer_may_reset(p)
        && !peer_saw_reset(p);
}

static bool answered_wrong(const struct play *p)
{
    return reached(p, FIN_STAGE_ANSWERED)
        && (!p->view->said_ns || stage_at(p, FIN_STAGE_ANSWERED) < p->view->said_ns);
}

static bool truncated_wrong(const struct play *p)
{
    return p->receipt.outcome == FIN_OUTCOME_TRUNCATED && scene_is_tls(&p->scene)
        && p->view->told_ns && !peer_may_reset(p) && p->view->told_ns + CROSS_NS < p->ended
        && p->scene.v[DRAIN] == 0 && !more_may_come(p);
}

static bool before_or_missing(const struct play *p, enum fin_stage a, enum fin_stage b)
{
    return !reached(p, a) || !reached(p, b) || p->receipt.stage_ns[a] <= p->receipt.stage_ns[b];
}

static bool order_wrong(const struct play *p)
{
    static const enum fin_stage pairs[][2] = {
        { FIN_STAGE_REQUESTED, FIN_STAGE_FLUSHED },     { FIN_STAGE_FLUSHED, FIN_STAGE_NOTIFIED },
        { FIN_STAGE_NOTIFIED, FIN_STAGE_SHUT },         { FIN_STAGE_SHUT, FIN_STAGE_ACKED },
        { FIN_STAGE_SHUT, FIN_STAGE_RELEASED },         { FIN_STAGE_UNWATCHED, FIN_STAGE_RELEASED },
        { FIN_STAGE_RELEASED, FIN_STAGE_UNREFERENCED }, { FIN_STAGE_RELEASED, FIN_STAGE_FINISHED },
        { FIN_STAGE_FINISHED, FIN_STAGE_GONE },
    };

    for (size_t i = 0; i < sizeof pairs / sizeof *pairs; i++) {
        if (!before_or_missing(p, pairs[i][0], pairs[i][1]))
            return true;
    }
    for (int stage = 0; stage < FIN_STAGES; stage++) {
        if (reached(p, (enum fin_stage) stage) && p->receipt.unverifiable & (1u << stage))
            return true;
    }
    return !reached(p, FIN_STAGE_REQUESTED) || !reached(p, FIN_STAGE_RELEASED);
}

static bool finished_wrong(const struct play *p)
{
    if (p->tcp_state < 0 || p->scene.v[HOLDER] || p->scene.v[WORKERS])
        return false;
    return (reached(p, FIN_STAGE_FINISHED) && p->tcp_state && p->tcp_state != TCP_TIME_WAIT)
        || (reached(p, FIN_STAGE_GONE) && p->tcp_state);
}

static bool still_established(const struct play *p)
{
    bool alive = p->tcp_state == TCP_ESTABLISHED || p->tcp_state == TCP_CLOSE_WAIT;

    return alive && (ends_here(p) || (truly_held(p) == FIN_NO));
}

static bool orphan_left(const struct play *p)
{
    bool working = p->tcp_state == TCP_FIN_WAIT1 || p->tcp_state == TCP_LAST_ACK
        || p->tcp_state == TCP_CLOSING;

    return working && waits_for_peer(p) && !p->was_closing
        && p->policy.orphan_ms == FIN_ORPHAN_RESET;
}

static bool abort_without_reset(const struct play *p)
{
    return p->policy.courtesy == FIN_COURTESY_ABORT && scene_is_tcp(&p->scene) && ends_here(p)
        && !p->view->fault_ns && p->view->watched && !p->view->acted_ns
        && p->scene.v[SHUT] < SHUT_WRITING && !peer_saw_reset(p);
}

static bool kernel_though_seen(const struct play *p)
{
    return p->receipt.end == FIN_END_KERNEL && p->receipt.outcome == FIN_OUTCOME_GRACEFUL
        && reached(p, FIN_STAGE_ACKED) && reached(p, FIN_STAGE_EOF);
}

static bool clients_lost(const struct play *p)
{
    return p->scene.v[KIND] == LISTENER && !scene_of_descriptor(&p->scene)
        && !scene_is_python(&p->scene) && p->receipt.outcome != FIN_OUTCOME_TIMED_OUT
        && p->policy.linger_ms >= 40 && p->scene.v[ABORT_MS] == 0
        && p->policy.courtesy != FIN_COURTESY_ABORT
        && (p->receipt.accepted != p->view->clients || p->view->client_reset
            || p->view->client_eof != p->view->clients);
}

static bool server_left_open(const struct play *p)
{
    return p->scene.v[DRIVER] == PY_SERVER && p->scene.v[SCOPE] != FIN_SCOPE_DESCRIPTOR
        && p->view->client_open;
}

static bool server_graceful(const struct play *p)
{
    return p->scene.v[DRIVER] == PY_SERVER && !p->scene.v[SCOPE] && !p->scene.v[SETTLED]
        && p->policy.courtesy >= FIN_COURTESY_ORDERLY && p->view->client_eof
        && p->receipt.outcome == FIN_OUTCOME_GRACEFUL;
}

static bool data_in_syn_lost(const struct play *p)
{
    return p->scene.v[KIND] == FAST_OPEN && p->handed && !scene_of_descriptor(&p->scene)
        && p->receipt.outcome != FIN_OUTCOME_ABORTED
        && (p->receipt.outcome == FIN_OUTCOME_GRACEFUL || p->receipt.end == FIN_END_FIN
            || (p->policy.courtesy >= FIN_COURTESY_ORDERLY
                && p->receipt.unsent + p->receipt.unacked < p->handed));
}

static const struct {
    const char *name;
    bool (*broken)(const struct play *p);
    bool clock;
    bool bare; /* says something of a close that was cancelled, too: no receipt is needed */
} rules[] = {
    /* A call that takes what docs/design.md says it takes succeeds, and completes once. */
    { "call-failed", call_failed, false, true },
    { "never-completed", never_completed, false, true },
    /* Bounded by total_ms + proof_ms, a search of /proc included. */
    { "too-late", too_late, true, true },
    /* linger_ms starts anew only while the kernel's send queue shrinks. */
    { "linger-too-long", linger_too_long, true, false },
    /* What timed out had been waited for. */
    { "timed-out-early", timed_out_early, false, false },
    /* `released` frees the number, but for a tombstone; no other descriptor appears or goes. */
    { "number-left", number_left, false, true },
    { "tombstone-for-nobody", tombstone_for_nobody, false, false },
    { "descriptors-differ", descriptors_differ, false, true },
    /* No lie to the peer: EOF comes after every byte, and bytes arrive as they were sent. */
    { "bytes-corrupt", bytes_corrupt, false, true },
    { "fin-with-bytes-missing", fin_with_bytes_missing, false, true },
    /* end = none: no stream, or others hold it, and then the peer has noticed nothing. */
    { "end-of-nothing", end_of_nothing, false, false },
    { "ended-for-holders", ended_for_holders, false, false },
    { "none-without-holder", none_without_holder, false, false },
    /* end = fin: the peer reads EOF after all bytes, and no reset follows but by what comes
     * later. */
    { "fin-nobody-read", fin_nobody_read, false, false },
    { "fin-after-reset", fin_after_reset, false, false },
    { "fin-to-a-peer-that-reset", fin_to_a_peer_that_reset, false, false },
    /* end = reset, outcome = reset: the peer was told, or it was the peer. */
    { "reset-nobody-saw", reset_nobody_saw, false, false },
    { "outcome-reset-of-nobody", outcome_reset_of_nobody, false, false },
    { "reset-after-the-end", reset_after_the_end, true, false },
    /* Scope descriptor: other holders, and so the peer, notice nothing. */
    { "descriptor-scope-ended-it", descriptor_scope_ended_it, false, false },
    /* acked: the peer's kernel has all of it, and our FIN. */
    { "acked-without-bytes", acked_without_bytes, false, false },
    { "acked-by-a-peer-that-reset", acked_by_a_peer_that_reset, false, false },
    { "acked-but-not-shut", acked_but_not_shut, false, false },
    /* eof: the peer shut, closed or ended before. */
    { "eof-never-sent", eof_never_sent, false, false },
    { "eof-of-a-reset", eof_of_a_reset, false, false },
    /* graceful: each stage that the policy asked for was seen (or can't be), and nothing is
     * lost. */
    { "graceful-unseen", graceful_unseen, false, false },
    { "graceful-though-truncated", graceful_though_truncated, false, false },
    { "graceful-with-losses", graceful_with_losses, false, false },
    { "graceful-to-a-peer-that-reset", graceful_to_a_peer_that_reset, false, false },
    { "fine-unasked", fine_unasked, false, false },
    /* held, unreferenced, holders: as it is. */
    { "held-wrong", held_wrong, false, false },
    { "unreferenced-wrong", unreferenced_wrong, false, false },
    { "holders-wrong", holders_wrong, false, false },
    /* Numbers: no more was thrown away than came; what is neither acknowledged nor unsent is with
     * the peer; a layer is believed. */
    { "discarded-wrong", discarded_wrong, false, false },
    { "unacked-wrong", unacked_wrong, false, false },
    { "unsent-wrong", unsent_wrong, false, false },
    { "flushed-wrong", flushed_wrong, false, false },
    { "notified-wrong", notified_wrong, false, false },
    { "answered-wrong", answered_wrong, false, false },
    { "truncated-wrong", truncated_wrong, false, false },
    /* The partial order of the stages; none both reached and unverifiable. */
    { "order-wrong", order_wrong, false, false },
    /* finished, gone: sock_diag agrees. A connection that was ended is not ESTABLISHED. */
    { "finished-wrong", finished_wrong, false, false },
    { "still-established", still_established, false, false },
    /* orphan_ms 0: the kernel works on nothing. */
    { "orphan-left", orphan_left, false, false },
    /* abort: RST, unless both sides had ended already. */
    { "abort-without-reset", abort_without_reset, false, false },
    /* All was seen: then the end is known. */
    { "kernel-though-seen", kernel_though_seen, false, false },
    /* A listening socket's queue is emptied, and nobody in it is reset. */
    { "clients-lost", clients_lost, false, false },
    /* A server's connections are closed with it, and these clients never end theirs. */
    { "server-left-open", server_left_open, false, true },
    { "server-graceful", server_graceful, false, false },
    /* Data in a SYN that nobody answered is lost. */
    { "data-in-syn-lost", data_in_syn_lost, false, false },
};

const char *rules_broken(const struct play *p, bool *clock)
{
    for (size_t i = 0; i < sizeof rules / sizeof *rules; i++) {
        if (p->cancelled && !rules[i].bare)
            continue;
        if (rules[i].broken(p)) {
            *clock = rules[i].clock;
            return rules[i].name;
        }
        if (i < 2 && (p->result || !p->completed))
            break; /* there is no receipt */
    }
    return NULL;
}

static double ms_since(const struct play *p, uint64_t at)
{
    return at ? ((double) at - (double) p->began) / MS : -1;
}

const char *rules_describe(const struct play *p, char *buf, size_t size)
{
    static const char *const ends[] = { "open", "eof", "reset" };
    const struct view *v = p->view;
    char line[600] = "";

    (void) fin_receipt_format(&p->receipt, line, sizeof line);
    (void) snprintf(
        buf, size,
        "  result %d after %.1f ms: %s\n"
        "  the peer: sent %llu, read %llu, %s (error %d, SO_ERROR %d)%s; acted at %.1f ms%s; the network broke at %.1f ms; just"
        " after the close: read %llu, queued %llu, poll %#x\n"
        "  the program: handed %llu, layer sent %llu, left %llu%s, read %llu%s; TCP state %d\n",
        p->result, (double) spent(p) / MS, line, (unsigned long long) v->sent,
        (unsigned long long) v->read, ends[v->end], v->error, v->so_error,
        v->watched ? ", watched to the end" : "", ms_since(p, v->acted_ns),
        v->acted_unread ? " with bytes unread" : "", ms_since(p, v->fault_ns),
        (unsigned long long) v->now_read, (unsigned long long) v->now_queued,
        (unsigned) v->now_poll, (unsigned long long) p->handed, (unsigned long long) p->layer_sent,
        (unsigned long long) p->layer_left, p->layer_farewell ? " and its farewell" : "",
        (unsigned long long) p->program_read, p->program_saw_reset ? ", saw an error" : "",
        p->tcp_state);
    return buf;
}
