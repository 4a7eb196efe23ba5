/* SPDX-License-Identifier: MIT */

#include "handle/dead.h"

#include "base/descriptor.h"
#include "base/fork.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

static struct fin__lock lock;
static unsigned users;
static int dead = -1;

/* Non-blocking: a child forked between the two calls keeps the writing end until it executes. */
static int dead_make(void)
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

    (void) fin__lock_take(&lock);
    if (users == 0)
        dead = dead_make();
    result = dead;
    if (result >= 0)
        users++;
    fin__lock_give(&lock);
    return result;
}

void fin__dead_drop(void)
{
    (void) fin__lock_take(&lock);
    if (users > 0 && --users == 0) /* none if we are a child that was forked in here */
        fin__drop(&dead);
    fin__lock_give(&lock);
}
