/* SPDX-License-Identifier: MIT */

#ifndef FIN_POLICY_H
#define FIN_POLICY_H

#include "close/machine.h"

/* Checks a policy; -EINVAL or -ERANGE as fin_close() documents. */
int fin__policy_check(const struct fin_policy *policy);

/* Compiles a checked policy for a listening or another descriptor. */
void fin__plan_make(const struct fin_policy *policy, bool listening, struct fin__plan *plan);

#endif
