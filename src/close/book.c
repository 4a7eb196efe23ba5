/* SPDX-License-Identifier: MIT */

#include "close/book.h"

#include "base/alloc.h"

#include <assert.h>
#include <string.h>

#define CHILDREN 4u /* four entries share a cache line */

/* ---- slots ---- */

void fin__book_init(struct fin__book *book)
{
    memset(book, 0, sizeof *book);
    book->free = FIN__LIST_EMPTY;
}

void fin__book_free(struct fin__book *book)
{
    for (uint32_t i = 0; i < book->slots / FIN__CHUNK_OPS; i++)
        fin__free(book->chunks[i]);
}

struct fin__op *fin__book_at(const struct fin__book *book, uint32_t index)
{
    return &book->chunks[index / FIN__CHUNK_OPS]->ops[index % FIN__CHUNK_OPS];
}

static bool book_grow(struct fin__book *book)
{
    uint32_t first = book->slots;
    struct fin__chunk *chunk;

    if (first / FIN__CHUNK_OPS >= FIN__CHUNKS)
        return false;
    chunk = fin__alloc(sizeof *chunk);
    if (!chunk)
        return false;
    book->chunks[first / FIN__CHUNK_OPS] = chunk;
    book->slots += FIN__CHUNK_OPS;
    for (uint32_t i = 0; i < FIN__CHUNK_OPS; i++) {
        chunk->ops[i].index = first + i;
        chunk->ops[i].heap = FIN__NOWHERE;
        fin__list_append(book, &book->free, &chunk->ops[i]);
    }
    return true;
}

struct fin__op *fin__book_take(struct fin__book *book)
{
    struct fin__op *op = fin__list_first(book, &book->free);
    uint32_t index, generation;

    if (!op && !book_grow(book))
        return NULL;
    op = fin__list_first(book, &book->free);
    fin__list_remove(book, &book->free, op);
    index = op->index;
    generation = op->generation + 1;
    *op = (struct fin__op) { .index = index, .heap = FIN__NOWHERE, .state = FIN__OP_TAKEN };
    op->generation = generation ? generation : 1; /* so that no identifier is 0 */
    return op;
}

void fin__book_give(struct fin__book *book, struct fin__op *op)
{
    assert(op->heap == FIN__NOWHERE);
    op->state = FIN__OP_FREE;
    fin__list_append(book, &book->free, op);
}

uint64_t fin__book_id(const struct fin__op *op)
{
    return (uint64_t) op->generation << 32 | op->index;
}

struct fin__op *fin__book_find(const struct fin__book *book, uint64_t id)
{
    uint32_t index = (uint32_t) id;
    struct fin__op *op;

    if (index >= book->slots)
        return NULL;
    op = fin__book_at(book, index);
    return op->state != FIN__OP_FREE && op->generation == id >> 32 ? op : NULL;
}

/* ---- lists ---- */

void fin__list_append(const struct fin__book *book, struct fin__list *list, struct fin__op *op)
{
    op->next = FIN__NOWHERE;
    op->prev = list->tail;
    if (list->tail == FIN__NOWHERE)
        list->head = op->index;
    else
        fin__book_at(book, list->tail)->next = op->index;
    list->tail = op->index;
}

void fin__list_remove(const struct fin__book *book, struct fin__list *list, struct fin__op *op)
{
    if (op->prev == FIN__NOWHERE)
        list->head = op->next;
    else
        fin__book_at(book, op->prev)->next = op->next;
    if (op->next == FIN__NOWHERE)
        list->tail = op->prev;
    else
        fin__book_at(book, op->next)->prev = op->prev;
}

struct fin__op *fin__list_first(const struct fin__book *book, const struct fin__list *list)
{
    return list->head == FIN__NOWHERE ? NULL : fin__book_at(book, list->head);
}

/* ---- the heap ---- */

static struct fin__deadline *entry(const struct fin__book *book, uint32_t position)
{
    return &book->chunks[position / FIN__CHUNK_OPS]->heap[position % FIN__CHUNK_OPS];
}

static void place(struct fin__book *book, uint32_t position, struct fin__deadline deadline)
{
    *entry(book, position) = deadline;
    fin__book_at(book, deadline.index)->heap = position;
}

static void sift_up(struct fin__book *book, uint32_t position, struct fin__deadline deadline)
{
    while (position > 0) {
        uint32_t parent = (position - 1) / CHILDREN;

        if (entry(book, parent)->at <= deadline.at)
            break;
        place(book, position, *entry(book, parent));
        position = parent;
    }
    place(book, position, deadline);
}

static uint32_t earliest_child(const struct fin__book *book, uint32_t position)
{
    uint32_t first = position * CHILDREN + 1, best = first;

    for (uint32_t i = first + 1; i < first + CHILDREN && i < book->heap_size; i++)
        if (entry(book, i)->at < entry(book, best)->at)
            best = i;
    return best;
}

static void sift_down(struct fin__book *book, uint32_t position, struct fin__deadline deadline)
{
    while (position * CHILDREN + 1 < book->heap_size) {
        uint32_t child = earliest_child(book, position);

        if (deadline.at <= entry(book, child)->at)
            break;
        place(book, position, *entry(book, child));
        position = child;
    }
    place(book, position, deadline);
}

static void sift(struct fin__book *book, uint32_t position, struct fin__deadline deadline)
{
    if (position > 0 && deadline.at < entry(book, (position - 1) / CHILDREN)->at)
        sift_up(book, position, deadline);
    else
        sift_down(book, position, deadline);
}

void fin__heap_set(struct fin__book *book, struct fin__op *op, uint64_t at)
{
    struct fin__deadline deadline = { at, op->index };

    if (op->heap == FIN__NOWHERE)
        sift_up(book, book->heap_size++, deadline);
    else if (entry(book, op->heap)->at != at)
        sift(book, op->heap, deadline);
}

void fin__heap_remove(struct fin__book *book, struct fin__op *op)
{
    uint32_t hole = op->heap;

    if (hole == FIN__NOWHERE)
        return;
    op->heap = FIN__NOWHERE;
    book->heap_size--;
    if (hole != book->heap_size)
        sift(book, hole, *entry(book, book->heap_size));
}

struct fin__op *fin__heap_first(const struct fin__book *book)
{
    return book->heap_size ? fin__book_at(book, entry(book, 0)->index) : NULL;
}

uint64_t fin__heap_earliest(const struct fin__book *book)
{
    return book->heap_size ? entry(book, 0)->at : UINT64_MAX;
}
