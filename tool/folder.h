/* SPDX-License-Identifier: MIT */

/* Folders of /proc of which the entries named by a number are wanted, and small files. */

#ifndef TOOL_FOLDER_H
#define TOOL_FOLDER_H

#include <stddef.h>
#include <stdint.h>

struct folder {
    int fd;
    unsigned at, end; /* unread in buf */
    _Alignas(8) char buf[16384];
};

/* `path` is relative to the descriptor `parent`. Returns 0 or a negative errno. */
int folder_open(struct folder *folder, int parent, const char *path);
void folder_close(struct folder *folder);

/* Returns 1 and a number with its text, which lives until the next call; 0 at the end, or a negative
 * errno. */
int folder_next(struct folder *folder, int32_t *number, const char **name);

/* Reads the file `path`, relative to `parent`, as far as it fits, and terminates the text. Returns
 * its length or a negative errno. */
int read_file(int parent, const char *path, char *buf, size_t size);

/* Field `number` (from 3 on) of proc_pid_stat(5), in `text`; NULL if the process is gone. */
#define STAT_SIZE 1024
const char *stat_field(int32_t pid, int number, char text[STAT_SIZE]);
/* ... of a text that was read; NULL if it has none. */
const char *stat_find(const char *text, int number);

/* The number behind `prefix` in the text of a symbolic link such as "socket:[123]", 0 for another. */
uint64_t link_inode(int parent, const char *path, const char *prefix);

#endif
