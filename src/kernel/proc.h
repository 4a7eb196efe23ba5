/* SPDX-License-Identifier: MIT */

/*
 * Walking /proc: processes, their descriptor tables, what a descriptor is. Nothing is allocated,
 * so that a close that completes can use it. A process that ends while it is being read is no
 * error. A walk ends: the kernel lists processes, threads and descriptors each by ascending number,
 * from where the last read ended, so that what is made meanwhile is met once or not at all.
 */

#ifndef FIN_PROC_H
#define FIN_PROC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The calling thread, as /proc and kcmp(2) know it. */
int32_t fin__own_thread(void);

/* Reads the entries of a folder whose names are numbers. */
struct fin__folder {
    int fd;
    unsigned at, end; /* unread in buf */
    _Alignas(8) char buf[1024];
};

/* `path` is relative to the descriptor `parent`. Returns 0 or a negative errno. */
int fin__folder_open(struct fin__folder *folder, int parent, const char *path);
void fin__folder_close(struct fin__folder *folder);

/* Returns 1 and a number, 0 at the end, or a negative errno. */
int fin__folder_next(struct fin__folder *folder, int32_t *number);

enum fin__link_kind {
    FIN__LINK_SOCKET,
    FIN__LINK_PIPE, /* not a FIFO with a name */
    FIN__LINK_EPOLL,
    FIN__LINK_OTHER,
};

/* What the symbolic link of a descriptor says. */
struct fin__link {
    enum fin__link_kind kind;
    uint64_t inode; /* 0 for FIN__LINK_EPOLL and FIN__LINK_OTHER, where the text has none */
};

/* Of the text of such a link. */
void fin__link_parse(const char *text, struct fin__link *link);

/* Reads the link of descriptor `number` in the folder .../fd. Returns 0 or a negative errno. */
int fin__link_read(const struct fin__folder *fds, int32_t number, struct fin__link *link);

/* What a descriptor of that folder refers to. Asks no file system, which might not answer. */
struct fin__object {
    uint64_t inode, device;
    uint32_t mode;
};

int fin__object_read(const struct fin__folder *fds, int32_t number, struct fin__object *object);

/* The name of the process or thread whose descriptors `fds` has; empty if it is gone. */
void fin__command_read(const struct fin__folder *fds, char command[16]);

/* Opens the folder of the descriptors of process `pid`; of the calling thread if that is 0. Errors:
 * -ESRCH, -EACCES, -ENOENT (no /proc), -EMFILE, -ENFILE, -ENOMEM. */
int fin__fds_open(struct fin__folder *fds, int32_t pid);

/* Of a process, this many different tables are looked for. */
#define FIN__TABLES_MAX 8

/* The descriptor tables of a process; each has a thread that stands for it. */
struct fin__tables {
    int32_t owner[FIN__TABLES_MAX];
    unsigned count;
};

/* If the table of `thread` is not among these yet, adds it and returns true. */
bool fin__tables_add(struct fin__tables *tables, int32_t thread);

/* Called with each descriptor table: `pid` is a process, or a thread that has a table of its own.
 * Returns 0 to go on, 1 to stop, or a negative errno. */
typedef int (*fin__table_fn)(struct fin__folder *fds, int32_t pid, void *arg);

/* Visits the tables of process `pid`, in the open folder /proc; with `threads` also those that
 * threads have of their own. Returns what visit() stopped it with, 0, -EACCES if something of it
 * may not be looked at, -EMFILE, -ENFILE or -ENOMEM. */
int fin__process_visit(int proc, int32_t pid, bool threads, fin__table_fn visit, void *arg);

/* Visits the tables of all processes. A search may be cut short, so the likely ones come first: our
 * own, our children's, and the small ones. Ends at `until` of fin__now() (UINT64_MAX: not
 * before all is seen). Adds those that could not be looked at to *unreadable.
 * Returns 0, 1 if it was stopped or cut, or a negative errno: -ENOENT (no /proc), -EMFILE, -ENFILE,
 * -ENOMEM. */
int fin__proc_walk(fin__table_fn visit, void *arg, uint64_t until, uint32_t *unreadable);

#endif
