/* SPDX-License-Identifier: MIT */

/* Ends a connection that another process has open. All is done to a copy of its descriptor,
 * which is checked first: even if the descriptor is closed or reused meanwhile, no other socket
 * is touched. */

#ifndef TOOL_ENDING_H
#define TOOL_ENDING_H

#include <finack.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct ending {
    int copy; /* ours; -1: there is none */
    struct fin_identity identity;
    int32_t pid; /* without a copy: whose it is */
    int state;
    char text[400]; /* what it is, for a person */
};

/* Takes the copy. `socket`: its cookie, as `finack ps` has it; 0: whichever it is. Errors: -ESRCH,
 * -EBADF (not open), -ESTALE (another socket), -ENOTSOCK, -EOPNOTSUPP (no connection), -EPERM,
 * -EMFILE, -ENFILE. */
int ending_open(struct ending *e, int32_t pid, int32_t fd, uint64_t socket);

/* Shuts it down and waits for the peer, or resets it; within 5 s. Takes the copy over. Returns 0 or
 * a negative errno of fin_close(3). */
int ending_finish(struct ending *e, bool reset, struct fin_receipt *receipt);

/* Lets go of it instead. */
void ending_drop(struct ending *e);

/* If the descriptor can't be copied, because the kernel has no pidfd_getfd(2) or lets nobody
 * trace: a TCP connection is found by its link in /proc, and the kernel resets it (SOCK_DESTROY)
 * after checking the cookie. Errors of ending_find() are those of ending_open(), and -EACCES; of
 * ending_destroy() -EOPNOTSUPP (the kernel has it not), -EPERM, -ENOENT (it is over). There is
 * nothing to drop. */
int ending_find(struct ending *e, int32_t pid, int32_t fd, uint64_t socket);
int ending_destroy(struct ending *e);

/* Fills e->text. */
void ending_describe(struct ending *e, int32_t pid, int32_t fd, int state);

/* One line on stderr; EXIT_TROUBLE. */
int ending_complain(int32_t pid, int32_t fd, int error);

#endif
