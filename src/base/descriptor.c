/* SPDX-License-Identifier: MIT */

#include "base/descriptor.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

int fin__release(int fd)
{
    return close(fd) < 0 ? -errno : 0;
}

int fin__entomb(int tombstone, int fd)
{
    return dup3(tombstone, fd, O_CLOEXEC) < 0 ? -errno : 0;
}

void fin__drop(int *fd)
{
    int saved = errno;

    if (*fd >= 0)
        (void) fin__release(*fd);
    *fd = -1;
    errno = saved;
}
