/* SPDX-License-Identifier: MIT */

/* What is asked about a descriptor after its release, for drivers that prove one close at a
 * time. */

#ifndef FIN_PROOF_H
#define FIN_PROOF_H

#include "close/machine.h"
#include "kernel/holders.h"
#include "kernel/kernel.h"

struct fin__proof {
    struct fin_identity id; /* for sock_diag; filled by fin__proof_confirm() if that is wanted */
    uint64_t token;         /* of the witness */
    uint64_t inode;         /* what the witness last said is held, 0: nothing */
};

/* Identifies `fd` and has sock_diag confirm it while the connection lasts: after both FINs
 * sock_diag no longer finds the open socket. `kernel` may be NULL. */
void fin__proof_confirm(struct fin_kernel *kernel, int fd, struct fin_identity *id);

/* Answers FIN__WITNESS: adds `fd` to the handle's witness. `sole`: no other close depends on
 * entries there, so that they may be dropped. */
void fin__proof_prepare(struct fin__proof *proof, struct fin_kernel *kernel, int fd, bool sole,
                        struct fin__event *ev);

/* Answers FIN__CHECK. */
void fin__proof_check(struct fin__proof *proof, struct fin_kernel *kernel, struct fin__event *ev);

/* Answers FIN__INSPECT. */
void fin__proof_inspect(struct fin_kernel *kernel, struct fin_identity *id, struct fin__event *ev);

/* When all of a close's time is over, of fin__now(). */
uint64_t fin__proof_time(const struct fin__machine *m);

/* Searches for the holders, if it is held and the policy wants to know, in what is left of the
 * close's time. `inode` is as the witness told it, `kind` as the endpoint. */
void fin__proof_holders(const struct fin__machine *m, uint64_t inode, enum fin__kind kind,
                        struct fin_receipt *receipt);

#endif
