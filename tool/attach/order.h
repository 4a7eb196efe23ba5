/* SPDX-License-Identifier: MIT */

/* Tells a thread of Python to run a script, and wakes it; takes the order back if it has not
 * begun. Nothing is written to the state of a thread that has ended. */

#ifndef TOOL_ORDER_H
#define TOOL_ORDER_H

#include "attach/interpreter.h"

/* Tells the thread to run the file at `path`, as it sees it. Returns 0 or a negative errno: -ESRCH,
 * it has ended. */
int order_give(const struct interpreter *in, const struct python_thread *thread, const char *path);

/* Ends a wait of the thread with EINTR, after which Python checks. No signal is sent, and its
 * parent sees no stop. Returns 0 or a negative errno: -ESRCH, it has ended. */
int order_wake(const struct python_thread *thread);

/* Makes a thread that computes check at its next jump or call. */
void order_press(const struct interpreter *in, const struct python_thread *thread);

/* Has it begun? */
bool order_taken(const struct interpreter *in, const struct python_thread *thread);

/* Wipes the path out: the thread has run it. */
void order_forget(const struct interpreter *in, const struct python_thread *thread);

/* Takes it back. False: the thread has begun, and has not ended. */
bool order_withdraw(const struct interpreter *in, const struct python_thread *thread);

#endif
