/* SPDX-License-Identifier: MIT */

/*
 * The close as a pure state machine: no system call, no clock, no allocation. A driver passes an
 * event and carries out the one action that is returned; the result is the next event:
 *
 *     action = fin__machine_start(&m, &plan, traits, facts, now);
 *     while (action != FIN__FINISH)
 *         action = fin__machine_step(&m, &event);      event = the result of carrying out `action`
 *
 * Times are nanoseconds of one clock, which the driver reads.
 */

#ifndef FIN_MACHINE_H
#define FIN_MACHINE_H

#include <finack.h>
#include <stdbool.h>

/* A policy, checked and in nanoseconds. May be shared by many machines. */
struct fin__plan {
    uint64_t flush, farewell, linger, total, proof_wait;
    uint64_t backoff; /* at least 1; the first pause between two checks after the release;
                         doubles */
    uint64_t backoff_max;
    uint64_t drain;
    int64_t orphan_ms;
    uint8_t courtesy, proof;
    bool descriptor_only; /* scope */
    bool rebindable;
    bool awaits_answer; /* to a layer's farewell, before FIN, though courtesy is not "full" */
    bool find_holders;
    bool addresses;                      /* of an IP socket, for the receipt */
    void (*accepted)(int fd, void *arg); /* of a listening socket's queue */
    void *accepted_arg;
};

/* What is being closed. */
enum fin__trait {
    FIN__STREAM = 1 << 0,      /* a connection that ends in FIN */
    FIN__LAYERED = 1 << 1,     /* bytes and, of a stream, a farewell of a layer above the kernel */
    FIN__ACK_AT_SHUT = 1 << 2, /* Unix: what is written is with the peer */
    FIN__QUENCHABLE = 1 << 3,  /* Unix: shutting the read side stops the peer, without a reset */
    FIN__LISTENING = 1 << 4,
    FIN__CONNECTING = 1 << 5,
    FIN__SOCKET = 1 << 6,         /* sock_diag may know it */
    FIN__ANSWER_UNKNOWN = 1 << 7, /* the layer can't be read after its farewell: `answered` can be
                                     observed only under `full`, while it still waits */
};

/* What an event found out. */
enum fin__fact {
    FIN__IS_ACKED = 1 << 0,          /* the peer has all our data and our FIN */
    FIN__IS_FIN = 1 << 1,            /* the peer's FIN has come */
    FIN__IS_OUTSTANDING = 1 << 2,    /* the kernel has bytes that the peer has not acknowledged */
    FIN__IS_WRITABLE = 1 << 3,       /* FIN__READY: there is room to send */
    FIN__IS_CONFIRMED = 1 << 4,      /* FIN__WITNESS: sock_diag confirmed the identity */
    FIN__IS_FINISHED = 1 << 5,       /* FIN__INSPECT */
    FIN__IS_GONE = 1 << 6,           /* FIN__INSPECT */
    FIN__IS_RESET_ON_CLOSE = 1 << 7, /* the last close sends RST, unread input apart */
    FIN__IS_UNKNOWN = 1 << 8,        /* whether it is acked can't be observed */
    FIN__IS_ANNOUNCED =
        1 << 9,              /* CHECK, INSPECT: a change will come as an event, no need to check */
    FIN__IS_ERROR = 1 << 10, /* FIN__READY: the error queue may have something */
    FIN__IS_FIN_UNKNOWN = 1 << 11,  /* whether the peer's FIN has come can't be observed */
    FIN__IS_SHUT = 1 << 12,         /* our FIN is queued */
    FIN__IS_OVER = 1 << 13,         /* the connection has ended: the facts are all there will be */
    FIN__IS_RESET_UNSURE = 1 << 14, /* the peer may ignore a RST that is sent now */
    FIN__IS_MUTE = 1 << 15,         /* FIN__SKIP: nor can the peer's farewell be read any more */
    FIN__IS_KEPT = 1 << 16,         /* FIN__RELEASE: the descriptor stays where it is */
};

/* What to do. Behind each action are the events that may answer it; FIN__FAILED may answer all but
 * WAIT. */
