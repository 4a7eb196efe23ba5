/* SPDX-License-Identifier: MIT */

#include "handle/clear.h"

#include "base/clock.h"
#include "base/descriptor.h"

/* This loop ends at `until`: a pause is over by then. */
void fin__clear_out(const struct fin__clear *clear, void *arg, uint64_t until)
{
    clear->wake(arg);
    while (clear->awaited(arg) && fin__now() < until)
        clear->pause(arg, &until);
}

static int entomb(int dead, int fd)
{
    return dead < 0 ? dead : fin__entomb(dead, fd);
}

int fin__clear_and_release(const struct fin__clear *clear, void *arg, int fd, uint64_t until)
{
    bool inside;
    int result;

    fin__clear_out(clear, arg, until);
    inside = clear->lock(arg);
    result = inside ? entomb(clear->dead(arg), fd) : fin__release(fd);
    clear->unlock(arg, inside);
    return result;
}
