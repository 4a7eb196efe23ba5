/* SPDX-License-Identifier: MIT */

/* poll(2) fails for a process that may open no descriptors: if RLIMIT_NOFILE is 0 it returns
 * EINVAL, at once and each time. */

#ifndef FIN_POLL_H
#define FIN_POLL_H

#include <poll.h>

/* The events of `fd` now; or a negative errno: not known. */
int fin__events(int fd, short wanted);

/* As poll(2), but a failure takes a moment, so that a caller that tries again does not spin. */
int fin__poll(struct pollfd *entries, nfds_t count, int timeout_ms);

#endif
