/* SPDX-License-Identifier: MIT */

/* Fabricated closes that break each rule once: a monitor that can't fail proves nothing. */

#ifndef FIN_TEST_SELFCHECK_H
#define FIN_TEST_SELFCHECK_H

#include "explore.h"

void every_rule_can_break(void **state);
void a_good_close_breaks_none(void **state);
void a_livelock_is_found(void **state);

#endif
