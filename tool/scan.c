/* SPDX-License-Identifier: MIT */

#include "scan.h"

#include "beside.h"
#include "epoll_set.h"
#include "folder.h"
#include "kernel/proc.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
    PATH_SIZE = 48,
    WORKERS_MAX = BESIDE_MAX,
    ROUNDS_MAX = 8
};

typedef LIST(int32_t) numbers;

struct worker {
    struct scan found;
    numbers epolls; /* of the process at hand */
    int error;
    struct crew *crew;
};

struct crew {
    int proc;
    bool thorough;
    numbers pids;
    atomic_size_t next;
    struct worker worker[WORKERS_MAX];
};

/* ---- a table of descriptors ---- */

static bool is_denial(int result)
{
    return result == -EACCES || result == -EPERM;
}

static bool is_lack(int result)
{
    return result == -EMFILE || result == -ENFILE || result == -ENOMEM;
}

static int keep_reference(struct worker *w, uint64_t inode, int32_t fd)
{
    struct scan *found = &w->found;

    if (list_need(&found->references, 1) < 0)
        return -ENOMEM;
    found->references.at[found->references.count++] = (struct reference) {
        .inode = inode,
        .process = (uint32_t) found->processes.count,
        .fd = fd,
    };
    return 0;
}

static int keep_epoll(struct worker *w, int32_t fd)
{
    if (list_need(&w->epolls, 1) < 0)
        return -ENOMEM;
    w->epolls.at[w->epolls.count++] = fd;
    return 0;
}

/* One readlinkat(2) for each descriptor is most of what a scan costs. */
static int look_at(struct worker *w, int fds, const char *name, int32_t fd)
{
    static const char socket[] = "socket:[", epoll[] = "anon_inode:[eventpoll]";
    char text[64];
    ssize_t n = readlinkat(fds, name, text, sizeof text - 1);

    if (n < 0)
        return errno == ENOENT ? 0 : -errno;
    text[n] = '\0';
    if (strncmp(text, socket, sizeof socket - 1) == 0)
        return keep_reference(w, strtoull(text + sizeof socket - 1, NULL, 10), fd);
    if (strcmp(text, epoll) == 0 && !w->crew->thorough)
        return keep_epoll(w, fd);
    return 0;
}

static void read_command(int fds, char command[16])
{
    char text[64];
    int n = read_file(fds, "../comm", text, sizeof text);

    if (n > 0 && text[n - 1] == '\n')
        n--;
    memset(command, 0, 16);
    memcpy(command, text, n < 0 ? 0 : n > 15 ? 15 : (size_t) n);
}

static int keep_process(struct worker *w, int fds, int32_t pid)
{
    struct scan *found = &w->found;
    struct process *p;

    if (list_need(&found->processes, 1) < 0)
        return -ENOMEM;
    p = &found->processes.at[found->processes.count];
    *p = (struct process) { .pid = pid };
    read_command(fds, p->command);
    found->processes.count++;
    return 0;
}

static int read_sets(struct worker *w, int fds, const struct reference *own, size_t count)
{
    struct scan *found = &w->found;
    int result = 0;

    for (size_t i = 0; i < w->epolls.count && result == 0; i++) {
        size_t before = found->stales.count;

        if (list_need(&found->sets, 1) < 0)
            return -ENOMEM;
        result = epoll_set_read(fds, w->epolls.at[i], own, count, found);
        found->sets.at[found->sets.count++] = (struct epoll_set) {
            .process = (uint32_t) found->processes.count,
            .fd = w->epolls.at[i],
            .stales = found->stales.count - before,
        };
    }
    return is_denial(result) ? 0 : result;
}

