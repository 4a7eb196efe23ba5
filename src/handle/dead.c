/* SPDX-License-Identifier: MIT */

#include "handle/dead.h"

#include "base/descriptor.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <unistd.h>

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static unsigned users;
static int dead = -1;

/* Non-blocking: a child forked between the two calls keeps the writing end until it executes. */
static int make(void)
{
    int ends[2];

    if (pipe2(ends, O_CLOEXEC | O_NONBLOCK) < 0)
        return -errno;
    fin__drop(&ends[1]);
    return ends[0];
}

int fin__dead_take(void)
{
    int result;

    (void) pthread_mutex_lock(&lock);
    if (users == 0)
        dead = make();
    result = dead;
    if (result >= 0)
        users++;
    (void) pthread_mutex_unlock(&lock);
    return result;
}

void fin__dead_drop(void)
{
    (void) pthread_mutex_lock(&lock);
    if (--users == 0)
        fin__drop(&dead);
    (void) pthread_mutex_unlock(&lock);
}
