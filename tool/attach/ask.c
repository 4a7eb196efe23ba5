/* SPDX-License-Identifier: MIT */

/* PEP 768: a thread of Python's that finds a word set in its state runs the file that is named
 * beside it. It checks that word where it checks for signals: a loop that waits has to be woken. */

#include "attach/ask.h"

#include "attach/exchange.h"
#include "attach/order.h"
#include "common/deadline.h"
#include "common/procfs.h"
#include "common/say.h"
#include "kernel/proc.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

enum {
    LOOK_MS = 5,
    WAKE_MS = 50,   /* from one interruption to the next: it may have been between two waits */
    PRESS_MS = 200, /* it does not wait, it computes */
    ROUND_MS = 500, /* for each thread at first */
    FEW = 8,        /* descriptors, for the script and the answer, and then some */
    MORE = 256      /* some go to connections that waited to be accepted */
};

struct asking {
    struct interpreter in;
    struct exchange x;
    sigset_t signals; /* those that would end us; a look at them is the pause */
    int caught;
    uint64_t deadline;
};

/* ---- signals, so that all is cleaned up ---- */

static void block_signals(struct asking *a, sigset_t *before)
{
    sigemptyset(&a->signals);
    sigaddset(&a->signals, SIGINT);
    sigaddset(&a->signals, SIGTERM);
    sigaddset(&a->signals, SIGHUP);
    sigaddset(&a->signals, SIGQUIT);
    pthread_sigmask(SIG_BLOCK, &a->signals, before);
}

static void unblock_signals(const struct asking *a, const sigset_t *before)
{
    if (a->caught > 0)
        raise(a->caught);
    pthread_sigmask(SIG_SETMASK, before, NULL);
}

static void take_a_pause(struct asking *a)
{
    static const struct timespec pause = { 0, LOOK_MS * 1000000 };
    int caught = sigtimedwait(&a->signals, NULL, &pause);

    if (caught > 0)
        a->caught = caught;
}

/* ---- one thread ---- */

/* 1: it has answered; 0: not by then; -ESRCH: it has ended; another negative errno. */
static int wait_for_answer(struct asking *a, const struct python_thread *thread, uint64_t until,
                           char **ret_text)
{
    uint64_t begun = fin__now(), woken = 0;
    bool pressed = false, taken = false, has_ended = false;
    int result = 0;

    while (result == 0 && !a->caught && deadline_left_ms(taken ? a->deadline : until) > 0) {
        uint64_t ms = (fin__now() - begun) / 1000000;

        taken = taken || order_taken(&a->in, thread);
        if (!taken && (!woken || ms >= woken + WAKE_MS)) {
            has_ended = order_wake(thread) == -ESRCH;
            woken = ms + 1;
        }
        if (!taken && !pressed && ms >= PRESS_MS) {
            order_press(&a->in, thread);
            pressed = true;
        }
        take_a_pause(a);
        has_ended |= taken && !interpreter_has(&a->in, thread);
        result = exchange_read(&a->x, ret_text);
        if (result == 0 && has_ended)
            result = -ESRCH;
    }
    return result;
}

/* 0: it has not begun, and shall not; -EBUSY: it has, and is not done. */
static int ask_thread(struct asking *a, const struct python_thread *thread, uint64_t until,
                      char **ret_text)
{
    int result = order_give(&a->in, thread, a->x.script);

    if (result < 0)
        return result;
    result = wait_for_answer(a, thread, until, ret_text);
    if (result != 0) {
        order_forget(&a->in, thread);
        return result;
    }
    if (order_withdraw(&a->in, thread))
        return 0;
    /* It began at the last moment: it has what is left of the time. */
    result = wait_for_answer(a, thread, a->deadline, ret_text);
    return result ? result : -EBUSY;
}

/* Whoever has ended meanwhile is no loss. */
static int ask_threads(struct asking *a, const python_threads *threads, int64_t share,
                       char **ret_text)
{
    int64_t left = deadline_left_ms(a->deadline);
    int result = 0;

    for (size_t i = 0; i < threads->count && result == 0 && left > 0 && !a->caught; i++) {
        result =
            ask_thread(a, &threads->at[i], deadline_in_ms(left < share ? left : share), ret_text);
        if (result == -ESRCH)
            result = 0;
        left = deadline_left_ms(a->deadline);
    }
    return result;
}

/* A thread that waits for a lock now may wait for events, or compute, a moment later: each round
 * chooses the thread anew, and gives it twice the time. */
