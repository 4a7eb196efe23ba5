/* SPDX-License-Identifier: MIT */

/* A closer over a kernel that only pretends. The pretended kernel watches what is done to it, the
 * pretended program what it is told; each notes the rules that are broken. */

#ifndef FIN_TEST_PRETEND_H
#define FIN_TEST_PRETEND_H

#include "close/closer.h"

#define CLOSES 20000
#define EDGES (4 * CLOSES)

enum kind {
    DATAGRAM, /* ends in the first dispatch */
    STREAM,   /* waits for the peer */
    HELD,     /* as STREAM, and after release for a holder */
    LAYERED,  /* as STREAM, and waits for room to send first */
    CHATTY,   /* as STREAM, and its peer sends more than one turn takes */
    BLIND,    /* as HELD, but only sock_diag tells */
};
#define KINDS 6

/* What the program does in a completion. */
enum reaction {
    NOTHING,
    SUBMIT_ANOTHER,
    ABORT_NEXT,
    DISPATCH,
    FREE
};
#define REACTIONS 5

struct config {
    uint32_t cap;
    unsigned count; /* closes at most */
    uint8_t kind[4], reaction[4];
    unsigned depth; /* of the search */
};

struct close {
    struct fin__op *op;
    uint64_t id, deadline;
    unsigned number, chatter;
    uint8_t kind, reaction;
    bool live;  /* submitted, not completed */
    bool cause; /* something has happened to it that this dispatch may answer */
    bool watched, narrow, witnessed, released, held;
    bool room, fin, shut, acked;
    bool edge; /* is queued */
    unsigned reserved, forgotten, completed;
};

struct edge {
    unsigned close;
    bool stale; /* fetched before the close ended: reported whatever has become of it */
};

struct world {
    struct fin_closer *closer;
    const struct config *config;
    struct close close[CLOSES];
    unsigned count, live, peak;
    struct edge queue[EDGES];
    unsigned head, tail;
    uint64_t now, armed, began; /* began: the dispatch in hand */
    unsigned due, last, forced;
    bool still; /* the clock stands */
    bool woken, submitting, refuse, starve, freeing, gone;
    long blocks;
    uint64_t broken;
    const char *sequence;
};
extern struct world world;

/* Notes if a rule does not hold; the first time, prints where. */
void rule(bool holds, const char *name, const struct close *c);

/* Something that the program, the kernel or a peer does. Letters: s submit, n submit without room,
 * m without memory, t time passes, d dispatch, and with a close's number: a abort, e the peer goes
 * on, o an edge that was fetched before it ended. */
struct step {
    char letter;
    unsigned close;
};

bool world_can(struct step step);
void world_take(struct step step); /* if it can */
void world_submit_next(char letter);

/* Makes a closer in a world where nothing has happened yet. */
void world_begin(const struct config *config);

/* Ends everything that is pending (how % 3: by time, by drain, by free) and frees the closer. */
void world_finish(unsigned how);

/* As a program's loop would: dispatches when the descriptor is readable, and sleeps else. */
void world_run_on(void);

/* Returns fin__closer_submit()'s result. */
int world_submit(enum kind kind, enum reaction reaction);
void world_abort(struct close *c);
void world_dispatch(void);
bool world_readable(void);

/* Time passes until the closer's descriptor is readable. False: it never will be. */
bool world_sleep(uint64_t limit);

/* The peer or holder does the next thing that it can; nothing is left to do: false. */
bool peer_goes_on(struct close *c, bool really);

/* An edge for the next poll. `stale`: fetched before, it comes whatever has become of the close. */
void world_edge(struct close *c, bool stale);

void world_count_memory(void);

#endif
