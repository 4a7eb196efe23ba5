/* SPDX-License-Identifier: MIT */

/* System calls of the library that fail on request, or keep answering the same. The linker leads
 * each call of the library (--wrap, see meson.build) to a function here. Only the thread that armed
 * a fault meets it. */

#ifndef FAULTS_H
#define FAULTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <time.h>

struct fault {
    const char *call; /* "recv"; "openat+access": both */
    int error;        /* errno that it gives */
    int from;         /* the number of the first call that fails, from 1 */
    bool lasting;     /* all later ones fail too */
    int result;       /* with error 0: what the call answers instead of being made */
    int slow_ms;      /* not 0: it takes this long each time; without `result` it fails nothing */
    short events;     /* with result 1: what poll(2) and epoll_wait(2) say there is */
};

/* What a call can fail with; ends with 0. */
struct call {
    const char *name;
    int errors[6];
};

extern const struct call calls[];
extern const int calls_count;

/* What a call may keep answering, for ever. */
extern const struct fault lasting_answers[];
extern const size_t lasting_count;

void fault_arm(const struct fault *fault);

/* Returns how many calls failed. */
int fault_disarm(void);

/* How often close(2) was called since the fault was armed for `fd` while it was `inode`: the number
 * may be taken again by what the library opens. */
int closes_of(int fd, uint64_t inode);

/* How often it was called for a number that was not open. */
int stray_closes(void);

/* Has a close that was begun then taken so long that it must have been in a loop without end? */
bool is_late(const struct timespec *since);

#endif
