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
    if (dup3(tombstone, fd, O_CLOEXEC) >= 0)
        return 0;
    /* Also of a number that RLIMIT_NOFILE does not allow any more. */
    return errno == EBADF && fcntl(tombstone, F_GETFD) >= 0 ? -EMFILE : -errno;
}

void fin__drop(int *fd)
{
    int saved = errno;

    if (*fd >= 0)
        (void) fin__release(*fd);
    *fd = -1;
    errno = saved;
}
