/* SPDX-License-Identifier: MIT */

#include "spawn.h"

#include "support.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

__attribute__((noreturn)) static void become(char *const argv[], int in, int out, int keep)
{
    prctl(PR_SET_PDEATHSIG, SIGTERM); /* a failed test leaves it to us */
    dup2(in, STDIN_FILENO);
    dup2(out, STDOUT_FILENO);
    dup2(out, STDERR_FILENO);
    if (keep >= 0)
        fcntl(keep, F_SETFD, 0);
    execvp(argv[0], argv);
    _exit(127);
}

void program_start(struct program *p, char *const argv[], int keep)
{
    int in[2], out[2];

    assert_int_equal(pipe2(in, O_CLOEXEC), 0);
    assert_int_equal(pipe2(out, O_CLOEXEC), 0);
    p->pid = fork();
    assert_true(p->pid >= 0);
    if (p->pid == 0)
        become(argv, in[0], out[1], keep);
    drop_all(in[0], out[1], -1);
    p->input = in[1];
    p->output = out[0];
}

static bool read_line(int fd, char *line, size_t size)
{
    size_t used = 0;
    struct pollfd pfd = { .fd = fd, .events = POLLIN };

    while (used + 1 < size) {
        assert_true(poll(&pfd, 1, GUARD_S * 1000) > 0);
        if (read(fd, line + used, 1) <= 0)
            return false;
        if (line[used] == '\n')
            break;
        used++;
    }
    line[used] = '\0';
    return true;
}

void program_await_line(struct program *p, const char *begin, char *line, size_t size)
{
    do
        if (!read_line(p->output, line, size))
            fail_msg("the program ended without a line '%s...'", begin);
    while (strncmp(line, begin, strlen(begin)) != 0);
}

static int reap(pid_t pid)
{
    int status;

    while (waitpid(pid, &status, 0) < 0)
        assert_int_equal(errno, EINTR);
    return status;
}

void program_stop(struct program *p)
{
    kill(p->pid, SIGTERM);
    reap(p->pid);
    drop_all(p->input, p->output, -1);
}

bool program_run(char *const argv[])
{
    struct program p;
    char scratch[4096];
    int status;

    program_start(&p, argv, -1);
    while (read(p.output, scratch, sizeof scratch) > 0)
        ;
    status = reap(p.pid);
    drop_all(p.input, p.output, -1);
    return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}
