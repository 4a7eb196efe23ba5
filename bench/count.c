/* SPDX-License-Identifier: MIT */

/* Counts the system calls of an operation by ptrace(2): nothing need be installed, and what the C
 * library answers in user space (the vDSO's clock) does not count. */

#include "bench.h"

#include <signal.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

/* A call that nothing measured here makes. */
#define MARK SYS_getppid

void bench_mark(void)
{
    (void) syscall(MARK);
}

struct count {
    double calls[BENCH_COUNTED];
    size_t done;
    unsigned now;
    bool within; /* between two marks */
};

static void entered(struct count *c, unsigned long long call)
{
    if (call != MARK) {
        c->now += c->within;
        return;
    }
    if (c->within && c->done < BENCH_COUNTED)
        c->calls[c->done++] = c->now;
    c->within = !c->within;
    c->now = 0;
}

static void traced(void (*run)(const void *arg), const void *arg)
{
    bench_must(prctl(PR_SET_PDEATHSIG, SIGKILL), "prctl");
    bench_must((int) ptrace(PTRACE_TRACEME, 0, NULL, NULL), "ptrace");
    (void) raise(SIGSTOP); /* until the tracer has set its options */
    run(arg);
    _exit(0);
}

/* Lets the child go on to its next stop; false when it has ended well. */
static bool next_stop(int child, int *signal)
{
    int status;

    bench_must((int) ptrace(PTRACE_SYSCALL, child, NULL, (void *) (long) *signal), "ptrace");
    bench_must(waitpid(child, &status, 0), "waitpid");
    if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
        return false;
    if (!WIFSTOPPED(status))
        bench_die("the traced child failed");
    *signal = WSTOPSIG(status);
    return true;
}

static void follow(int child, struct count *c)
{
    struct __ptrace_syscall_info info;
    int signal = 0;

    while (next_stop(child, &signal)) {
        if (signal != (SIGTRAP | 0x80)) /* PTRACE_O_TRACESYSGOOD; else a signal to hand on */
            continue;
        signal = 0;
        bench_must((int) ptrace(PTRACE_GET_SYSCALL_INFO, child, (void *) sizeof info, &info),
                   "ptrace");
        if (info.op == PTRACE_SYSCALL_INFO_ENTRY)
            entered(c, info.entry.nr);
    }
}

struct bench_calls bench_count(void (*run)(const void *arg), const void *arg)
{
    struct count c = { .done = 0 };
    struct bench_calls calls;
    int child = bench_must(fork(), "fork");
    int status;

    if (child == 0)
        traced(run, arg);
    bench_must(waitpid(child, &status, 0), "waitpid");
    if (!WIFSTOPPED(status))
        bench_die("ptrace is not to be had: system calls can't be counted");
    bench_must((int) ptrace(PTRACE_SETOPTIONS, child, NULL,
                            (void *) (long) (PTRACE_O_TRACESYSGOOD | PTRACE_O_EXITKILL)),
               "ptrace");
    follow(child, &c);
    if (c.done != BENCH_COUNTED)
        bench_die("%zu operations were counted, not %d", c.done, BENCH_COUNTED);
    calls.usual = (unsigned) bench_median(c.calls, c.done);
    calls.least = (unsigned) c.calls[0];
    calls.most = (unsigned) c.calls[c.done - 1];
    return calls;
}
