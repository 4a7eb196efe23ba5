/* SPDX-License-Identifier: MIT */

#include "common/terminal.h"

#include <langinfo.h>
#include <locale.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

bool terminal_moves(int fd)
{
    const char *kind = getenv("TERM");

    return isatty(fd) && kind && *kind && strcmp(kind, "dumb") != 0;
}

bool terminal_colors(int fd)
{
    const char *none = getenv("NO_COLOR"); /* no-color.org: any text but an empty one */

    return terminal_moves(fd) && !(none && *none);
}

/* Without setlocale(3): the rest of the program stays in the C locale. */
static bool is_utf8(void)
{
    locale_t locale = newlocale(LC_CTYPE_MASK, "", (locale_t) 0);
    bool result;

    if (locale == (locale_t) 0)
        return false;
    result = strcmp(nl_langinfo_l(CODESET, locale), "UTF-8") == 0;
    freelocale(locale);
    return result;
}

bool terminal_draws(int fd)
{
    return terminal_colors(fd) && is_utf8();
}

struct screen_size screen_size(int fd)
{
    struct winsize size;

    if (ioctl(fd, TIOCGWINSZ, &size) < 0)
        return (struct screen_size) { 0, 0 };
    return (struct screen_size) { size.ws_col, size.ws_row };
}

int terminal_width(int fd)
{
    size_t columns = screen_size(fd).columns;

    return columns ? (int) columns : 80;
}
