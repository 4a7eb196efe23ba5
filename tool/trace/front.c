/* SPDX-License-Identifier: MIT */

#include "trace/front.h"

#include "common/command.h"
#include "common/file.h"
#include "common/procfs.h"
#include "common/say.h"
#include "trace/attach.h"
#include "trace/filter.h"
#include "trace/options.h"
#include "trace/run.h"
#include "trace/wake.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

void (*front_sigpipe)(int);

struct front {
    const struct trace_options *options;
    struct roster *roster;
    sigset_t mask; /* as it was when we were started */
    int go[2];     /* tracer -> command: you are traced, begin */
    int whom[2];   /* front -> tracer: whom to trace */
    int result[2]; /* tracer -> front: the exit status */
    pid_t tracer, command;
};

static void front_signals(sigset_t *set)
{
    sigemptyset(set);
    sigaddset(set, SIGINT);
    sigaddset(set, SIGQUIT);
    sigaddset(set, SIGTERM);
    sigaddset(set, SIGHUP);
}

/* ---- the command ---- */

__attribute__((noreturn)) static void become_command(const struct front *f)
{
    char *const *argv = f->options->command;
    char byte;

    (void) prctl(PR_SET_PTRACER, f->tracer); /* Yama lets only a parent trace otherwise */
    close(f->go[1]);
    if (read(f->go[0], &byte, 1) != 1)
        _exit(EXIT_TROUBLE);
    f->roster->unfiltered = filter_load() < 0;
    signal(SIGPIPE, front_sigpipe);
    sigprocmask(SIG_SETMASK, &f->mask, NULL);
    execvp(argv[0], argv);
    complain("cannot run '%s': %s", argv[0], strerror(errno));
    _exit(EXIT_TROUBLE);
}

/* ---- the tracer ---- */

/* What is not needed would hold the command's sockets and pipes. The numbers are in order. */
static void keep_only(const int *keep, size_t count)
{
    unsigned next = STDERR_FILENO + 1;
    size_t i;

    for (i = 0; i < count; i++) {
        if ((unsigned) keep[i] > next)
            (void) close_range(next, (unsigned) keep[i] - 1, 0);
        next = (unsigned) keep[i] + 1;
    }
    (void) close_range(next, ~0u, 0);
}

__attribute__((noreturn)) static void become_tracer(const struct front *f, pid_t front)
{
    const int keep[] = { f->go[1], f->whom[0], f->result[1] };
    pid_t pid = f->options->pid;

    keep_only(keep, 3);
    raise_descriptor_limit(); /* one for each process that is traced */
    prctl(PR_SET_PDEATHSIG, SIGUSR2);
    prctl(PR_SET_NAME, "finack tracer");
    if (getppid() != front)
        _exit(EXIT_TROUBLE);
    if (!pid && read(f->whom[0], &pid, sizeof pid) != sizeof pid)
        _exit(EXIT_TROUBLE);
    close(f->whom[0]);
    exit(trace_run(f->options, f->roster, pid, f->go[1], f->result[1]));
}

/* ---- the front ---- */

static int front_start(struct front *f)
{
    pid_t front = getpid();

    f->tracer = fork();
    if (f->tracer == 0)
        become_tracer(f, front);
    if (f->tracer > 0 && !f->options->pid) {
        f->command = fork();
        if (f->command == 0)
            become_command(f);
        if (f->command > 0
            && write(f->whom[1], &f->command, sizeof f->command) != sizeof f->command)
            f->command = -1;
    }
    if (f->tracer < 0 || f->command < 0)
        return complain("cannot fork: %s", strerror(errno));
    keep_only(&f->result[0], 1);
    return 0;
}

static void tell_tracer(const struct front *f, enum order order)
{
    sigqueue(f->tracer, SIGUSR1, (union sigval) { .sival_int = (int) order });
}

/* A signal of the terminal's reaches the command too; the trace shows what it makes of it. */
static void pass_signal(const struct front *f, int signals, bool *told)
{
    struct signalfd_siginfo info;
    bool from_terminal;

    if (read(signals, &info, sizeof info) != sizeof info)
        return;
    from_terminal = info.ssi_code == SI_KERNEL && info.ssi_signo != SIGHUP && !f->options->pid;
    tell_tracer(f, from_terminal && !*told ? ORDER_END_SOON : ORDER_END_NOW);
    *told = true;
}

static int lost_tracer(const struct front *f)
{
    waitpid(f->tracer, NULL, 0);
    if (f->options->pid)
        return complain("the tracer was killed; the process goes on untraced");
    attach_take_over(f->roster);
    complain("the tracer was killed; the command goes on untraced, but calls that it made in the "
             "meantime may have failed");
    attach_keep();
    return EXIT_TROUBLE;
}

static int wait_for_result(const struct front *f)
{
    struct pollfd fds[2] = { { .fd = f->result[0], .events = POLLIN }, { .events = POLLIN } };
    unsigned char status;
    bool told = false;
    sigset_t set;

    front_signals(&set);
    fds[1].fd = signalfd(-1, &set, SFD_CLOEXEC);
    for (;;) {
        if (poll(fds, 2, -1) < 0)
            continue;
        if (fds[1].revents)
            pass_signal(f, fds[1].fd, &told);
        if (fds[0].revents)
            return read(f->result[0], &status, 1) == 1 ? status : lost_tracer(f);
    }
}

static int front_run(const struct trace_options *options)
{
    struct front f = { .options = options };
    sigset_t block, own;

    f.roster =
        mmap(NULL, sizeof *f.roster, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (f.roster == MAP_FAILED || pipe2(f.go, O_CLOEXEC) < 0 || pipe2(f.whom, O_CLOEXEC) < 0
        || pipe2(f.result, O_CLOEXEC) < 0)
        return complain("cannot begin: %s", strerror(errno));
    front_signals(&block);
    wake_signals(&own);
    sigaddset(&own, SIGTSTP);
    sigaddset(&own, SIGTTOU);
    sigprocmask(SIG_BLOCK, &block, &f.mask);
    sigprocmask(SIG_BLOCK, &own, NULL);
    if (front_start(&f)) {
        tell_tracer(&f, ORDER_END_NOW);
        return EXIT_TROUBLE;
    }
    sigprocmask(SIG_UNBLOCK, &own, NULL);
    return wait_for_result(&f);
}

int trace_main(int argc, char **argv)
{
    struct trace_options options;
    int parsed = trace_options_parse(argc, argv, &options);

    if (parsed != PARSE_RUN)
        return parsed;
    if ((options.output && file_check(options.output))
        || (options.html && file_check(options.html)))
        return EXIT_TROUBLE;
    return front_run(&options);
}
