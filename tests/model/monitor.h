/* SPDX-License-Identifier: MIT */

/*
 * The guarantees of a close, watched from outside: the monitor sees the actions that the machine
 * asks for, the events that answer them, and the receipt; it knows nothing of the machine's inside.
 */

#ifndef FIN_TEST_MONITOR_H
#define FIN_TEST_MONITOR_H

#include "close/machine.h"

enum rule {
    /* time */
    RULE_LIVELOCK,
    RULE_WAIT_BEYOND_TOTAL,
    RULE_LATE_RELEASE,
    RULE_WAIT_BEYOND_PROOF,
    RULE_WAIT_FOR_NOTHING,
    RULE_EDGE_LOST,
    RULE_COURTESY_WAITS,
    RULE_FORCED_WAITS,
    RULE_FAREWELL_TIME,
    /* once, and in order */
    RULE_TWO_RELEASES,
    RULE_NO_RELEASE,
    RULE_AFTER_RELEASE,
    RULE_AFTER_FINISH,
    RULE_TWO_UNWATCHES,
    RULE_WATCHED_AT_RELEASE,
    RULE_TWO_WITNESSES,
    RULE_PROOF_UNASKED,
    RULE_EARLY_LOOK,
    /* what the peer is told */
    RULE_FIN_AFTER_DROP,
    RULE_FIN_UNFLUSHED,
    RULE_DROP_WITHOUT_RESET,
    RULE_READ_AFTER_RESET,
    RULE_SEND_AFTER_RESET,
    RULE_SEND_AFTER_FIN,
    RULE_FLUSH_AFTER_FAREWELL,
    RULE_NOT_TALLIED,
    /* what the socket is and what was asked for */
    RULE_SCOPE,
    RULE_QUENCH,
    RULE_KIND,
    RULE_LIMIT,
    RULE_DRAIN_BOUND,
    /* the receipt */
    RULE_STAGE_ORDER,
    RULE_STAGE_TIME,
    RULE_STAGE_UNSEEN,
    RULE_STAGE_MISSED,
    RULE_REACHED_AND_UNVERIFIABLE,
    RULE_UNVERIFIABLE_UNASKED,
    RULE_GRACEFUL,
    RULE_LOST_UNTOLD,
    RULE_OUTCOME,
    RULE_PHASE,
    RULE_ERROR,
    RULE_END_FIN,
    RULE_END_RESET,
    RULE_END_NONE,
    RULE_END_KERNEL,
    RULE_UNSENT,
    RULE_UNACKED,
    RULE_DISCARDED,
    RULE_ACCEPTED,
    RULE_HELD,
    RULE_FORCED,
    RULES,
};

/* One run: everything that stays the same while it is explored. */
struct config {
    struct fin__plan plan;
    unsigned traits;
    unsigned facts;
};

/* What happened, beyond the stages. */
enum seen {
    SEEN_FLUSH = 1 << 0,
    SEEN_NOTIFY = 1 << 1,
    SEEN_SKIP = 1 << 2, /* no farewell can be sent, says the layer or EPIPE */
    SEEN_DROP = 1 << 3,
    SEEN_RESET_ASKED = 1 << 4,
    SEEN_RESET_DONE = 1 << 5,
    SEEN_RESET_ON_CLOSE = 1 << 6,
    SEEN_PEER_RESET = 1 << 7,
    SEEN_DEATH = 1 << 8, /* the socket failed while it was read, or at FIN */
    SEEN_END = 1 << 9,
    SEEN_OVER = 1 << 10,  /* the stream had ended before the close could end it */
    SEEN_NEVER = 1 << 11, /* it never was a connection */
    SEEN_EDGE = 1 << 12,  /* input may be left that the poller won't announce again */
    SEEN_ABORT = 1 << 13,
    SEEN_LATE = 1 << 14, /* a deadline or the drain bound was met */
    SEEN_UNREAD = 1 << 15,
    SEEN_TALLY = 1 << 16, /* what is left was counted after the last wait */
    SEEN_WITNESS = 1 << 17,
    SEEN_FINISH = 1 << 18,
    SEEN_LAYER_GONE = 1 << 19, /* BROKEN: from now on the bare socket is read */
    SEEN_UNKNOWN = 1 << 20,
    SEEN_FAILED = 1 << 21,
    SEEN_FORCE = 1 << 22,
    SEEN_BEGUN = 1 << 25,    /* the first action was answered */
    SEEN_LEFT = 1 << 24,     /* unread, and nothing was read since */
    SEEN_ACK_LATE = 1 << 23, /* acked, but only after release */
    SEEN_ACKED = 1 << 26,
    SEEN_FIN = 1 << 27,
    SEEN_ENDED = 1 << 28,       /* the connection is over */
    SEEN_ACK_UNKNOWN = 1 << 29, /* and when it was last looked at, this could not be known */
    SEEN_FIN_UNKNOWN = 1 << 30,
    SEEN_BOUND = INT64_C(1) << 31, /* the drain bound was met, or input came behind an end */
    SEEN_LOST =
        INT64_C(1) << 32, /* with the SYN, or in a layer that scope descriptor leaves alone */
    SEEN_UNSENT_UNKNOWN = INT64_C(1) << 33,
    SEEN_RESET_UNSURE = INT64_C(1) << 34,
    SEEN_SHUT_LAST = INT64_C(1) << 35, /* shut by the release */
    SEEN_MUTE = INT64_C(1) << 36,
    SEEN_KEPT = INT64_C(1) << 37,    /* not released */
    SEEN_OVERDUE = INT64_C(1) << 38, /* the time of the flush is over, if the peer takes nothing */
};

struct monitor {
    const struct config *config;
    uint64_t start, released_at;
    uint64_t deadline; /* shown with the last action */
    uint64_t began; /* flush, farewell or the wait for the answer, or had its time anew; 0: none */
    uint64_t seen;
    uint16_t stages; /* bit by stage: an event told it */
    uint8_t phase;
    uint8_t late_waits;
    uint8_t wakes; /* READY without time passing: bounded by the environment */
    uint8_t discarded, accepted, tallied, unsent;
    uint8_t measured; /* UINT8_MAX: not yet */
    uint8_t held;
    uint8_t waited_in; /* the action before the last WAIT */
    /* of the last step only, not part of the state */
    uint8_t phase_before;
    uint64_t broken; /* bit by rule */
};

/* What a driver sees of the machine when it carries out an action. */
struct view {
    enum fin__action action;
    uint64_t deadline, drain_left, now;
    unsigned interest;
};

extern const char *const rule_names[RULES];

void monitor_start(struct monitor *mon, const struct config *config, uint64_t now);
void monitor_action(struct monitor *mon, const struct view *view);
void monitor_event(struct monitor *mon, enum fin__action action, const struct fin__event *ev);
/* `before` is NULL for the receipt right after the start. */
void monitor_step(struct monitor *mon, const struct fin_receipt *before,
                  const struct fin_receipt *after, const struct fin__event *ev);
void monitor_end(struct monitor *mon, const struct fin_receipt *receipt);

#endif
