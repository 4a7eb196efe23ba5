/* SPDX-License-Identifier: MIT */

#include "trial.h"

#include "rules.h"

#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define TRIALS_MAX 64

static void judge(const struct scene *scene, uint64_t host, int pipe)
{
    struct verdict verdict = { .outcome = -1, .phase = -1 };
    struct play p;
    const char *rule;

    play(&p, scene, host);
    rule = rules_broken(&p, &verdict.clock);
    if (p.completed && p.result == 0) {
        verdict.outcome = p.receipt.outcome;
        verdict.phase = p.receipt.phase;
    }
    (void) snprintf(verdict.rule, sizeof verdict.rule, "%s", rule ? rule : "");
    (void) rules_describe(&p, verdict.text, sizeof verdict.text);
    _exit(write(pipe, &verdict, sizeof verdict) != (ssize_t) sizeof verdict);
}

void trial_begin(struct trial *trial, uint64_t host)
{
    int fds[2];

    must(pipe(fds) == 0, "pipe");
    trial->since = view_clock();
    trial->pid = fork_mortal();
    if (trial->pid == 0) {
        (void) close(fds[0]);
        judge(&trial->scene, host, fds[1]);
    }
    (void) close(fds[1]);
    trial->pipe = fds[0];
}

static void say(struct verdict *verdict, const char *rule, int status)
{
    memset(verdict, 0, sizeof *verdict);
    verdict->outcome = verdict->phase = -1;
    (void) snprintf(verdict->rule, sizeof verdict->rule, "%s", rule);
    (void) snprintf(verdict->text, sizeof verdict->text, "  wait status %#x\n", (unsigned) status);
}

void trial_end(struct trial *trial, struct verdict *verdict)
{
    int status = 0;
    struct pollfd entry = { trial->pipe, POLLIN, 0 };
    bool hangs = poll(&entry, 1, 0) == 0;
    ssize_t n = 0;

    if (hangs)
        (void) kill(trial->pid, SIGKILL);
    else
        n = read(trial->pipe, verdict, sizeof *verdict);
    (void) waitpid(trial->pid, &status, 0);
    (void) close(trial->pipe);
    trial->pid = 0;
    if (hangs)
        say(verdict, "hangs", status);
    else if (WIFEXITED(status) && WEXITSTATUS(status) == 99)
        say(verdict, "not-played", status);
    else if (n != (ssize_t) sizeof *verdict || status != 0)
        say(verdict, "crashed", status);
}

bool trial_has_ended(const struct trial *trial)
{
    struct pollfd entry = { trial->pipe, POLLIN, 0 };

    return trial->pid && (poll(&entry, 1, 0) > 0 || view_clock() - trial->since >= TRIAL_BOUND_NS);
}

void trial_await(const struct trial *trials, int count)
{
    struct pollfd entries[TRIALS_MAX];

    for (int i = 0; i < count; i++)
        entries[i] = (struct pollfd) { trials[i].pid ? trials[i].pipe : -1, POLLIN, 0 };
    (void) poll(entries, (nfds_t) count, 100);
}
