/* SPDX-License-Identifier: MIT */

#include "kernel/proc.h"

#include "base/clock.h"
#include "base/descriptor.h"
#include "base/errors.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/capability.h>
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

/* A process could make threads as fast as they are read: they are listed in the order in which
 * they were made. */
#define THREADS_MAX (1 << 16)

#define PATH_SIZE 48

/* glibc has gettid(2) since 2.30. */
int32_t fin__own_thread(void)
{
    return (int32_t) syscall(SYS_gettid);
}

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

/* As the kernel writes it: the C libraries have getdents64(2) and its structure under different
 * names, or not at all. */
struct entry {
    uint64_t inode;
    int64_t offset;
    uint16_t length;
    uint8_t type;
    char name[];
};

/* An answer has no end of entries only if one had no length, which none has (getdents64(2)). */
int fin__folder_next(struct fin__folder *folder, int32_t *number)
{
    const struct entry *found;
    long n;

    for (;;) {
        if (folder->at == folder->end) {
            n = syscall(SYS_getdents64, folder->fd, folder->buf, sizeof folder->buf);
            if (n <= 0)
                return n < 0 ? -errno : 0;
            folder->at = 0;
            folder->end = (unsigned) n;
        }
        found = (const struct entry *) (const void *) (folder->buf + folder->at);
        folder->at += found->length;
        if (parse_number(found->name, number))
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

void fin__link_parse(const char *text, struct fin__link *link)
{
    link->inode = 0;
    if (parse_inode(text, "socket:[", &link->inode))
        link->kind = FIN__LINK_SOCKET;
    else if (parse_inode(text, "pipe:[", &link->inode))
        link->kind = FIN__LINK_PIPE;
    else if (strcmp(text, "anon_inode:[eventpoll]") == 0)
        link->kind = FIN__LINK_EPOLL;
    else
        link->kind = FIN__LINK_OTHER;
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
    fin__link_parse(text, link);
    return 0;
}

int fin__object_read(const struct fin__folder *fds, int32_t number, struct fin__object *object)
{
    char name[PATH_SIZE];
    struct statx st;

    name_of(number, name);
    /* DONT_SYNC: the descriptor may be a file of a network that is down. Not every musl has
     * statx(). */
    if (syscall(SYS_statx, fds->fd, name, AT_STATX_DONT_SYNC, STATX_INO | STATX_TYPE, &st) < 0)
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
    if (result == 0 || fin__is_lack(result))
        return result;
    if (is_denial(result))
        return -EACCES;
    return access("/proc/self", F_OK) < 0 ? -ENOENT : -ESRCH;
}

struct walk {
    int proc;
    fin__table_fn visit;
    void *arg;
    uint64_t until;      /* of fin__now(), UINT64_MAX: for ever */
    uint32_t unreadable; /* processes */
    bool denied;         /* something of the process at hand */
};

static bool is_over(const struct walk *walk)
{
    return walk->until != UINT64_MAX && fin__now() >= walk->until;
}

/* Passes on what ends the walk: a stop, or a lack of what it needs. */
static int visit_table(struct walk *walk, const char *path, int32_t pid)
{
    struct fin__folder fds;
    int result = fin__folder_open(&fds, walk->proc, path);

    if (result == 0) {
        result = walk->visit(&fds, pid, walk->arg);
        fin__folder_close(&fds);
    }
    if (is_denial(result))
        walk->denied = true;
    return result > 0 || fin__is_lack(result) ? result : 0;
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
    result = fin__folder_open(&tasks, walk->proc, path);
    if (result < 0)
        return fin__is_lack(result) ? result : 0;
    for (int i = 0; i < THREADS_MAX && result == 0; i++) {
        result = is_over(walk);
        if (result > 0 || fin__folder_next(&tasks, &thread) <= 0)
            break;
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
    return fstatat(walk->proc, path, &st, 0) == 0 && st.st_nlink > 3;
}

static int visit_process(struct walk *walk, int32_t pid, bool threads)
{
    char path[PATH_SIZE];
    int result;

    walk->denied = false;
    (void) snprintf(path, sizeof path, "%d/fd", pid);
    result = visit_table(walk, path, pid);
    if (threads && result == 0 && !walk->denied && has_threads(walk, pid))
        result = visit_threads(walk, pid);
    return result;
}

int fin__process_visit(int proc, int32_t pid, bool threads, fin__table_fn visit, void *arg)
{
    struct walk walk = { .proc = proc, .visit = visit, .arg = arg, .until = UINT64_MAX };
    int result = visit_process(&walk, pid, threads);

    return result == 0 && walk.denied ? -EACCES : result;
}

/* The size of .../fd is the number of open descriptors; before Linux 6.2 it is 0. */
static bool is_large(const struct walk *walk, int32_t pid)
{
    char path[PATH_SIZE];
    struct stat st;

    (void) snprintf(path, sizeof path, "%d/fd", pid);
    return fstatat(walk->proc, path, &st, 0) == 0 && st.st_size > LARGE_TABLE;
}

/* Visits the processes `first` to `last`. */
static int walk_range(struct walk *walk, bool large, int32_t first, int32_t last)
{
    struct fin__folder proc;
    int32_t pid = 0;
    int result = fin__folder_open(&proc, AT_FDCWD, "/proc");

    if (result < 0)
        return result;
    walk->proc = proc.fd;
    while ((result = fin__folder_next(&proc, &pid)) > 0) {
        if (is_over(walk))
            break;
        if (pid < first || pid > last || is_large(walk, pid) != large)
            continue;
        result = visit_process(walk, pid, true);
        walk->unreadable += walk->denied;
        if (result != 0)
            break;
    }
    fin__folder_close(&proc);
    return result;
}

/* First the processes after us, which are mostly our children, then ourselves, then the others. */
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

/* ---- hidepid ---- */

#define LINE_SIZE 1024

/* Of a line of /proc/self/mountinfo (proc(5)), cut perhaps: /proc, which shows a process to those
 * alone who may trace it. 1 (noaccess) shows them all, and nothing can be read. */
static bool is_hiding_mount(const char *line)
{
    const char *value = strstr(line, "hidepid=");

    if (!value || !strstr(line, " /proc ") || !strstr(line, " - proc "))
        return false;
    value += strlen("hidepid=");
    return *value == '2' || *value == '4' || *value == 'i' || *value == 'p';
}

/* CAP_SYS_PTRACE, by which everybody may be traced. */
static bool may_trace_all(void)
{
    struct __user_cap_header_struct header = { .version = _LINUX_CAPABILITY_VERSION_3 };
    struct __user_cap_data_struct data[_LINUX_CAPABILITY_U32S_3] = { 0 };

    return syscall(SYS_capget, &header, data) == 0 && data[0].effective & 1u << CAP_SYS_PTRACE;
}

static bool has_hiding_mount(void)
{
    char line[LINE_SIZE];
    bool hiding = false;
    FILE *file = fopen("/proc/self/mountinfo", "re");

    while (file && !hiding && fgets(line, sizeof line, file))
        hiding = is_hiding_mount(line);
    if (file)
        (void) fclose(file);
    return hiding;
}

/* The first process there always is. It may be our own user's, and others hidden. */
static bool hides_processes(void)
{
    return faccessat(AT_FDCWD, "/proc/1", F_OK, 0) < 0 || (!may_trace_all() && has_hiding_mount());
}

int fin__proc_walk(fin__table_fn visit, void *arg, uint64_t until, uint32_t *unreadable)
{
    struct walk walk = { .visit = visit, .arg = arg, .until = until };
    int result = walk_all(&walk, false);

    if (result == 0)
        result = walk_all(&walk, true);
    *unreadable += walk.unreadable;
    if (result != 0)
        return result;
    if (access("/proc/self", F_OK) < 0)
        return -ENOENT; /* the empty folder that /proc is mounted on */
    *unreadable += walk.unreadable == 0 && hides_processes();
    return 0;
}
