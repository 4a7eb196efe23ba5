/* SPDX-License-Identifier: MIT */

/* Files that are written whole or not at all. Whatever the command writes goes through here. And
 * files that are read whole. */

#ifndef TOOL_FILE_H
#define TOOL_FILE_H

#include <stddef.h>

/* Early, so that long work is not in vain: could file_write() create or replace `path`? 0, or
 * EXIT_TROUBLE after one line on stderr. */
int file_check(const char *path);

/* Puts `size` bytes into `path`, under another name in the same folder first: a reader finds the
 * old file or the new one, and after a failure the old one. A symbolic link is followed if it is
 * ours or root's, else replaced; a device or FIFO is written to. A file that is ours keeps its
 * mode. 0, or EXIT_TROUBLE after one line on stderr. */
int file_write(const char *path, const char *text, size_t size);

/* The same of what fill(fd, arg) writes to a descriptor; it returns 0 or a negative errno. */
int file_fill(const char *path, int (*fill)(int fd, void *arg), void *arg);

/* Reads `size` bytes, or up to the end, and terminates them; *ret: how many. NULL: no memory. */
char *file_read(int fd, size_t size, size_t *ret);

#endif
