/* SPDX-License-Identifier: MIT */

/* Files that are written whole or not at all. */

#ifndef TOOL_FILE_H
#define TOOL_FILE_H

#include <stddef.h>

/* Early, so that long work is not in vain: could file_write() create or replace `path`? 0, or
 * EXIT_TROUBLE after one line on stderr. */
int file_check(const char *path);

/* Puts `size` bytes into `path`, under another name in the same folder first: a reader finds the
 * old file or the new one, and after a failure the old one. A symbolic link is followed; a device
 * or FIFO is written to. 0, or EXIT_TROUBLE after one line on stderr. */
int file_write(const char *path, const char *text, size_t size);

#endif
