/* SPDX-License-Identifier: MIT */

#include "common/progress.h"

#include "common/terminal.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

enum {
    FIRST_MS = 1000,
    NEXT_MS = 200
};

static struct {
    pthread_t thread;
    pthread_mutex_t lock; /* for: */
    pthread_cond_t stopping;
    bool stop;
    bool running;
    atomic_size_t done;
    size_t total;
    const char *what;
} progress = { .lock = PTHREAD_MUTEX_INITIALIZER };

static struct timespec in_ms(long ms)
{
    struct timespec at;

    clock_gettime(CLOCK_MONOTONIC, &at);
    at.tv_nsec += ms % 1000 * 1000000;
    at.tv_sec += ms / 1000 + at.tv_nsec / 1000000000;
    at.tv_nsec %= 1000000000;
    return at;
}

static void draw(void)
{
    char line[160];
    int n = snprintf(line, sizeof line, "%zu of %zu %s", atomic_load(&progress.done),
                     progress.total, progress.what);
    int width = terminal_width(STDERR_FILENO) - 1;

    /* A line that wraps can't be removed. */
    dprintf(STDERR_FILENO, "\r%.*s\x1b[K", n < width ? n : width, line);
}

static void *show(void *arg)
{
    long wait_ms = FIRST_MS;
    bool drawn = false;

    (void) arg;
    pthread_mutex_lock(&progress.lock);
    while (!progress.stop) {
        struct timespec until = in_ms(wait_ms);

        if (pthread_cond_timedwait(&progress.stopping, &progress.lock, &until) == 0)
            continue;
        draw();
        drawn = true;
        wait_ms = NEXT_MS;
    }
    pthread_mutex_unlock(&progress.lock);
    if (drawn)
        dprintf(STDERR_FILENO, "\r\x1b[K");
    return NULL;
}

void progress_begin(size_t total, const char *what)
{
    pthread_condattr_t attributes;

    atomic_store(&progress.done, 0);
    progress.total = total;
    progress.what = what;
    progress.stop = false;
    if (!terminal_moves(STDERR_FILENO))
        return;
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&progress.stopping, &attributes);
    pthread_condattr_destroy(&attributes);
    progress.running = pthread_create(&progress.thread, NULL, show, NULL) == 0;
}

void progress_step(void)
{
    atomic_fetch_add(&progress.done, 1);
}

void progress_end(void)
{
    if (!progress.running)
        return;
    pthread_mutex_lock(&progress.lock);
    progress.stop = true;
    pthread_cond_signal(&progress.stopping);
    pthread_mutex_unlock(&progress.lock);
    pthread_join(progress.thread, NULL);
    pthread_cond_destroy(&progress.stopping);
    progress.running = false;
}
