/* SPDX-License-Identifier: MIT */

#ifndef FIN_DESCRIPTOR_H
#define FIN_DESCRIPTOR_H

/* The one door: nothing else in the library calls close(2). The number is free on return, also
 * after an error: Linux frees it before anything can fail, so that a retry could close another file
 * (close(2), "Dealing with error returns"). -EBADF: somebody else has closed it. A receipt reports
 * that, and nothing is left to do.
 * Returns 0 or a negative errno. */
int fin__release(int fd);

/* Releases `fd` and puts a copy of `tombstone` on its number in one step, so that nobody else can
 * get the number. The copy is CLOEXEC and must be released later.
 * Returns 0 or a negative errno; nothing has changed then. */
int fin__entomb(int tombstone, int fd);

/* Releases a descriptor that the library itself opened, and forgets the number. -1 is fine. */
void fin__drop(int *fd);

#endif
