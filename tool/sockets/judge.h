/* SPDX-License-Identifier: MIT */

/* From a socket's facts to its findings, its verdict, and the sentence that explains it. */

#ifndef TOOL_JUDGE_H
#define TOOL_JUDGE_H

#include "sockets/snapshot.h"

/* Fills findings, verdict and listener of every socket. Findings that only reading the kernel
 * and /proc can give (stale, invisible, dead) are there already. */
void judge(struct snapshot *snapshot);

/* Milliseconds since the peer's FIN came, at least and at most. False if that is not known. */
bool end_age(const struct socket *s, uint32_t *least, uint32_t *most);

/* For how many milliseconds its verdict has been true, at least. False if that is not known. */
bool finding_age(const struct socket *s, uint32_t *least);

/* Why it is there, for a person; "" if there is nothing to say. */
void explain(const struct snapshot *snapshot, const struct socket *s, char *buf, size_t size);

#endif
