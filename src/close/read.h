/* SPDX-License-Identifier: MIT */

#ifndef FIN_READ_H
#define FIN_READ_H

#include "close/machine.h"
#include "close/subject.h"

/* Reads at most `max` bytes of input and throws them away; with max 0 only looks whether there is
 * any. Answers with BYTES, AGAIN, ANSWER, BROKEN, FAILED, or END for a read of 0. Never blocks. */
void fin__read(struct fin__endpoint *ep, uint64_t max, struct fin__event *ev);

#endif