enum fin__action {
    FIN__WAIT,    /* for m->interest until m->deadline: READY, DEADLINE (if it has passed),
                     ABORT, FORCE. After release READY and DEADLINE may bring IS_ACKED,
                     IS_FINISHED */
    FIN__FLUSH,   /* move the layer's bytes: DONE, AGAIN (bytes = left), BROKEN */
    FIN__MEASURE, /* what the kernel has yet to hand to the peer: BYTES */
    FIN__NOTIFY,  /* send the farewell: DONE, AGAIN, SKIP, BROKEN */
    FIN__ABANDON, /* give up a connection in the making: DONE (bytes = lost with it) */
    FIN__SHUT,    /* queue FIN: DONE */
    FIN__LOOK,    /* what became of both FINs: STATE (bytes = unacked, if it is over); FAILED */
    FIN__TALLY,   /* the same, and what is left behind: STATE (bytes = unacked, unread, unsent);
                     of a layer on messages unsent alone */
    FIN__DRAIN, /* read at most fin__drain_left() and discard (0: only look whether there is input):
                     BYTES, AGAIN, ANSWER, BROKEN (the layer, not the socket), END (as LOOK) */
    FIN__REFUSE,  /* no new connections into the listening queue: DONE */
    FIN__ACCEPT,  /* take one from the queue: BYTES (one connection), AGAIN, END (no more come) */
    FIN__QUENCH,  /* the peer may send no more: DONE */
    FIN__LIMIT,   /* bound what the kernel does after release to plan->orphan_ms: DONE */
    FIN__RESET,   /* RST now: DONE, it went (bytes = unacked); with IS_RESET_ON_CLOSE if only the
                     last close will send it. STATE or FAILED, with IS_OVER: nothing was left */
    FIN__UNWATCH, /* out of the poller: DONE */
    FIN__WITNESS, /* prepare the proof: DONE (with facts) */
    FIN__RELEASE, /* close(2): DONE, with IS_SHUT if the driver shut the socket to get threads out
                     of it, and IS_RESET_UNSURE if they may have read what was unread; FAILED
                     released the number too, but with IS_KEPT: then a thread inside has it, and
                     nothing else was to be had for the number */
    FIN__CHECK,   /* does anything refer to the description: YES, NO */
    FIN__INSPECT, /* the connection after release: STATE (facts, wait = ns until it may change) */
    FIN__FINISH,  /* the close is complete: no event answers */
};

enum fin__event_kind {
    FIN__DONE,
    FIN__AGAIN, /* `interest` tells what to wait for */
    FIN__SKIP,
    FIN__BROKEN, /* the layer is: `error` tells; to FLUSH `bytes` too, as with FAILED */
    FIN__BYTES,
    FIN__ANSWER,
    FIN__END,
    FIN__STATE,
    FIN__YES,
    FIN__NO,
    FIN__FAILED, /* `error` tells */
    FIN__READY,
    FIN__DEADLINE,
    FIN__ABORT, /* the program asks for the end: RST */
    FIN__FORCE, /* room is needed: as if every deadline had passed */
};

enum fin__interest {
    FIN__READ = 1 << 0,
    FIN__WRITE = 1 << 1,
    FIN__ACK = 1 << 2, /* poll(2) does not announce it, an edge-triggered epoll does */
};

struct fin__event {
    enum fin__event_kind kind;
    int error;
    unsigned facts;
    unsigned interest;
    uint64_t bytes;
    uint64_t unread;
    uint64_t unsent; /* of the layer; UINT64_MAX: not to be known */
    uint64_t wait;
    uint64_t now;
};

#define FIN__UNTALLIED UINT32_MAX /* to be tallied */

/* Kept small: a program may have a million of these. */
struct fin__machine {
    const struct fin__plan *plan;
    uint64_t start;
    uint64_t deadline; /* absolute */
    uint64_t unsent, discarded;
    int64_t stage[FIN_STAGES]; /* ns since start, -1: not reached */
    uint32_t outstanding;      /* when last measured or tallied, or FIN__UNTALLIED */
    uint32_t unacked, accepted;
    int error;
    uint16_t unverifiable;
    uint16_t traits;
    uint8_t place;
    uint8_t interest;
    uint8_t wants;                   /* what the last drain waits for */
    uint8_t outcome, phase, decided; /* decided: the phase in which the outcome was */
    uint8_t held;
    uint8_t late_reads; /* after a deadline; no more after an end that was none */
    uint8_t pauses;     /* after the release */

