/* SPDX-License-Identifier: MIT */

#ifndef FIN_ALLOC_H
#define FIN_ALLOC_H

#include <stddef.h>

/* Where the library's memory comes from; tests replace it to make every allocation fail in turn. */
struct fin__allocator {
    void *(*alloc)(size_t size);
    void (*free)(void *block);
};
extern struct fin__allocator fin__allocator;

/* Zeroed memory, or NULL. */
void *fin__alloc(size_t size);

/* NULL is fine. */
void fin__free(void *block);

#endif
