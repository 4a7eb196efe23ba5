/* SPDX-License-Identifier: MIT */

#include "common/screen.h"

#include <sys/ioctl.h>
#include <unistd.h>

struct screen_size screen_size(void)
{
    struct winsize size;

    if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) < 0)
        return (struct screen_size) { 0, 0 };
    return (struct screen_size) { size.ws_col, size.ws_row };
}
