/* SPDX-License-Identifier: MIT */

#include "trace/wake.h"

#include <stddef.h>
#include <sys/time.h>

/* A signal just before wait(2) begins does not interrupt it; the next one of the timer does. */
#define AGAIN_US 20000

static volatile sig_atomic_t order;
static volatile sig_atomic_t armed_ms; /* 0: the timer is off */
static volatile sig_atomic_t rang;     /* since it was set */

static void trace_wake_arm(unsigned ms)
{
    struct itimerval timer = { { 0, ms ? AGAIN_US : 0 }, { 0, (suseconds_t) ms * 1000 } };

    armed_ms = (sig_atomic_t) ms;
    rang = 0;
    setitimer(ITIMER_REAL, &timer, NULL);
}

static void trace_wake_take(int number, siginfo_t *info, void *context)
{
    (void) context;
    if (number == SIGUSR2)
        order = ORDER_FRONT_IS_DEAD;
    else if (number == SIGUSR1)
        order = info->si_value.sival_int;
    if (number != SIGALRM)
        trace_wake_arm(1);
    armed_ms = number == SIGALRM ? AGAIN_US / 1000 : armed_ms;
    rang = number == SIGALRM;
}

void wake_signals(sigset_t *set)
{
    sigemptyset(set);
    sigaddset(set, SIGUSR1);
    sigaddset(set, SIGUSR2);
    sigaddset(set, SIGALRM);
}

void wake_begin(void)
{
    struct sigaction action = { .sa_sigaction = trace_wake_take, .sa_flags = SA_SIGINFO };
    sigset_t set;

    wake_signals(&set);
    sigaction(SIGUSR1, &action, NULL);
    sigaction(SIGUSR2, &action, NULL);
    sigaction(SIGALRM, &action, NULL);
    sigprocmask(SIG_UNBLOCK, &set, NULL);
}

/* To set it at each wait would be a system call more: it is turned off once it rang in vain, and an
 * order that comes at that moment turns it on again. */
void wake_in(unsigned ms)
{
    if (ms ? armed_ms == 0 || armed_ms > (sig_atomic_t) ms : rang)
        trace_wake_arm(ms);
    if (order && armed_ms == 0)
        trace_wake_arm(1);
}

enum order wake_order(void)
{
    enum order taken = (enum order) order;

    order = ORDER_NONE;
    return taken;
}