static int read_table(struct worker *w, struct folder *fds, int32_t pid)
{
    struct scan *found = &w->found;
    size_t first = found->references.count;
    const char *name;
    int32_t fd;
    int result;

    w->epolls.count = 0;
    while ((result = folder_next(fds, &fd, &name)) > 0) {
        result = look_at(w, fds->fd, name, fd);
        if (result < 0)
            break;
    }
    if (result < 0 && result != -ENOENT && result != -ESRCH)
        return result;
    result = read_sets(w, fds->fd, found->references.at + first, found->references.count - first);
    if (result == 0 && (found->references.count > first || w->epolls.count > 0))
        result = keep_process(w, fds->fd, pid);
    return result;
}

/* ---- a process ---- */

/* Returns 0, -EACCES, or what keeps all from being read. */
static int visit(struct worker *w, const char *path, int32_t pid)
{
    struct folder fds;
    int result = folder_open(&fds, w->crew->proc, path);

    if (result == 0) {
        result = read_table(w, &fds, pid);
        folder_close(&fds);
    }
    if (is_denial(result))
        return -EACCES;
    return is_lack(result) ? result : 0;
}

static int visit_threads(struct worker *w, int32_t pid)
{
    struct fin__tables tables = { { pid }, 1 };
    struct folder threads;
    char path[PATH_SIZE];
    const char *name;
    int32_t thread;
    int result;

    snprintf(path, sizeof path, "%d/task", pid);
    result = folder_open(&threads, w->crew->proc, path);
    if (result < 0)
        return is_lack(result) ? result : 0;
    while (result == 0 && folder_next(&threads, &thread, &name) > 0) {
        if (thread == pid || !fin__tables_add(&tables, thread))
            continue;
        snprintf(path, sizeof path, "%d/task/%d/fd", pid, thread);
        result = visit(w, path, thread);
    }
    folder_close(&threads);
    return is_denial(result) ? 0 : result;
}

static int visit_process(struct worker *w, int32_t pid)
{
    char path[PATH_SIZE];
    int result;

    snprintf(path, sizeof path, "%d/fd", pid);
    result = visit(w, path, pid);
    if (is_denial(result)) {
        w->found.unreadable++;
        return 0;
    }
    return result == 0 && w->crew->thorough ? visit_threads(w, pid) : result;
}

static void work(void *arg, size_t index)
{
    struct crew *crew = arg;
    struct worker *w = &crew->worker[index];
    size_t i;

    while (w->error == 0 && (i = atomic_fetch_add(&crew->next, 1)) < crew->pids.count)
        w->error = visit_process(w, crew->pids.at[i]);
    free(w->epolls.at);
}

/* ---- all ---- */

static int by_number(const void *a, const void *b)
{
    int32_t x = *(const int32_t *) a, y = *(const int32_t *) b;

    return x < y ? -1 : x > y;
}

/* Adds those behind the `known` ones, which are sorted. */
static int list_processes(struct crew *crew, size_t known)
{
    struct folder proc = { .fd = crew->proc };
    const char *name;
    int32_t pid;
    int result;

    if (lseek(proc.fd, 0, SEEK_SET) < 0)
        return -errno;
    while ((result = folder_next(&proc, &pid, &name)) > 0) {
        if (known && bsearch(&pid, crew->pids.at, known, sizeof pid, by_number))
            continue;
        if (list_need(&crew->pids, 1) < 0)
            return -ENOMEM;
        crew->pids.at[crew->pids.count++] = pid;
    }
    return result;
}

/* The indexes of a worker's processes and sets become those of all. */
static int merge(struct scan *all, struct scan *part)
{
    uint32_t processes = (uint32_t) all->processes.count;
    size_t sets = all->sets.count;

    for (size_t i = 0; i < part->references.count; i++)
        part->references.at[i].process += processes;
    for (size_t i = 0; i < part->sets.count; i++)
        part->sets.at[i].process += processes;
    for (size_t i = 0; i < part->stales.count; i++)
        part->stales.at[i].set += sets;
    all->unreadable += part->unreadable;
    if (list_append(&all->processes, &part->processes) < 0
        || list_append(&all->references, &part->references) < 0
        || list_append(&all->sets, &part->sets) < 0 || list_append(&all->stales, &part->stales) < 0)
        return -ENOMEM;
    return 0;
}