    /* Input: */
    bool edge_used : 1; /* an edge of the poller was consumed: read until AGAIN before waiting */
    bool unread : 1;    /* it is left behind */
    bool quenched : 1;
    bool input_over : 1;
    bool reading_out : 1; /* the connection is over, and what is left to read is being read */
    bool looking : 1;     /* the STATE to come is LOOK's, which counts nothing */

    /* The layer: */
    bool unsent_unknown : 1;
    bool mute : 1; /* it had a session, and can't hear the peer's farewell */

    /* Our FIN: */
    bool shut : 1;  /* seen queued, by us or before */
    bool acked : 1; /* seen acknowledged, stage or not */

    /* Other ends: */
    bool must_reset : 1; /* bytes were dropped */
    bool we_reset : 1;
    bool resets_on_close : 1, reset_unsure : 1;
    bool orphaned : 1; /* what the kernel still has is to be cut */
    bool peer_reset : 1;
    bool died : 1;        /* the socket itself failed */
    bool over : 1;        /* the connection was seen to have ended */
    bool over_before : 1; /* when our FIN was due */
    bool forced : 1;

    /* The proof: */
    bool witnessed : 1, confirmed : 1;
};

static inline bool fin__reached(const struct fin__machine *m, enum fin_stage stage)
{
    return m->stage[stage] >= 0;
}

/* How much more input may be thrown away. A later plan may allow less than was thrown away
 * already. */
static inline uint64_t fin__drain_left(const struct fin__machine *m)
{
    return m->discarded < m->plan->drain ? m->plan->drain - m->discarded : 0;
}

/* Which outcome has that rank: 0 is the best of FIN_OUTCOMES. */
enum fin_outcome fin__outcome_ranked(int wanted);

/* Sets the outcome if it is worse than the present one. Drivers call it for what the program
 * asked for. */
void fin__machine_decide(struct fin__machine *m, enum fin_outcome outcome);

/* Sets a negative errno of the socket, and the outcome that it means, if that is worse. Drivers
 * call it for an error that the socket gave to somebody else before. */
void fin__machine_fail(struct fin__machine *m, int error);

/* The same, for an abort because of this error: the program did not ask for it. */
void fin__machine_broke(struct fin__machine *m, int error);

/* The plan was changed before the release: the present deadline counts from now. */
void fin__machine_replan(struct fin__machine *m, uint64_t now);

/* Starts a close. `facts`: IS_OUTSTANDING. Returns the first action. */
enum fin__action fin__machine_start(struct fin__machine *m, const struct fin__plan *plan,
                                    unsigned traits, unsigned facts, uint64_t now);

/* Takes the result of the last action, returns the next one. Not to be called after FIN__FINISH. */
enum fin__action fin__machine_step(struct fin__machine *m, const struct fin__event *ev);

/* What is known of a close that finack did not carry out. */
struct fin__unseen {
    unsigned traits; /* FIN__STREAM, FIN__LISTENING */
    int error;       /* the negative errno by which it broke, as its user was told; 0: none */
    bool before;     /* it was over when it was asked for */
    bool truncated;  /* by the peer's FIN without its farewell */
    bool late;       /* it was cut by a deadline of its layer's, for the farewell */
    uint8_t held;
    uint64_t requested, released, unreferenced; /* moments; 0: not seen */
};

/* Instead of start and step: nothing is left to do, and fin__machine_report() may be called. */
void fin__machine_unseen(struct fin__machine *m, const struct fin__plan *plan,
                         const struct fin__unseen *unseen);

/* Writes what happened so far; `size` of the receipt stays as it is. */
void fin__machine_report(const struct fin__machine *m, struct fin_receipt *receipt);

#endif
