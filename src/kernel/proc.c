/* SPDX-License-Identifier: MIT */

#include "kernel/proc.h"

#include "base/descriptor.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/kcmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <unistd.h>

/* With more descriptors than this, a process is looked at after all others: a link takes 1 us to
 * read, and a search may be cut short. */
#define LARGE_TABLE 1024

#define PATH_SIZE 48

/* ---- folders ---- */

int fin__folder_open(struct fin__folder *folder, int parent, const char *path)
{
    folder->at = folder->end = 0;
    folder->fd = openat(parent, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    return folder->fd < 0 ? -errno : 0;
}

void fin__folder_close(struct fin__folder *folder)
{
    fin__drop(&folder->fd);
}

static bool parse_number(const char *name, int32_t *number)
{
    char *end;
    unsigned long value;

    if (*name < '0' || *name > '9')
        return false;
    value = strtoul(name, &end, 10);
    if (*end || value > INT_MAX)
        return false;
    *number = (int32_t) value;
    return true;
}

int fin__folder_next(struct fin__folder *folder, int32_t *number)
{
    const struct dirent64 *found;
    ssize_t n;

    for (;;) {
        if (folder->at == folder->end) {
            n = getdents64(folder->fd, folder->buf, sizeof folder->buf);
            if (n <= 0)
                return n < 0 ? -errno : 0;
            folder->at = 0;
            folder->end = (unsigned) n;
        }
        found = (const struct dirent64 *) (const void *) (folder->buf + folder->at);
        folder->at += found->d_reclen;
        if (parse_number(found->d_name, number))
            return 1;
    }
}

/* ---- descriptors ---- */

static void name_of(int32_t number, char name[PATH_SIZE])
{
    (void) snprintf(name, PATH_SIZE, "%d", number);
}

static bool parse_inode(const char *text, const char *prefix, uint64_t *inode)
{
    size_t length = strlen(prefix);
    uint64_t value;
    char *end;

    if (strncmp(text, prefix, length) != 0)
        return false;
    value = strtoull(text + length, &end, 10);
    if (end == text + length || strcmp(end, "]") != 0)
        return false;
    *inode = value;
    return true;
}

int fin__link_read(const struct fin__folder *fds, int32_t number, struct fin__link *link)
{
    char name[PATH_SIZE], text[64];
    ssize_t n;

    name_of(number, name);
    n = readlinkat(fds->fd, name, text, sizeof text - 1);
    if (n < 0)
        return -errno;
    text[n] = '\0';
    link->inode = 0;
    if (parse_inode(text, "socket:[", &link->inode))
        link->kind = FIN__LINK_SOCKET;
    else if (parse_inode(text, "pipe:[", &link->inode))
        link->kind = FIN__LINK_PIPE;
    else if (strcmp(text, "anon_inode:[eventpoll]") == 0)
        link->kind = FIN__LINK_EPOLL;
    else
        link->kind = FIN__LINK_OTHER;
    return 0;
}

int fin__object_read(const struct fin__folder *fds, int32_t number, struct fin__object *object)
{
    char name[PATH_SIZE];
    struct statx st;

    name_of(number, name);
    /* DONT_SYNC: the descriptor may be a file of a network that is down. */
    if (statx(fds->fd, name, AT_STATX_DONT_SYNC, STATX_INO | STATX_TYPE, &st) < 0)
        return -errno;
    object->inode = st.stx_ino;
    object->device = makedev(st.stx_dev_major, st.stx_dev_minor);
    object->mode = st.stx_mode;
    return 0;
}

void fin__command_read(const struct fin__folder *fds, char command[16])
{
    char buf[64];
    int fd = openat(fds->fd, "../comm", O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? 0 : read(fd, buf, sizeof buf);

    fin__drop(&fd);
    if (n > 0 && buf[n - 1] == '\n')
        n--;
    if (n > 15)
        n = 15;
    memset(command, 0, 16);
    if (n > 0)
        memcpy(command, buf, (size_t) n);
}

/* ---- tables ---- */

static bool is_lack(int result)
{
    return result == -EMFILE || result == -ENFILE || result == -ENOMEM;
}

static bool is_denial(int result)
{
    return result == -EACCES || result == -EPERM;
}

int fin__fds_open(struct fin__folder *fds, int32_t pid)
{
    char path[PATH_SIZE];
    int result;

    (void) snprintf(path, sizeof path, pid ? "/proc/%d/fd" : "/proc/thread-self/fd", pid);
    result = fin__folder_open(fds, AT_FDCWD, path);
    if (result == 0 || is_lack(result))
        return result;
    if (is_denial(result))
        return -EACCES;
    return access("/proc/self", F_OK) < 0 ? -ENOENT : -ESRCH;
}

struct walk {
    struct fin__folder proc;
    fin__table_fn visit;
    void *arg;
    uint32_t unreadable; /* processes */
    bool denied;         /* something of the process at hand */
};

/* Passes on what ends the walk: a stop, or a lack of what it needs. */
static int visit_table(struct walk *walk, const char *path, int32_t pid)
{
    struct fin__folder fds;
    int result = fin__folder_open(&fds, walk->proc.fd, path);

    if (result == 0) {
        result = walk->visit(&fds, pid, walk->arg);
        fin__folder_close(&fds);
    }
    if (is_denial(result))
        walk->denied = true;
    return result > 0 || is_lack(result) ? result : 0;
}

static bool shares_table(int32_t a, int32_t b)
{
    /* What can't be compared counts as the same: nearly always it is. */
    return syscall(SYS_kcmp, a, b, KCMP_FILES, 0ul, 0ul) <= 0;
}

bool fin__tables_add(struct fin__tables *tables, int32_t thread)
{
    for (unsigned i = 0; i < tables->count; i++) {
        if (shares_table(tables->owner[i], thread))
            return false;
    }
    if (tables->count == FIN__TABLES_MAX)
        return false;
    tables->owner[tables->count++] = thread;
    return true;
}

/* Threads with a table of their own (unshare(CLONE_FILES)), or a main thread that has ended. */
static int visit_threads(struct walk *walk, int32_t pid)
{
    struct fin__tables tables = { { pid }, 1 };
    struct fin__folder tasks;
    char path[PATH_SIZE];
    int32_t thread = 0;
    int result;

    (void) snprintf(path, sizeof path, "%d/task", pid);
    result = fin__folder_open(&tasks, walk->proc.fd, path);
    if (result < 0)
        return is_lack(result) ? result : 0;
    while (result == 0 && fin__folder_next(&tasks, &thread) > 0) {
        if (thread == pid || !fin__tables_add(&tables, thread))
            continue;
        (void) snprintf(path, sizeof path, "%d/task/%d/fd", pid, thread);
        result = visit_table(walk, path, thread);
    }
    fin__folder_close(&tasks);
    return result;
}

/* The link count of .../task is that of any folder, 2, and one for each thread. */
static bool has_threads(const struct walk *walk, int32_t pid)
{
    char path[PATH_SIZE];
    struct stat st;

    (void) snprintf(path, sizeof path, "%d/task", pid);
    return fstatat(walk->proc.fd, path, &st, 0) == 0 && st.st_nlink > 3;
}

static int visit_process(struct walk *walk, int32_t pid)
{
    char path[PATH_SIZE];
    int result;

    walk->denied = false;
    (void) snprintf(path, sizeof path, "%d/fd", pid);
    result = visit_table(walk, path, pid);
    if (result == 0 && !walk->denied && has_threads(walk, pid))
        result = visit_threads(walk, pid);
    return result;
}

/* The size of .../fd is the number of open descriptors; before Linux 6.2 it is 0. */
static bool is_large(const struct walk *walk, int32_t pid)
{
    char path[PATH_SIZE];
    struct stat st;

    (void) snprintf(path, sizeof path, "%d/fd", pid);
    return fstatat(walk->proc.fd, path, &st, 0) == 0 && st.st_size > LARGE_TABLE;
}

/* Visits the processes `first` to `last`. */
static int walk_range(struct walk *walk, bool large, int32_t first, int32_t last)
{
    int32_t pid = 0;
    int result = fin__folder_open(&walk->proc, AT_FDCWD, "/proc");

    if (result < 0)
        return result;
    while ((result = fin__folder_next(&walk->proc, &pid)) > 0) {
        if (pid < first || pid > last || is_large(walk, pid) != large)
            continue;
        result = visit_process(walk, pid);
        walk->unreadable += walk->denied;
        if (result != 0)
            break;
    }
    fin__folder_close(&walk->proc);
    return result;
}

/* Those after us, among whom our children mostly are, then ourselves, then the others. */
static int walk_all(struct walk *walk, bool large)
{
    int32_t self = getpid();
    int result = walk_range(walk, large, self + 1, INT32_MAX);

    if (result == 0)
        result = walk_range(walk, large, self, self);
    if (result == 0)
        result = walk_range(walk, large, 0, self - 1);
    return result;
}

int fin__proc_walk(fin__table_fn visit, void *arg, uint32_t *unreadable)
{
    struct walk walk = { .visit = visit, .arg = arg };
    int result = walk_all(&walk, false);

    if (result == 0)
        result = walk_all(&walk, true);
    *unreadable += walk.unreadable;
    if (result == 0 && access("/proc/self", F_OK) < 0)
        return -ENOENT; /* the empty folder that /proc is mounted on */
    return result > 0 ? 0 : result;
}
