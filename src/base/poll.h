/* SPDX-License-Identifier: MIT */

/* poll(2) fails for a process that has given up its right to open descriptors: with RLIMIT_NOFILE
 * at 0 it answers EINVAL, at once and for ever. */

#ifndef FIN_POLL_H
#define FIN_POLL_H

#include <poll.h>

/* What there is of `fd` now; or a negative errno: not to be known. */
int fin__events(int fd, short wanted);

/* As poll(2); a failure takes a moment too, so that who tries again does not spin. */
int fin__poll(struct pollfd *entries, nfds_t count, int timeout_ms);

#endif
