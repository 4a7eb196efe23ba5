/* SPDX-License-Identifier: MIT */

/* Every loop of the library ends by itself: it walks something finite, checks a deadline, or
 * counts its turns. A loop that repeats an interrupted call counts: a call that does not wait is
 * not interrupted, and a kernel that says so for ever must not keep us. */

#ifndef FIN_AGAIN_H
#define FIN_AGAIN_H

#include <errno.h>
#include <stdbool.h>
#include <sys/types.h>

#define FIN__TRIES 16

/* Whether to make the call that gave `result` once more. *tries begins as 0. */
static inline bool fin__again(ssize_t result, int *tries)
{
    return result < 0 && errno == EINTR && ++*tries < FIN__TRIES;
}

/* What to make of errno after such a call: nothing there now. */
static inline bool fin__is_nothing(int error)
{
    return error == EAGAIN || error == EWOULDBLOCK || error == EINTR;
}

#endif
