/* SPDX-License-Identifier: MIT */

/* An array that grows. */

#ifndef TOOL_LIST_H
#define TOOL_LIST_H

#include <errno.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

/* `at` points to elements of one type; the first `count` of them are in use. */
#define LIST(type)                                                                                 \
    struct {                                                                                       \
        type *at;                                                                                  \
        size_t count, room;                                                                        \
    }

/* Makes room for `more` (1 or more) elements behind those in use, which may move. Gives 0 or
 * -ENOMEM. */
#define list_need(list, more)                                                                      \
    __extension__({                                                                                \
        void *moved_ =                                                                             \
            list_grow((list)->at, &(list)->room, (list)->count + (more), sizeof *(list)->at);      \
        if (moved_)                                                                                \
            (list)->at = moved_;                                                                   \
        moved_ ? 0 : -ENOMEM;                                                                      \
    })

/* Adds an element. Gives 0 or -ENOMEM. */
#define list_add(list, ...)                                                                        \
    __extension__({                                                                                \
        int added_ = list_need(list, 1);                                                           \
        if (added_ == 0)                                                                           \
            (list)->at[(list)->count++] = __VA_ARGS__;                                             \
        added_;                                                                                    \
    })

/* Adds the elements of another list. Gives 0 or -ENOMEM. */
#define list_append(list, from)                                                                    \
    __extension__({                                                                                \
        int appended_ = (from)->count ? list_need(list, (from)->count) : 0;                        \
        if (appended_ == 0 && (from)->count) {                                                     \
            memcpy((list)->at + (list)->count, (from)->at, (from)->count * sizeof *(from)->at);    \
            (list)->count += (from)->count;                                                        \
        }                                                                                          \
        appended_;                                                                                 \
    })

/* As qsort(3) and bsearch(3); a list may be empty. */
#define list_sort(list, compare)                                                                   \
    do                                                                                             \
        if ((list)->count)                                                                         \
            qsort((list)->at, (list)->count, sizeof *(list)->at, compare);                         \
    while (0)
#define list_search(list, key, compare)                                                            \
    ((list)->count ? bsearch(key, (list)->at, (list)->count, sizeof *(list)->at, compare) : NULL)

/* Empties it, and gives its memory back. */
#define list_free(list)                                                                            \
    __extension__({                                                                                \
        free((list)->at);                                                                          \
        (list)->at = NULL;                                                                         \
        (list)->count = (list)->room = 0;                                                          \
    })

/* The array with room for `wanted` elements of `size`, or NULL, and then it is as it was. */
void *list_grow(void *at, size_t *room, size_t wanted, size_t size);

#endif
