/* SPDX-License-Identifier: MIT */

#include "musl.h"

#include <stddef.h>
#include <sys/pidfd.h>
#include <sys/syscall.h>

#define COUNT(array) (sizeof(array) / sizeof(array)[0])
#define SIGNAL(name) [SIG##name] = #name

static const char *const signal_names[] = {
    SIGNAL(HUP),  SIGNAL(INT),    SIGNAL(QUIT), SIGNAL(ILL),    SIGNAL(TRAP), SIGNAL(ABRT),
    SIGNAL(BUS),  SIGNAL(FPE),    SIGNAL(KILL), SIGNAL(USR1),   SIGNAL(SEGV), SIGNAL(USR2),
    SIGNAL(PIPE), SIGNAL(ALRM),   SIGNAL(TERM), SIGNAL(STKFLT), SIGNAL(CHLD), SIGNAL(CONT),
    SIGNAL(STOP), SIGNAL(TSTP),   SIGNAL(TTIN), SIGNAL(TTOU),   SIGNAL(URG),  SIGNAL(XCPU),
    SIGNAL(XFSZ), SIGNAL(VTALRM), SIGNAL(PROF), SIGNAL(WINCH),  SIGNAL(POLL), SIGNAL(PWR),
    SIGNAL(SYS),
};

const char *sigabbrev_np(int signal)
{
    return signal > 0 && (size_t) signal < COUNT(signal_names) ? signal_names[signal] : NULL;
}

int mallopt(int what, int value)
{
    (void) what;
    (void) value;
    return 1;
}

int close_range(unsigned first, unsigned last, int flags)
{
    return (int) syscall(SYS_close_range, first, last, flags);
}

int pidfd_open(pid_t pid, unsigned flags)
{
    return (int) syscall(SYS_pidfd_open, pid, flags);
}

int pidfd_getfd(int pidfd, int fd, unsigned flags)
{
    return (int) syscall(SYS_pidfd_getfd, pidfd, fd, flags);
}

int pidfd_send_signal(int pidfd, int signal, siginfo_t *info, unsigned flags)
{
    return (int) syscall(SYS_pidfd_send_signal, pidfd, signal, info, flags);
}
