/* SPDX-License-Identifier: MIT */

#include "common/destination.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

enum {
    LINKS_MAX = 40 /* as the kernel has it */
};

struct walk {
    int folder;
    char rest[PATH_MAX]; /* of the path */
    char name[NAME_MAX + 1];
    bool last;
    unsigned links;
};

/* ---- one step ---- */

static int destination_begin(struct walk *w, const char *path)
{
    int folder = open(*path == '/' ? "/" : ".", O_PATH | O_DIRECTORY | O_CLOEXEC);

    if (folder < 0)
        return -errno;
    if (w->folder >= 0)
        close(w->folder);
    w->folder = folder;
    return 0;
}

static int next_name(struct walk *w)
{
    const char *from = w->rest + strspn(w->rest, "/");
    size_t length = strcspn(from, "/");
    const char *behind = from + length;

    if (length >= sizeof w->name)
        return -ENAMETOOLONG;
    memcpy(w->name, from, length);
    w->name[length] = '\0';
    w->last = *behind == '\0';
    memmove(w->rest, behind, strlen(behind) + 1);
    return 0;
}

static bool is_trusted(uid_t uid)
{
    return uid == 0 || uid == geteuid();
}

/* Can nobody but us and root have put a link of this owner into the folder? */
static bool may_follow(const struct walk *w, const struct stat *link)
{
    struct stat folder;

    if (is_trusted(link->st_uid))
        return true;
    return fstat(w->folder, &folder) == 0 && is_trusted(folder.st_uid)
        && !(folder.st_mode & (S_IWGRP | S_IWOTH));
}

/* The path goes on with what the link says. */
static int follow(struct walk *w, int link)
{
    char target[PATH_MAX], rest[PATH_MAX];
    ssize_t n = readlinkat(link, "", target, sizeof target - 1);

    if (n < 0)
        return -errno;
    target[n] = '\0';
    if (++w->links > LINKS_MAX)
        return -ELOOP;
    if (snprintf(rest, sizeof rest, "%s%s", target, w->rest) >= (int) sizeof rest)
        return -ENAMETOOLONG;
    strcpy(w->rest, rest);
    return *target == '/' ? destination_begin(w, target) : 0;
}

/* ---- the end of the path ---- */

static mode_t usual_mode(void)
{
    mode_t mask = umask(0);

    umask(mask);
    return 0666 & ~mask;
}

static int arrive(const struct walk *w, const struct stat *found, bool magic,
                  struct destination *ret)
{
    bool regular = found && S_ISREG(found->st_mode), link = found && S_ISLNK(found->st_mode);

    if (found && S_ISDIR(found->st_mode))
        return -EISDIR;
    *ret = (struct destination) {
        .folder = w->folder,
        .special = found && !link && (!regular || magic),
        .magic = magic,
        .mode = regular && found->st_uid == geteuid() ? found->st_mode & 0777 : usual_mode(),
    };
    memcpy(ret->name, w->name, sizeof ret->name);
    return 1;
}

/* ---- the walk ---- */

/* What /proc calls a link is none that anybody could make: it leads to an open file. */
static int open_magic(const struct walk *w, int *fd, struct stat *st)
{
    struct statfs fs;
    int through;

    if (fstatfs(w->folder, &fs) < 0 || fs.f_type != PROC_SUPER_MAGIC)
        return 0;
    through = openat(w->folder, w->name, O_PATH | O_CLOEXEC);
    if (through < 0 || fstat(through, st) < 0) {
        if (through >= 0)
            close(through);
        return -errno;
    }
    close(*fd);
    *fd = through;
    return 1;
}

/* Returns 1 at the end of the path, 0 to go on. Takes over `fd`, what has the name. */
static int pass(struct walk *w, int fd, struct stat *st, struct destination *ret)
{
    int magic = S_ISLNK(st->st_mode) ? open_magic(w, &fd, st) : 0, result = magic;

    if (magic >= 0 && S_ISLNK(st->st_mode) && may_follow(w, st)) {
        result = follow(w, fd);
    } else if (magic >= 0 && w->last) {
        result = arrive(w, st, magic, ret);
    } else if (magic >= 0 && S_ISLNK(st->st_mode)) {
        result = -ELOOP;
    } else if (magic >= 0) {
        close(w->folder);
        w->folder = fd;
        return 0;
    }
    close(fd);
    return result;
}

static int destination_step(struct walk *w, struct destination *ret)
{
    struct stat st;
    int fd, result = next_name(w);

    if (result < 0)
        return result;
    if (!*w->name)
        return -EISDIR;
    fd = openat(w->folder, w->name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0)
        return errno == ENOENT && w->last ? arrive(w, NULL, false, ret) : -errno;
    if (fstat(fd, &st) < 0) {
        close(fd);
        return -EIO;
    }
    return pass(w, fd, &st, ret);
}

int destination_find(const char *path, struct destination *ret)
{
    struct walk w = { .folder = -1 };
    int result;

    if (!*path)
        return -ENOENT;
    if (strlen(path) >= sizeof w.rest)
        return -ENAMETOOLONG;
    strcpy(w.rest, path);
    result = destination_begin(&w, path);
    while (result == 0)
        result = destination_step(&w, ret);
    if (result < 0 && w.folder >= 0)
        close(w.folder);
    return result < 0 ? result : 0;
}

void destination_close(struct destination *d)
{
    close(d->folder);
    d->folder = -1;
}
