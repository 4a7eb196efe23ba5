/* SPDX-License-Identifier: MIT */

/* The dead descriptor that tombstones are copies of. A tombstone is needed when there may be no
 * free descriptor to make one, so it is made beforehand: one for all handles of the process,
 * made with the first and closed with the last. It is the reading end of a pipe without a
 * writer, since that gives EOF to read(2), EBADF to write(2), POLLHUP to poll(2) and ENOTSOCK to
 * every call for sockets; raises no SIGPIPE as a shut socket would; and nothing done to one copy
 * changes the others. */

#ifndef FIN_DEAD_H
#define FIN_DEAD_H

/* The descriptor, or -EMFILE, -ENFILE. Each success is to be followed by one fin__dead_drop(). */
int fin__dead_take(void);
void fin__dead_drop(void);

#endif
