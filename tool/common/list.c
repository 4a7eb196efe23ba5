/* SPDX-License-Identifier: MIT */

#include "common/list.h"

#include <stdlib.h>

enum {
    FIRST_ROOM = 64
};

void *list_grow(void *at, size_t *room, size_t wanted, size_t size)
{
    size_t larger = *room ? *room : FIRST_ROOM;
    void *moved;

    if (wanted <= *room)
        return at;
    while (larger < wanted)
        larger *= 2;
    moved = reallocarray(at, larger, size);
    if (moved)
        *room = larger;
    return moved;
}
