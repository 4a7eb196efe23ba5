/* SPDX-License-Identifier: MIT */

/* How the close of each embedded peer must end, as both ends see it. */

#ifndef TOOL_EXPECTED_H
#define TOOL_EXPECTED_H

#include "probe/result.h"

#include <stdbool.h>
#include <stddef.h>

struct expectation {
    enum peer_kind kind;
    bool tls;
    enum fin_outcome outcome;
    enum fin_phase phase;
    enum fin_end end;
    bool notified, eof, reset; /* what the peer sees */
    bool complete;             /* it receives every byte */
};

#define EXPECTATIONS 18
extern const struct expectation expectations[EXPECTATIONS];

/* Compares; VERDICT_NONE if nothing can be expected under this policy: another courtesy than
 * orderly, scope descriptor, less than half a second for a phase, a drain that is too small or too
 * large. `written` is what our side wrote. */
enum verdict expectation_judge(const struct expectation *x, const struct fin_policy *policy,
                               uint64_t written, const struct probe_result *result);

/* For a person, on one line. */
void expectation_format(const struct expectation *x, char *buf, size_t size);

#endif
