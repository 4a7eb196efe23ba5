/* SPDX-License-Identifier: MIT */

#ifndef FIN_PLANS_H
#define FIN_PLANS_H

#include "close/policy.h"

/* The compiled policies of pending closes. Closes under the same policy share one, so that a close
 * costs a pointer. The caller locks. */
struct fin__plans {
    struct fin__shared_plan *first;
};

/* A plan for a checked policy, or NULL without memory. */
const struct fin__plan *fin__plans_take(struct fin__plans *plans, const struct fin_policy *policy,
                                        bool listening);
void fin__plans_drop(struct fin__plans *plans, const struct fin__plan *plan);
void fin__plans_free(struct fin__plans *plans);

#endif
