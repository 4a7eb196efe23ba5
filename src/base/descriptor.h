/* SPDX-License-Identifier: MIT */

#ifndef FIN_DESCRIPTOR_H
#define FIN_DESCRIPTOR_H

/* The one door: nothing else in the library calls close(2). The number is free on return, also with
 * an error: Linux frees it before anything can fail, so that a retry would close a stranger's
 * (close(2), "Dealing with error returns"). EBADF is a bug of ours and asserts.
 * Returns 0 or a negative errno. */
int fin__release(int fd);

/* Releases a descriptor that the library itself opened, and forgets the number. -1 is fine. */
void fin__drop(int *fd);

#endif
