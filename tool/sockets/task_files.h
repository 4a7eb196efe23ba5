/* SPDX-License-Identifier: MIT */

/* What all processes have open, in one reading: by a BPF iterator, which costs a tenth of reading
 * the links in /proc. */

#ifndef TOOL_SOCKETS_TASK_FILES_H
#define TOOL_SOCKETS_TASK_FILES_H

#include "common/list.h"

#include <stdint.h>

/* A socket, or what may be an epoll set: then the highest bit of `fd` is set. */
struct task_file {
    uint64_t inode;
    int32_t pid;
    uint32_t fd;
};
#define TASK_FILE_OTHER (1u << 31)

typedef LIST(struct task_file) task_files; /* by process and descriptor */

/* Reads those of all processes that our /proc shows. `sockfs` is the device of sockets. A negative
 * errno if it can't be had: the kernel is too old or locked down, we are not root, /proc is that of
 * other processes, or there is so little open that /proc is read sooner (-EAGAIN). */
int task_files_read(task_files *files, uint64_t sockfs);

/* Those of a process. */
const struct task_file *task_files_of(const task_files *files, int32_t pid, size_t *count);

#endif
