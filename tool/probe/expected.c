/* SPDX-License-Identifier: MIT */

#include "probe/expected.h"

#include "probe/table.h"

#include <stdio.h>
#include <string.h>

enum {
    SHORTEST_MS = 500,
    SMALLEST_DRAIN = 65536,
    LARGEST_DRAIN = 64 << 20
};

#define GRACEFUL FIN_OUTCOME_GRACEFUL, FIN_PHASE_NONE, FIN_END_FIN
#define LATE(phase, end) FIN_OUTCOME_TIMED_OUT, FIN_PHASE_##phase, FIN_END_##end
#define BOUNDED FIN_OUTCOME_BOUNDED, FIN_PHASE_LINGER, FIN_END_RESET
#define RESET FIN_OUTCOME_RESET, FIN_PHASE_LINGER, FIN_END_RESET
#define TRUNCATED FIN_OUTCOME_TRUNCATED, FIN_PHASE_LINGER, FIN_END_FIN

/* kind, tls, outcome, phase, end, and of the peer: notified, eof, reset, complete */
const struct expectation expectations[EXPECTATIONS] = {
    { PEER_CLEAN, false, GRACEFUL, false, true, false, true },
    { PEER_SLOW, false, GRACEFUL, false, true, false, true },
    { PEER_MUTE, false, LATE(LINGER, FIN), false, true, false, true },
    { PEER_DEAF, false, LATE(LINGER, KERNEL), false, true, false, true },
    { PEER_CHATTY, false, BOUNDED, false, true, true, true },
    { PEER_UNREAD, false, GRACEFUL, false, true, false, true },
    { PEER_RESETTING, false, RESET, false, true, false, true },
    { PEER_HELD, false, GRACEFUL, false, true, false, true },
    { PEER_CLEAN, true, GRACEFUL, true, true, false, true },
    { PEER_SLOW, true, GRACEFUL, true, true, false, true },
    { PEER_MUTE, true, LATE(LINGER, FIN), true, true, false, true },
    { PEER_DEAF, true, LATE(FLUSH, RESET), false, false, true, false },
    { PEER_CHATTY, true, BOUNDED, true, true, true, true },
    { PEER_UNREAD, true, GRACEFUL, true, true, false, true },
    { PEER_RESETTING, true, RESET, true, true, false, true },
    { PEER_HELD, true, GRACEFUL, true, true, false, true },
    { PEER_TRUNCATING, true, TRUNCATED, true, true, false, true },
    { PEER_NOTIFY_THEN_DEAF, true, LATE(FLUSH, RESET), false, false, true, false },
};

static bool foreseeable(const struct fin_policy *p)
{
    return p->courtesy == FIN_COURTESY_ORDERLY && p->scope != FIN_SCOPE_DESCRIPTOR
        && p->flush_ms >= SHORTEST_MS && p->farewell_ms >= SHORTEST_MS
        && p->linger_ms >= SHORTEST_MS && p->total_ms >= p->linger_ms + SHORTEST_MS
        && p->total_ms >= p->flush_ms + SHORTEST_MS && p->drain >= SMALLEST_DRAIN
        && p->drain <= LARGEST_DRAIN;
}

static bool receipt_fits(const struct expectation *x, const struct fin_receipt *r)
{
    bool held_fits = r->held == FIN_UNVERIFIABLE || (r->held == FIN_YES) == (x->kind == PEER_HELD);

    return r->outcome == (int) x->outcome && r->phase == (int) x->phase && r->end == (int) x->end
        && held_fits;
}

static bool view_fits(const struct expectation *x, const struct peer_view *v, uint64_t written)
{
    bool bytes_fit = x->complete ? v->bytes == written : v->bytes <= written;

    return v->notified == x->notified && v->eof == x->eof && v->reset == x->reset && bytes_fit;
}

/* The peer may go on sending while its data is drained: nothing of it turned our FIN into RST. */
static bool drained(const struct probe_result *r)
{
    return !r->view.pollerr && r->view.so_error == 0 && r->view.next_send == 0
        && r->receipt.discarded == PEER_UNREAD_BYTES + 1;
}

enum verdict expectation_judge(const struct expectation *x, const struct fin_policy *policy,
                               uint64_t written, const struct probe_result *result)
{
    bool fits = receipt_fits(x, &result->receipt) && view_fits(x, &result->view, written)
        && (x->kind != PEER_UNREAD || drained(result));

    if (!foreseeable(policy))
        return VERDICT_NONE;
    return fits ? VERDICT_OK : VERDICT_UNEXPECTED;
}

void expectation_format(const struct expectation *x, char *buf, size_t size)
{
    struct peer_view view = { .notified = x->notified, .eof = x->eof, .reset = x->reset };
    char seen[32];

    format_view(&view, seen, sizeof seen);
    snprintf(buf, size, "%s, phase %s, end %s; the peer sees %s and %s",
             fin_outcome_name(x->outcome), fin_phase_name(x->phase), fin_end_name(x->end), seen,
             x->complete ? "every byte" : "not every byte");
}
