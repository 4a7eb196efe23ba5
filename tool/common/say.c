/* SPDX-License-Identifier: MIT */

#include "common/say.h"

#include "base/errors.h"

#include <errno.h>
#include <finack.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static const char *speaker;

void speak_as(const char *command)
{
    speaker = command;
}

const char *speaks_as(void)
{
    return speaker;
}

void escape(const char *text, char *buf, size_t size)
{
    size_t used = 0;

    for (; *text && used + 5 <= size; text++) {
        unsigned char c = (unsigned char) *text;

        if (c >= ' ' && c < 0x7f)
            buf[used++] = (char) c;
        else
            used += (size_t) snprintf(buf + used, 5, "\\x%02x", c);
    }
    buf[used] = '\0';
}

int complain(const char *format, ...)
{
    char raw[1024], line[2048];
    va_list args;

    va_start(args, format);
    vsnprintf(raw, sizeof raw, format, args);
    va_end(args);
    escape(raw, line, sizeof line);
    fprintf(stderr, "finack%s%s: %s\n", speaker ? " " : "", speaker ? speaker : "", line);
    return EXIT_TROUBLE;
}

/* O_NONBLOCK is the description's: whoever shares our output may have set it. */
int write_all(int fd, const char *text, size_t size)
{
    while (size > 0) {
        ssize_t n = write(fd, text, size);

        if (n < 0 && errno == EAGAIN) {
            (void) poll(&(struct pollfd) { .fd = fd, .events = POLLOUT }, 1, -1);
            continue;
        }
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -errno;
        text += n;
        size -= (size_t) n;
    }
    return 0;
}

int put_out(const char *text, size_t size)
{
    return put_status(write_all(STDOUT_FILENO, text, size));
}

int put_status(int result)
{
    if (result == 0 || result == -EPIPE)
        return EXIT_FINE;
    return complain("cannot write the output: %s", strerror(-result));
}

int put_version(void)
{
    char line[64];
    int n = snprintf(line, sizeof line, "finack %s\n", fin_version());

    return put_out(line, (size_t) n);
}

const char *error_name(int error)
{
    const char *name = error ? fin__error_name(error < 0 ? -error : error) : NULL;

    return name || !error ? name : "unknown";
}

bool ask(const char *question)
{
    char answer[16];

    if (!isatty(STDIN_FILENO) || !isatty(STDERR_FILENO)) {
        complain("there is no terminal to ask on; use --yes");
        return false;
    }
    (void) write_all(STDERR_FILENO, question, strlen(question));
    (void) write_all(STDERR_FILENO, " [y/N] ", 7);
    return fgets(answer, sizeof answer, stdin) && (*answer == 'y' || *answer == 'Y');
}
