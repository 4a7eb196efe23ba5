/* SPDX-License-Identifier: MIT */

/* What is registered under which number, and for which file. */

#ifndef FIN_TABLE_H
#define FIN_TABLE_H

#include <stdbool.h>
#include <stdint.h>

/* Which file a descriptor is, as cheaply as possible: one system call for a socket. */
struct fin__mark {
    uint64_t serial; /* SO_COOKIE, else the inode; 0: not known */
    uint64_t device; /* 0 for a socket */
};

/* Returns 0 or -EBADF. */
int fin__mark_of(int fd, struct fin__mark *mark);

struct fin__slot {
    struct fin__mark mark;
    void *data;
    uint32_t generation; /* 0: nothing is registered */
    int events;
};

struct fin__table {
    struct fin__slot *slots; /* by number */
    int size;
    int count;
    uint32_t generation; /* the last one given */
};

/* The slot if something is registered, else NULL. Valid until the table changes. */
struct fin__slot *fin__table_find(const struct fin__table *table, int fd);

/* Makes room for `fd`, which is open: so that its number is bounded. Returns 0 or -ENOMEM. */
int fin__table_reserve(struct fin__table *table, int fd);

/* Fills a slot for which there is room, and which is free. */
struct fin__slot *fin__table_put(struct fin__table *table, int fd, const struct fin__mark *mark);

/* Makes a new generation: events of the registration as it was differ from those that come from
 * now on. */
void fin__table_renew(struct fin__table *table, int fd);

void fin__table_remove(struct fin__table *table, int fd);
void fin__table_free(struct fin__table *table);

/* Is the number another file than at registration? False if it is closed now. */
bool fin__slot_is_taken(const struct fin__slot *slot, int fd);

/* Is it the same file? False if it is closed now; true if that can't be known. */
bool fin__slot_is_current(const struct fin__slot *slot, int fd);

#endif
