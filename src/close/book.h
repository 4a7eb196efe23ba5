/* SPDX-License-Identifier: MIT */

/* The closer's bookkeeping: slots for closes, lists of them, and one heap of their deadlines. All
 * of a close's memory is in its slot and one heap entry, reserved together. */

#ifndef FIN_BOOK_H
#define FIN_BOOK_H

#include "close/endpoint.h"

#define FIN__NOWHERE UINT32_MAX
#define FIN__CHUNK_OPS 256u
#define FIN__CHUNKS 8192u /* two million closes at most */

enum fin__op_state {
    FIN__OP_FREE,
    FIN__OP_TAKEN,     /* being submitted */
    FIN__OP_SUBMITTED, /* to be started by the dispatching thread */
    FIN__OP_RUNNING,
};

struct fin__op {
    struct fin__machine machine;
    struct fin__endpoint ep;
    fin_closed_fn closed;
    void *arg;
    void *follow;   /* the backend's, for a close that is followed after release */
    uint32_t index; /* of its slot */
    uint32_t generation;
    uint32_t heap; /* position, FIN__NOWHERE: no deadline */
    uint32_t next, prev;
    uint8_t action; /* enum fin__action: what it does next, or waits in */
    uint8_t state;
    uint8_t wanted;            /* FIN__ABORT or FIN__FORCE while its end is wanted */
    uint8_t witness_index : 1; /* the backend's: which one has the entry */
    bool missed_edge : 1, seen : 1;
    bool narrowed : 1; /* the backend's: only room to send is watched */
};

struct fin__deadline {
    uint64_t at;
    uint32_t index;
};

struct fin__chunk {
    struct fin__op ops[FIN__CHUNK_OPS];
    struct fin__deadline heap[FIN__CHUNK_OPS];
};

struct fin__list {
    uint32_t head, tail;
};

struct fin__book {
    struct fin__chunk *chunks[FIN__CHUNKS];
    uint32_t slots; /* in chunks */
    uint32_t heap_size;
    struct fin__list free;
};

void fin__book_init(struct fin__book *book);
void fin__book_free(struct fin__book *book);

/* A slot in state TAKEN, zeroed except for its generation; NULL if there is no memory or room. */
struct fin__op *fin__book_take(struct fin__book *book);

/* Gives a slot back; its identifier names nothing any more. */
void fin__book_give(struct fin__book *book, struct fin__op *op);

struct fin__op *fin__book_at(const struct fin__book *book, uint32_t index);

/* The identifier of a close: never 0, and not used again with the slot's next close. */
uint64_t fin__book_id(const struct fin__op *op);

/* NULL if that close has ended. */
struct fin__op *fin__book_find(const struct fin__book *book, uint64_t id);

#define FIN__LIST_EMPTY ((struct fin__list) { FIN__NOWHERE, FIN__NOWHERE })
void fin__list_append(const struct fin__book *book, struct fin__list *list, struct fin__op *op);
void fin__list_remove(const struct fin__book *book, struct fin__list *list, struct fin__op *op);
struct fin__op *fin__list_first(const struct fin__book *book, const struct fin__list *list);

/* Sets or moves the deadline of a close. */
void fin__heap_set(struct fin__book *book, struct fin__op *op, uint64_t at);
void fin__heap_remove(struct fin__book *book, struct fin__op *op);

/* The close with the earliest deadline, or NULL. */
struct fin__op *fin__heap_first(const struct fin__book *book);

/* That deadline, or UINT64_MAX. */
uint64_t fin__heap_earliest(const struct fin__book *book);

#endif
