/* SPDX-License-Identifier: MIT */

#include "sockets/scan.h"

#include "common/jobs.h"
#include "common/procfs.h"
#include "kernel/proc.h"
#include "sockets/epoll_set.h"
#include "sockets/task_files.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
    WORKERS_MAX = 16,
    ROUNDS_MAX = 8
};

typedef LIST(int32_t) numbers;

struct worker {
    struct scan found;
    numbers epolls; /* of the process at hand */
    int32_t told;   /* that process, if the kernel has told of it; or 0 */
    int error;
    struct crew *crew;
};

struct crew {
    int proc;
    bool thorough;
    numbers pids;
    size_t told; /* of so many the kernel has told what is open: their links need not be read */
    task_files files;
    atomic_size_t next;
    struct worker worker[WORKERS_MAX];
};

/* ---- a table of descriptors ---- */

static bool is_denial(int result)
{
    return result == -EACCES || result == -EPERM;
}

static int keep_reference(struct worker *w, uint64_t inode, int32_t fd)
{
    struct scan *found = &w->found;

    return list_add(&found->references,
                    (struct reference) {
                        .inode = (uint32_t) inode,
                        .process = (uint32_t) found->processes.count & INT32_MAX,
                        .fd = fd,
                    });
}

/* One readlinkat(2) for each descriptor is most of what a scan costs. */
static int look_at(struct worker *w, const struct fin__folder *fds, int32_t fd)
{
    struct fin__link link;
    int result = fin__link_read(fds, fd, &link);

    if (result < 0)
        return result == -ENOENT ? 0 : result;
    if (link.kind == FIN__LINK_SOCKET)
        return keep_reference(w, link.inode, fd);
    if (link.kind == FIN__LINK_EPOLL && !w->crew->thorough)
        return list_add(&w->epolls, fd);
    return 0;
}

/* Does the same for all descriptors of a process, of which the kernel has told. */
static int take_files(struct worker *w, const struct fin__folder *fds, int32_t pid)
{
    size_t count;
    const struct task_file *files = task_files_of(&w->crew->files, pid, &count);
    int result = 0;

    for (size_t i = 0; i < count && result == 0; i++) {
        if (!(files[i].fd & TASK_FILE_OTHER))
            result = keep_reference(w, files[i].inode, (int32_t) files[i].fd);
        else if (!w->crew->thorough)
            result = look_at(w, fds, (int32_t) (files[i].fd & ~TASK_FILE_OTHER));
    }
    return result;
}

static int read_links(struct worker *w, struct fin__folder *fds)
{
    int32_t fd;
    int result;

    while ((result = fin__folder_next(fds, &fd)) > 0) {
        result = look_at(w, fds, fd);
        if (result < 0)
            break;
    }
    return result;
}

static int keep_process(struct worker *w, const struct fin__folder *fds, int32_t pid)
{
    struct process process = { .pid = pid };

    fin__command_read(fds, process.command);
    return list_add(&w->found.processes, process);
}

static int read_sets(struct worker *w, int fds, struct reference *own, size_t count)
{
    struct scan *found = &w->found;
    int result = 0;

    for (size_t i = 0; i < w->epolls.count && result == 0; i++) {
        size_t before = found->stales.count;

        struct epoll_set set = {
            .process = (uint32_t) found->processes.count,
            .fd = w->epolls.at[i],
        };

        result = epoll_set_read(fds, set.fd, own, count, found);
        set.stales = found->stales.count - before;
        if (list_add(&found->sets, set) < 0)
            return -ENOMEM;
    }
    return is_denial(result) ? 0 : result;
}

/* Of a thread with a table of its own the kernel has not told. */
static int read_table(struct fin__folder *fds, int32_t pid, void *arg)
{
    struct worker *w = arg;
    struct scan *found = &w->found;
    size_t first = found->references.count;
    int result;

    w->epolls.count = 0;
    result = pid == w->told ? take_files(w, fds, pid) : read_links(w, fds);
    if (result < 0 && result != -ENOENT && result != -ESRCH)
        return result;
    result = read_sets(w, fds->fd, found->references.at + first, found->references.count - first);
    if (result == 0 && (found->references.count > first || w->epolls.count > 0))
        result = keep_process(w, fds, pid);
    return result;
}

