/* SPDX-License-Identifier: MIT */

#include "keeper.h"

#include "support.h"

#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <unistd.h>

static void keep(int line, bool (*begin)(void *arg), void *arg)
{
    char byte = 0;

    (void) prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (begin && !begin(arg))
        _exit(1);
    if (write(line, "+", 1) != 1 || read(line, &byte, 1) != 1)
        _exit(1);
    _exit(0);
}

void keeper_start(struct keeper *k, bool (*begin)(void *arg), void *arg)
{
    int line[2];

    unix_pair(SOCK_STREAM, line);
    k->pid = fork();
    assert_true(k->pid >= 0);
    if (k->pid == 0)
        keep(line[THEM], begin, arg);
    drop_all(line[THEM], -1);
    k->line = line[US];
    expect_text(k->line, "+");
}

void keeper_stop(struct keeper *k)
{
    give(k->line, "-");
    child_join(k->pid);
    drop_all(k->line, -1);
}

/* A thread that runs has "running" there instead of a number. */
void await_call(pid_t tid, long number)
{
    char path[64], text[64];
    ssize_t n;
    int fd;

    (void) snprintf(path, sizeof path, "/proc/self/task/%d/syscall", tid);
    do {
        (void) sched_yield();
        fd = open(path, O_RDONLY | O_CLOEXEC);
        assert_true(fd >= 0);
        n = read(fd, text, sizeof text - 1);
        drop_all(fd, -1);
        text[n > 0 ? n : 0] = '\0';
    } while (strtol(text, NULL, 10) != number || text[0] < '0' || text[0] > '9');
}