static size_t processors(void)
{
    cpu_set_t allowed;
    int count = sched_getaffinity(0, sizeof allowed, &allowed) < 0 ? 1 : CPU_COUNT(&allowed);

    return count < WORKERS_MAX ? (size_t) count : WORKERS_MAX;
}

static int run(struct crew *crew, struct scan *scan)
{
    size_t count = processors();
    int result = 0;

    for (size_t i = 0; i < count; i++)
        crew->worker[i] = (struct worker) { .crew = crew, .found.sockfs = scan->sockfs };
    beside_run(count, work, crew);
    for (size_t i = 0; i < count; i++) {
        if (result == 0)
            result = crew->worker[i].error;
        if (result == 0)
            result = merge(scan, &crew->worker[i].found);
        scan_free(&crew->worker[i].found);
    }
    return result;
}

/* A process that is forked meanwhile may have got what its parent has closed when it is looked at. */
static int run_all(struct crew *crew, struct scan *scan)
{
    size_t known = 0;
    int result = list_processes(crew, 0);

    if (result == 0 && crew->pids.count == 0)
        return -ENOENT;
    for (int i = 0; result == 0 && crew->pids.count > known && i < ROUNDS_MAX; i++) {
        atomic_store(&crew->next, known);
        result = run(crew, scan);
        known = crew->pids.count;
        if (!crew->thorough || result < 0)
            return result;
        qsort(crew->pids.at, known, sizeof *crew->pids.at, by_number);
        result = list_processes(crew, known);
    }
    return result;
}

/* The device of the file system that all sockets are in. */
static uint64_t sockfs_device(void)
{
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct stat st = { 0 };

    if (fd >= 0 && fstat(fd, &st) < 0)
        st.st_dev = 0;
    if (fd >= 0)
        close(fd);
    return st.st_dev;
}

int scan_proc(struct scan *scan, bool thorough)
{
    struct crew *crew = calloc(1, sizeof *crew);
    int result;

    if (!crew)
        return -ENOMEM;
    crew->thorough = thorough;
    *scan = (struct scan) { .sockfs = sockfs_device() };
    crew->proc = open("/proc", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    result = crew->proc < 0 ? -errno : run_all(crew, scan);
    if (result == 0)
        result = epoll_sets_settle(scan);
    scan->hidden = faccessat(crew->proc, "1", F_OK, 0) < 0;
    if (crew->proc >= 0)
        close(crew->proc);
    free(crew->pids.at);
    free(crew);
    if (result < 0)
        scan_free(scan);
    return result;
}

/* A process that ends gives its table up first, and then closes what was in it; a zombie has. */
static bool is_dying(int32_t pid)
{
    enum {
        STATE = 3,
        FLAGS = 9,
        PF_EXITING = 4 /* include/linux/sched.h */
    };
    char text[STAT_SIZE];
    const char *state = stat_field(pid, STATE, text), *flags;

    if (!state || *state == 'Z' || *state == 'X')
        return false;
    flags = stat_find(text, FLAGS);
    return flags && strtoul(flags, NULL, 10) & PF_EXITING;
}

bool scan_any_dying(void)
{
    struct folder proc;
    const char *name;
    int32_t pid;
    bool found = false;

    if (folder_open(&proc, AT_FDCWD, "/proc") < 0)
        return false;
    while (!found && folder_next(&proc, &pid, &name) > 0)
        found = is_dying(pid);
    folder_close(&proc);
    return found;
}

void scan_free(struct scan *scan)
{
    free(scan->processes.at);
    free(scan->references.at);
    free(scan->sets.at);
    free(scan->stales.at);
    *scan = (struct scan) { .hidden = false };
}
