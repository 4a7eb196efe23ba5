/* SPDX-License-Identifier: MIT */

/* What a receipt may say, given what the peer, /proc, sock_diag and the clock say. */

#ifndef RULES_H
#define RULES_H

#include "play.h"

/* The name of the first rule that is broken, or NULL. `*clock` tells whether a busy machine can
 * break it too, so that it counts only if it is broken again and again. */
const char *rules_broken(const struct play *p, bool *clock);

/* Everything that was seen, for a person; returns `buf`. */
const char *rules_describe(const struct play *p, char *buf, size_t size);

#endif
