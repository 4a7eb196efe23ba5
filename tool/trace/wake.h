/* SPDX-License-Identifier: MIT */

/* What ends the tracer's wait(2): a signal from the front, and time. */

#ifndef TOOL_TRACE_WAKE_H
#define TOOL_TRACE_WAKE_H

#include <signal.h>

/* From the front, by SIGUSR1 with a value; from the kernel, by SIGUSR2: the front is dead. */
enum order {
    ORDER_NONE,
    ORDER_END_SOON, /* the command got the terminal's signal too: trace it until it ends */
    ORDER_END_NOW,
    ORDER_FRONT_IS_DEAD,
};

/* The signals of this; to be blocked until wake_begin(). */
void wake_signals(sigset_t *set);
void wake_begin(void);

/* Interrupts calls that wait, in `ms` and then again and again until it is set anew; 0: never. */
void wake_in(unsigned ms);

/* The order that came since the last call. */
enum order wake_order(void);

#endif
