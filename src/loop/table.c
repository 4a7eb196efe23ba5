/* SPDX-License-Identifier: MIT */

#include "loop/table.h"

#include "base/alloc.h"
#include "kernel/identity.h"

#include <errno.h>
#include <limits.h>
#include <string.h>
#include <sys/stat.h>

#define SIZE_MIN 64

int fin__mark_of(int fd, struct fin__mark *mark)
{
    struct stat st;

    *mark = (struct fin__mark) { .serial = fin__cookie(fd) };
    if (mark->serial != 0)
        return 0;
    if (fstat(fd, &st) < 0)
        return -errno;
    *mark = (struct fin__mark) { st.st_ino, st.st_dev };
    return 0;
}

struct fin__slot *fin__table_find(const struct fin__table *table, int fd)
{
    if (fd < 0 || fd >= table->size || table->slots[fd].generation == 0)
        return NULL;
    return &table->slots[fd];
}

static int grown(int size, int fd)
{
    if (size < SIZE_MIN)
        size = SIZE_MIN;
    while (size <= fd)
        size = size > INT_MAX / 2 ? INT_MAX : size * 2;
    return size;
}

int fin__table_reserve(struct fin__table *table, int fd)
{
    struct fin__slot *slots;
    int size;

    if (fd < table->size)
        return 0;
    if (fd == INT_MAX)
        return -ENOMEM;
    size = grown(table->size, fd);
    slots = fin__alloc((size_t) size * sizeof *slots);
    if (!slots)
        return -ENOMEM;
    if (table->slots)
        memcpy(slots, table->slots, (size_t) table->size * sizeof *slots);
    fin__free(table->slots);
    table->slots = slots;
    table->size = size;
    return 0;
}

void fin__table_renew(struct fin__table *table, int fd)
{
    if (++table->generation == 0)
        table->generation = 1;
    table->slots[fd].generation = table->generation;
}

struct fin__slot *fin__table_put(struct fin__table *table, int fd, const struct fin__mark *mark)
{
    struct fin__slot *slot = &table->slots[fd];

    *slot = (struct fin__slot) { .mark = *mark };
    fin__table_renew(table, fd);
    table->count++;
    return slot;
}

void fin__table_remove(struct fin__table *table, int fd)
{
    table->slots[fd] = (struct fin__slot) { .generation = 0 };
    table->count--;
}

void fin__table_free(struct fin__table *table)
{
    fin__free(table->slots);
    *table = (struct fin__table) { .generation = table->generation };
}

static bool is_same(const struct fin__mark *a, const struct fin__mark *b)
{
    return a->serial == b->serial && a->device == b->device;
}

bool fin__slot_is_taken(const struct fin__slot *slot, int fd)
{
    struct fin__mark now;

    return slot->mark.serial != 0 && fin__mark_of(fd, &now) == 0 && !is_same(&now, &slot->mark);
}

bool fin__slot_is_current(const struct fin__slot *slot, int fd)
{
    struct fin__mark now;

    return slot->mark.serial == 0 || (fin__mark_of(fd, &now) == 0 && is_same(&now, &slot->mark));
}
