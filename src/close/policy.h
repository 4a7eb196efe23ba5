/* SPDX-License-Identifier: MIT */

#ifndef FIN_POLICY_H
#define FIN_POLICY_H

#include "close/machine.h"

/* Checks a policy; -EINVAL or -ERANGE as fin_close() documents. */
int fin__policy_check(const struct fin_policy *policy);

/* What NULL stands for where a policy is taken. */
const struct fin_policy *fin__policy_or_default(const struct fin_policy *policy);

/* Is only the descriptor to be closed (scope descriptor, the default for a listening socket)? */
bool fin__policy_spares_connection(const struct fin_policy *policy, bool listening);

/* Compiles a checked policy for a listening or another descriptor. */
void fin__plan_make(const struct fin_policy *policy, bool listening, struct fin__plan *plan);

#endif
