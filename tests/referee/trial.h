/* SPDX-License-Identifier: MIT */

/* A scene played in a process of its own, which may hang or crash, and what became of it. */

#ifndef TRIAL_H
#define TRIAL_H

#include "scene.h"

#include <sys/types.h>

#define TRIAL_BOUND_NS 8000000000 /* a scene that takes longer hangs */

struct trial {
    pid_t pid; /* 0: none goes on */
    int pipe;  /* readable once it has ended by itself */
    uint64_t index, since;
    struct scene scene;
};

struct verdict {
    char rule[40]; /* that is broken, or "" */
    bool clock;
    int outcome, phase; /* of the receipt, or -1 */
    char text[1800];
};

/* `host` tells apart the addresses of trials that go on at the same time. */
void trial_begin(struct trial *trial, uint64_t host);
bool trial_has_ended(const struct trial *trial);
void trial_end(struct trial *trial, struct verdict *verdict);

/* Waits until one of them has ended, but not for long. */
void trial_await(const struct trial *trials, int count);

#endif
