/* SPDX-License-Identifier: MIT */

/* Which processes have a socket or pipe open, from /proc. */

#ifndef FIN_HOLDERS_H
#define FIN_HOLDERS_H

#include <finack.h>
#include <stdbool.h>

/* What is looked for. A pipe has one inode for both ends, which are two descriptions. */
enum fin__kind {
    FIN__A_SOCKET,
    FIN__A_PIPE, /* either end of it */
    FIN__A_READ_END,
    FIN__A_WRITE_END,
};

/* What `fd` is, which is a socket or a pipe. */
enum fin__kind fin__kind_of(int fd);

/* Fills search, holders and holder of a receipt of something that is held. With inode 0 nothing is
 * searched: the three are cleared. The search ends at `until` of fin__now(), after 0.1 s of
 * processor time, and after 1 s. */
void fin__receipt_holders(struct fin_receipt *receipt, uint64_t inode, enum fin__kind kind,
                          uint64_t until);

#endif
