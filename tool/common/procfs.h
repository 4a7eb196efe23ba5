/* SPDX-License-Identifier: MIT */

/* Small files and links of /proc. */

#ifndef TOOL_PROCFS_H
#define TOOL_PROCFS_H

#include <stddef.h>
#include <stdint.h>

/* Reads the file `path`, relative to `parent`, as far as it fits, and terminates the text. Returns
 * its length or a negative errno. */
int read_file(int parent, const char *path, char *buf, size_t size);

/* The name of a process, escaped; "?" if it is gone. */
void process_name(int32_t pid, char *buf, size_t size);

/* Field `number` (from 3 on) of proc_pid_stat(5), in `text`; NULL if the process is gone. */
#define STAT_SIZE 1024
const char *stat_field(int32_t pid, int number, char text[STAT_SIZE]);
/* ... of a text that was read; NULL if it has none. */
const char *stat_find(const char *text, int number);

/* The number behind `prefix` in the text of a symbolic link such as "socket:[123]", 0 for
 * another. */
uint64_t link_inode(int parent, const char *path, const char *prefix);

#endif
