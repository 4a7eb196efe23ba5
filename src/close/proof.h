/* SPDX-License-Identifier: MIT */

/* Release and what is asked about it afterwards, the same for every driver. */

#ifndef FIN_PROOF_H
#define FIN_PROOF_H

#include "close/machine.h"
#include "kernel/kernel.h"

/* Answers FIN__RELEASE. */
void fin__proof_release(int fd, struct fin__event *ev);

/* Identifies `fd` and has sock_diag confirm it, while the connection is whole: after both FINs
 * sock_diag finds the open socket no more. `kernel` may be NULL. */
void fin__proof_confirm(struct fin_kernel *kernel, int fd, struct fin_identity *id);

/* Answers FIN__WITNESS: enters `fd` in the handle's witness and returns the token to ask by.
 * `sole`: no other close asks about what it entered, so that such entries may go. */
uint64_t fin__proof_prepare(struct fin_kernel *kernel, int fd, bool confirmed, bool sole,
                            struct fin__event *ev);

/* Answers FIN__CHECK. If something still refers to it, writes its inode. */
void fin__proof_check(struct fin_kernel *kernel, uint64_t token, uint64_t *inode,
                      struct fin__event *ev);

/* Answers FIN__INSPECT. */
void fin__proof_inspect(struct fin_kernel *kernel, struct fin_identity *id, struct fin__event *ev);

#endif