/* ---- all ---- */

static void note_unreadable(struct scan *scan, int32_t pid)
{
    if (scan->unreadable < UNREADABLE_TOLD)
        scan->unreadable_pid[scan->unreadable] = pid;
    scan->unreadable++;
}

static int read_process(struct worker *w, size_t index)
{
    int32_t pid = w->crew->pids.at[index];
    size_t count;
    int result;

    w->told = index < w->crew->told ? pid : 0;
    if (w->told && !w->crew->thorough && !task_files_of(&w->crew->files, pid, &count))
        return 0;
    result = fin__process_visit(w->crew->proc, pid, w->crew->thorough, read_table, w);

    if (!is_denial(result))
        return result;
    note_unreadable(&w->found, pid);
    return 0;
}

static int work(void *arg, size_t index)
{
    struct crew *crew = arg;
    struct worker *w = &crew->worker[index];
    size_t i;

    while (w->error == 0 && (i = atomic_fetch_add(&crew->next, 1)) < crew->pids.count)
        w->error = read_process(w, i);
    free(w->epolls.at);
    return 0;
}

static int by_number(const void *a, const void *b)
{
    int32_t x = *(const int32_t *) a, y = *(const int32_t *) b;

    return x < y ? -1 : x > y;
}

/* Adds those behind the `known` ones, which are sorted. */
static int list_processes(struct crew *crew, size_t known)
{
    struct fin__folder proc = { .fd = crew->proc };
    int32_t pid;
    int result;

    if (lseek(proc.fd, 0, SEEK_SET) < 0)
        return -errno;
    while ((result = fin__folder_next(&proc, &pid)) > 0) {
        if (known && bsearch(&pid, crew->pids.at, known, sizeof pid, by_number))
            continue;
        if (list_add(&crew->pids, pid) < 0)
            return -ENOMEM;
    }
    return result;
}

/* The indexes of a worker's processes and sets become those of all. */
static int merge(struct scan *all, struct scan *part)
{
    uint32_t processes = (uint32_t) all->processes.count;
    size_t sets = all->sets.count;

    for (size_t i = 0; i < part->references.count; i++)
        part->references.at[i].process = (part->references.at[i].process + processes) & INT32_MAX;
    for (size_t i = 0; i < part->sets.count; i++)
        part->sets.at[i].process += processes;
    for (size_t i = 0; i < part->stales.count; i++)
        part->stales.at[i].set += sets;
    for (uint32_t i = 0; i < part->unreadable; i++)
        note_unreadable(all, i < UNREADABLE_TOLD ? part->unreadable_pid[i] : 0);
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

static int scan_run(struct crew *crew, struct scan *scan)
{
    size_t count = processors();
    int result = 0;

    for (size_t i = 0; i < count; i++)
        crew->worker[i] = (struct worker) { .crew = crew, .found.sockfs = scan->sockfs };
    jobs_run(count, count, work, crew);
    for (size_t i = 0; i < count; i++) {
        if (result == 0)
            result = crew->worker[i].error;
        if (result == 0)
            result = merge(scan, &crew->worker[i].found);
        holders_free(&crew->worker[i].found);
    }
    return result;
}

/* A process that is forked meanwhile may have got what its parent has closed when it is looked
 * at. */
static int run_all(struct crew *crew, struct scan *scan)
{
    size_t known = 0;
    int result = list_processes(crew, 0);

    if (result == 0 && crew->pids.count == 0)
        return -ENOENT;
    if (task_files_read(&crew->files, scan->sockfs) == 0)
        crew->told = crew->pids.count;
    for (int i = 0; result == 0 && crew->pids.count > known && i < ROUNDS_MAX; i++) {
        atomic_store(&crew->next, known);
        result = scan_run(crew, scan);
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
    free(crew->files.at);
    free(crew);
    if (result < 0)
        holders_free(scan);
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
    struct fin__folder proc;
    int32_t pid;
    bool found = false;

    if (fin__folder_open(&proc, AT_FDCWD, "/proc") < 0)
        return false;
    while (!found && fin__folder_next(&proc, &pid) > 0)
        found = is_dying(pid);
    fin__folder_close(&proc);
    return found;
}
