/* SPDX-License-Identifier: MIT */

#include "common/file.h"

#include "common/destination.h"
#include "common/say.h"

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
    TEMPORARY = 32,
    TRIES = 100
};

/* Who knows what is to be in it. */
struct filling {
    int (*fill)(int fd, void *arg);
    void *arg;
};

static int trouble(const char *path, int error)
{
    if (error == ELOOP)
        return complain("cannot write '%s': a symbolic link on the way is another user's, and is "
                        "not followed, or there are too many",
                        path);
    return complain("cannot write '%s': %s", path, strerror(error));
}

int file_check(const char *path)
{
    struct destination d;
    int result = destination_find(path, &d);

    if (result < 0)
        return trouble(path, -result);
    if (faccessat(d.folder, d.special ? d.name : ".", W_OK, AT_EACCESS) < 0)
        result = -errno;
    destination_close(&d);
    return result < 0 ? trouble(path, -result) : EXIT_FINE;
}

/* What is there may have been swapped for a file since it was looked at. */
static int open_special(const struct destination *d)
{
    int fd = openat(d->folder, d->name,
                    O_WRONLY | O_APPEND | O_CLOEXEC | O_NOCTTY | (d->magic ? 0 : O_NOFOLLOW));
    struct stat st;

    if (fd < 0)
        return -errno;
    if (d->magic || (fstat(fd, &st) == 0 && !S_ISREG(st.st_mode)))
        return fd;
    close(fd);
    return -ELOOP;
}

static int write_special(const struct destination *d, const struct filling *f)
{
    int fd = open_special(d), result;

    if (fd < 0)
        return fd;
    result = f->fill(fd, f->arg);
    if (close(fd) < 0 && result == 0)
        result = -errno;
    return result;
}

static int create_temporary(const struct destination *d, char name[TEMPORARY])
{
    int fd = -EEXIST;

    for (int i = 0; fd == -EEXIST && i < TRIES; i++) {
        uint64_t number;

        if (getrandom(&number, sizeof number, 0) != sizeof number)
            return -EIO;
        snprintf(name, TEMPORARY, ".finack-%016llx", (unsigned long long) number);
        fd = openat(d->folder, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
        if (fd < 0)
            fd = -errno;
    }
    return fd;
}

/* Some file systems tell of a full disk only here. */
static int complete(int fd, mode_t mode)
{
    if (fchmod(fd, mode) < 0 || fsync(fd) < 0)
        return -errno;
    return 0;
}

static int file_replace(const struct destination *d, const struct filling *f)
{
    char name[TEMPORARY];
    int fd = create_temporary(d, name), result;

    if (fd < 0)
        return fd;
    result = f->fill(fd, f->arg);
    if (result == 0)
        result = complete(fd, d->mode);
    if (close(fd) < 0 && result == 0)
        result = -errno;
    if (result == 0 && renameat(d->folder, name, d->folder, d->name) < 0)
        result = -errno;
    if (result < 0)
        unlinkat(d->folder, name, 0);
    return result;
}

int file_fill(const char *path, int (*fill)(int fd, void *arg), void *arg)
{
    const struct filling filling = { fill, arg };
    struct destination d;
    int result = destination_find(path, &d);

    if (result < 0)
        return trouble(path, -result);
    result = d.special ? write_special(&d, &filling) : file_replace(&d, &filling);
    destination_close(&d);
    return result < 0 ? trouble(path, -result) : EXIT_FINE;
}

struct written {
    const char *text;
    size_t size;
};

static int write_text(int fd, void *arg)
{
    const struct written *w = arg;

    return write_all(fd, w->text, w->size);
}

int file_write(const char *path, const char *text, size_t size)
{
    return file_fill(path, write_text, &(struct written) { text, size });
}

char *file_read(int fd, size_t size, size_t *ret)
{
    char *text = malloc(size + 1);
    size_t used = 0;

    while (text && used < size) {
        ssize_t n = read(fd, text + used, size - used);

        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            break;
        used += (size_t) n;
    }
    if (text)
        text[used] = '\0';
    *ret = used;
    return text;
}
