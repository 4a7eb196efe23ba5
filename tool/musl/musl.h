/* SPDX-License-Identifier: MIT
 *
 * What the command uses of glibc and another C library for Linux, musl, lacks; included before all
 * else.
 */

#ifndef FINACK_TOOL_MUSL_MUSL_H
#define FINACK_TOOL_MUSL_MUSL_H

#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#ifndef SO_NETNS_COOKIE
#define SO_NETNS_COOKIE 71 /* include/uapi/asm-generic/socket.h */
#endif

#define M_MMAP_THRESHOLD (-3) /* it has such a threshold, a fixed one */
int mallopt(int what, int value);

int close_range(unsigned first, unsigned last, int flags);

/* "TERM" for SIGTERM, NULL for what is no signal's number. */
const char *sigabbrev_np(int signal);

#endif
