/* SPDX-License-Identifier: MIT */

#include "trace/book.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define INODE_BUCKETS 4096

/* ---- sockets ---- */

int book_open(struct book *book)
{
    *book = (struct book) { .by_inode = calloc(INODE_BUCKETS, sizeof *book->by_inode) };
    return book->by_inode ? 0 : -ENOMEM;
}

static void free_registrations(struct thing *thing)
{
    while (thing->registrations) {
        struct registration *first = thing->registrations;

        thing->registrations = first->next;
        free(first);
    }
}

static void free_thing(struct thing *thing)
{
    free_registrations(thing);
    free(thing->local);
    free(thing->remote);
    free(thing->made.stack);
    free(thing->first_closed.stack);
    free(thing->closed.stack);
    free(thing->holders);
    free(thing);
}

void book_close(struct book *book)
{
    size_t i;

    for (i = 0; i < book->sockets.count; i++)
        free_thing(book->sockets.at[i]);
    while (book->sets) {
        struct thing *set = book->sets;

        book->sets = set->next_of_inode;
        free_thing(set);
    }
    free(book->sockets.at);
    free(book->by_inode);
    *book = (struct book) { 0 };
}

static struct thing *new_thing(void)
{
    struct thing *thing = calloc(1, sizeof *thing);
    int i;

    if (!thing)
        return NULL;
    for (i = 0; i < FIN_STAGES; i++)
        thing->stage_ns[i] = NEVER;
    thing->connected_ns = NEVER;
    thing->stale_ns = thing->stale_until_ns = NEVER;
    return thing;
}

struct thing *book_new_socket(struct book *book, uint64_t inode)
{
    struct thing **bucket = &book->by_inode[inode % INODE_BUCKETS];
    struct thing *thing = new_thing();

    if (!thing || list_add(&book->sockets, thing) < 0) {
        free(thing);
        return NULL;
    }
    thing->id = (uint32_t) book->sockets.count;
    thing->inode = inode;
    thing->next_of_inode = *bucket;
    *bucket = thing;
    return thing;
}

struct thing *book_new_set(struct book *book)
{
    struct thing *set = new_thing();

    if (!set)
        return NULL;
    set->next_of_inode = book->sets;
    book->sets = set;
    return set;
}

/* The newest is in front: the kernel uses inode numbers anew. */
struct thing *book_find(const struct book *book, uint64_t inode)
{
    struct thing *thing = book->by_inode[inode % INODE_BUCKETS];

    while (thing && thing->inode != inode)
        thing = thing->next_of_inode;
    return thing;
}

/* ---- descriptor tables ---- */

struct files *files_new(void)
{
    struct files *files = calloc(1, sizeof *files);

    if (files)
        files->users = 1;
    return files;
}

struct files *files_copy(const struct files *files)
{
    struct files *copy = files_new();
    size_t i;

    if (!copy || files->size == 0)
        return copy;
    copy->slot = malloc(files->size * sizeof *copy->slot);
    if (!copy->slot) {
        free(copy);
        return NULL;
    }
    memcpy(copy->slot, files->slot, files->size * sizeof *copy->slot);
    copy->size = files->size;
    for (i = 0; i < copy->size; i++)
        if (copy->slot[i])
            copy->slot[i]->refs++;
    return copy;
}

bool files_leave(struct files *files)
{
    if (--files->users > 0)
        return false;
    free(files->slot);
    free(files);
    return true;
}

struct thing *files_get(const struct files *files, int fd)
{
    return fd >= 0 && (size_t) fd < files->size ? files->slot[fd] : NULL;
}

static int trace_book_grow(struct files *files, size_t size)
{
    size_t room = files->size;
    struct thing **moved = list_grow(files->slot, &room, size, sizeof *moved);

    if (!moved)
        return -ENOMEM;
    memset(moved + files->size, 0, (room - files->size) * sizeof *moved);
    files->slot = moved;
    files->size = room;
    return 0;
}

int files_put(struct files *files, int fd, struct thing *thing)
{
    if (fd < 0 || trace_book_grow(files, (size_t) fd + 1) < 0)
        return -ENOMEM;
    files_drop(files, fd);
    files->slot[fd] = thing;
    thing->refs++;
    thing->leaving += files->leaving;
    return 0;
}

void files_drop(struct files *files, int fd)
{
    struct thing *thing = files_get(files, fd);

    if (!thing)
        return;
    files->slot[fd] = NULL;
    thing->refs--;
    thing->leaving -= files->leaving;
}

void files_begin_leaving(struct files *files)
{
    size_t i;

    files->leaving = true;
    for (i = 0; i < files->size; i++)
        if (files->slot[i])
            files->slot[i]->leaving++;
}

/* ---- registrations ---- */

int registration_add(struct thing *socket, struct thing *set, int set_fd, int fd)
{
    struct registration *made = malloc(sizeof *made);

    if (!made)
        return -ENOMEM;
    *made = (struct registration) { socket->registrations, set, set_fd, fd, NEVER };
    socket->registrations = made;
    return 0;
}

struct registration *registration_find(const struct thing *socket, const struct thing *set, int fd)
{
    struct registration *r = socket->registrations;

    while (r && (r->set != set || r->fd != fd))
        r = r->next;
    return r;
}

bool registration_remove(struct thing *socket, const struct thing *set, int fd)
{
    struct registration **at = &socket->registrations;
    struct registration *found = registration_find(socket, set, fd);

    if (!found)
        return false;
    while (*at != found)
        at = &(*at)->next;
    *at = found->next;
    free(found);
    return true;
}

unsigned registration_count(const struct thing *socket)
{
    const struct registration *r;
    unsigned count = 0;

    for (r = socket->registrations; r; r = r->next)
        count += r->set->refs > 0;
    return count;
}

const char *origin_name(enum origin origin)
{
    static const char *const names[] = { "made", "accepted", "inherited", "found", "received" };

    return names[origin];
}
