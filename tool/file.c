/* SPDX-License-Identifier: MIT */

#include "file.h"

#include "say.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* Where the bytes go. */
struct place {
    char path[PATH_MAX]; /* with no symbolic link at its end */
    char folder[PATH_MAX];
    bool special; /* a device or FIFO: renaming over it would replace it */
    mode_t mode;
};

static int trouble(const char *path, int error)
{
    return complain("cannot write '%s': %s", path, strerror(error));
}

static mode_t usual_mode(void)
{
    mode_t mask = umask(0);

    umask(mask);
    return 0666 & ~mask;
}

/* A link to a file that is not there yet is not followed, but replaced. */
static int find(const char *path, struct place *ret)
{
    char copy[PATH_MAX];
    struct stat st;
    bool exists = stat(path, &st) == 0;

    ret->special = exists && !S_ISREG(st.st_mode);
    if (strlen(path) >= sizeof copy)
        return -ENAMETOOLONG;
    if (exists && S_ISDIR(st.st_mode))
        return -EISDIR;
    if (!exists && errno != ENOENT)
        return -errno;
    if (!exists || !realpath(path, ret->path))
        strcpy(ret->path, path);
    strcpy(copy, ret->path);
    strcpy(ret->folder, dirname(copy));
    ret->mode = exists ? st.st_mode & 0777 : usual_mode();
    return 0;
}

int file_check(const char *path)
{
    struct place place = { 0 };
    int result = find(path, &place);

    if (result < 0)
        return trouble(path, -result);
    if (faccessat(AT_FDCWD, place.special ? place.path : place.folder, W_OK, AT_EACCESS) < 0)
        return trouble(path, errno);
    return EXIT_FINE;
}

static int write_special(const char *path, const char *text, size_t size)
{
    int fd = open(path, O_WRONLY | O_CLOEXEC | O_NOCTTY);
    int result;

    if (fd < 0)
        return -errno;
    result = write_all(fd, text, size);
    if (close(fd) < 0 && result == 0)
        result = -errno;
    return result;
}

/* Some file systems tell of a full disk only here. */
static int complete(int fd, mode_t mode)
{
    if (fchmod(fd, mode) < 0 || fsync(fd) < 0)
        return -errno;
    return 0;
}

static int replace(const struct place *place, const char *text, size_t size)
{
    char name[PATH_MAX + 16];
    int fd, result;

    snprintf(name, sizeof name, "%s/.finack-XXXXXX", place->folder);
    fd = mkostemp(name, O_CLOEXEC);
    if (fd < 0)
        return -errno;
    result = write_all(fd, text, size);
    if (result == 0)
        result = complete(fd, place->mode);
    if (close(fd) < 0 && result == 0)
        result = -errno;
    if (result == 0 && rename(name, place->path) < 0)
        result = -errno;
    if (result < 0)
        unlink(name);
    return result;
}

int file_write(const char *path, const char *text, size_t size)
{
    struct place place = { 0 };
    int result = find(path, &place);

    if (result == 0 && place.special)
        result = write_special(place.path, text, size);
    else if (result == 0)
        result = replace(&place, text, size);
    return result < 0 ? trouble(path, -result) : EXIT_FINE;
}
