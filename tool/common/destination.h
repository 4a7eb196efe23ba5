/* SPDX-License-Identifier: MIT */

/* Where a path leads that is to be written. Other users may have put symbolic links into it, and
 * may swap them meanwhile: only links that nobody but us and root can have made are followed,
 * and the file that was checked is the one that is used. */

#ifndef TOOL_DESTINATION_H
#define TOOL_DESTINATION_H

#include <limits.h>
#include <stdbool.h>
#include <sys/types.h>

struct destination {
    int folder;              /* O_PATH */
    char name[NAME_MAX + 1]; /* in it */
    bool special;            /* a device, a FIFO, or an open file under /proc: it is written to */
    bool magic;              /* ... by a link of /proc's */
    mode_t mode;             /* of the new file: that of the old one if it is ours */
};

/* Follows `path`; a link of another user's at its end is what will be replaced. Errors: -ELOOP
 * (such a link on the way, or too many of any), -EISDIR, -ENAMETOOLONG, those of open(2). */
int destination_find(const char *path, struct destination *ret);
void destination_close(struct destination *d);

#endif