static int ask_in_rounds(struct asking *a, char **ret_text)
{
    int result = 0;

    for (int64_t share = ROUND_MS; result == 0 && !a->caught && deadline_left_ms(a->deadline) > 0;
         share *= 2) {
        python_threads threads;

        result = interpreter_threads(&a->in, &threads);
        if (result == 0)
            result = ask_threads(a, &threads, share, ret_text);
        free(threads.at);
    }
    return result;
}

/* ---- what may be in the way ---- */

static long status_number(int32_t pid, const char *name)
{
    char text[4096];
    int n = read_proc(text, sizeof text, "/proc/%d/status", pid);
    const char *line = n > 0 ? strstr(text, name) : NULL;

    return line ? strtol(line + strlen(name), NULL, 10) : 0;
}

static int check_ready(int32_t pid)
{
    long tracer = status_number(pid, "\nTracerPid:");
    char text[STAT_SIZE];
    const char *state = stat_field(pid, 3, text);

    if (tracer)
        return complain("process %d is traced by process %ld already", pid, tracer);
    return state && *state == 'T' ? complain("process %d is stopped, and can't answer", pid) : 0;
}

static rlim_t count_descriptors(int32_t pid)
{
    struct fin__folder folder;
    int32_t fd;
    rlim_t count = 0;

    if (fin__fds_open(&folder, pid) < 0)
        return 0;
    while (fin__folder_next(&folder, &fd) > 0)
        count++;
    fin__folder_close(&folder);
    return count;
}

/* The process may have run out of descriptors: its limit is raised a little meanwhile. */
static bool lift_limit(int32_t pid, struct rlimit *before)
{
    struct rlimit more;

    if (prlimit(pid, RLIMIT_NOFILE, NULL, before) < 0 || before->rlim_cur == RLIM_INFINITY
        || count_descriptors(pid) + FEW <= before->rlim_cur)
        return false;
    more = *before;
    more.rlim_cur += MORE;
    if (more.rlim_cur > more.rlim_max)
        more.rlim_cur = more.rlim_max;
    return prlimit(pid, RLIMIT_NOFILE, &more, NULL) == 0;
}

static int no_answer(const struct asking *a, int result, int32_t timeout_ms)
{
    char text[STAT_SIZE];
    const char *state = stat_field(a->in.pid, 3, text);
    int32_t pid = a->in.pid;

    if (!state || *state == 'Z')
        return complain("process %d has ended", pid);
    if (result == -EPERM)
        return complain("no permission to ask process %d", pid);
    if (result == -EBUSY)
        return complain(
            "process %d began, and gave no answer within %d ms; its standard error may say "
            "why",
            pid, timeout_ms);
    if (result < 0)
        return complain("cannot ask process %d: %s", pid, strerror(-result));
    if (a->in.has_uvloop)
        return complain(
            "process %d did not answer within %d ms: an idle loop of uvloop checks for nothing "
            "else; ask while it works, or let it call finack.report_on(signal.SIGUSR1)",
            pid, timeout_ms);
    return complain(
        "process %d did not answer within %d ms: no thread of it that may have a loop runs "
        "Python code or waits in epoll_wait(2)",
        pid, timeout_ms);
}

static int no_folder(int32_t pid, int error)
{
    if (error == EACCES || error == EPERM)
        return complain(
            "no permission to write where process %d could read: it is another user's, or "
            "in another mount or user namespace; root may",
            pid);
    return complain("process %d can be given no file in /tmp, /var/tmp or /dev/shm: %s", pid,
                    strerror(error));
}

/* ---- all ---- */

static int ask_and_wait(struct asking *a, int32_t timeout_ms, char **ret_text)
{
    struct rlimit limit;
    bool lifted = lift_limit(a->in.pid, &limit);
    int result;

    a->deadline = deadline_in_ms(timeout_ms);
    result = ask_in_rounds(a, ret_text);
    if (lifted)
        (void) prlimit(a->in.pid, RLIMIT_NOFILE, &limit, NULL);
    if (a->caught)
        return EXIT_TROUBLE;
    return result == 1 ? 0 : no_answer(a, result, timeout_ms);
}

int python_ask(int32_t pid, int32_t timeout_ms, char **ret_text)
{
    struct asking a = { .caught = 0 };
    sigset_t before;
    int result = interpreter_find(&a.in, pid);

    if (!result)
        result = check_ready(pid);
    if (result)
        return result;
    block_signals(&a, &before);
    result = exchange_open(&a.x, pid);
    if (result < 0)
        result = no_folder(pid, -result);
    else
        result = ask_and_wait(&a, timeout_ms, ret_text);
    exchange_close(&a.x);
    unblock_signals(&a, &before);
    return result;
}
