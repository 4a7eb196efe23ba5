/* SPDX-License-Identifier: MIT */

/* A mark in an open file description of our own. It shows whether the number is still ours: the
 * program may have closed it by mistake, and opened another file. The signal of F_SETSIG serves
 * as the mark and costs nothing: it belongs to the description, and an epoll set or a file under
 * /proc never sends a signal. Two marks of ours differ 63 times of 64. */

#ifndef FIN_MARK_H
#define FIN_MARK_H

#include "base/clock.h"
#include "base/descriptor.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>

#define FIN__MARKS 64               /* signals */
#define FIN__UNMARKED (-1)          /* what lives for one call: taken for ours */
#define FIN__SURE_NS FIN__NS_PER_MS /* after a check none is made for this long */

/* Returns the mark to check for later; for several descriptors pass what the first one got. */
static inline int fin__mark(int fd, int mark)
{
    return fcntl(fd, F_SETSIG, mark) < 0 ? FIN__UNMARKED : mark;
}

static inline int fin__mark_new(int fd)
{
    return fin__mark(fd, 1 + (int) (fin__now() % FIN__MARKS));
}

static inline bool fin__is_marked(int fd, int mark)
{
    return fd >= 0 && (mark == FIN__UNMARKED || fcntl(fd, F_GETSIG) == mark);
}

/* Closes it if it is ours still, and forgets it. */
static inline void fin__drop_marked(int *fd, int mark)
{
    int saved = errno;

    if (!fin__is_marked(*fd, mark))
        *fd = -1;
    errno = saved;
    fin__drop(fd);
}

#endif
