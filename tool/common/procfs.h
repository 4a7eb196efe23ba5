/* SPDX-License-Identifier: MIT */

/* Other processes: small files and links of /proc, their memory and descriptors. */

#ifndef TOOL_PROCFS_H
#define TOOL_PROCFS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Reads the file `path`, relative to `parent`, as far as it fits, and terminates the text. Returns
 * its length or a negative errno. */
int read_file(int parent, const char *path, char *buf, size_t size);
/* The same of a path such as "/proc/%d/status". */
__attribute__((format(printf, 3, 4))) int read_proc(char *buf, size_t size, const char *path, ...);

/* The name of a process or thread, any bytes; "" if it is gone. */
void process_command(int32_t pid, char command[16]);
/* The same escaped; "?" if it is gone. */
void process_name(int32_t pid, char *buf, size_t size);

/* Field `number` (from 3 on) of proc_pid_stat(5), in `text`; NULL if the process is gone. */
#define STAT_SIZE 1024
const char *stat_field(int32_t pid, int number, char text[STAT_SIZE]);
/* ... of a text that was read; NULL if it has none. */
const char *stat_find(const char *text, int number);

/* The number behind `prefix` in the text of a symbolic link such as "socket:[123]", 0 for
 * another. */
uint64_t link_inode(int parent, const char *path, const char *prefix);

/* Copies between its memory and ours: true if all of it was. */
bool memory_read(int32_t pid, uint64_t from, void *to, size_t size);
bool memory_write(int32_t pid, uint64_t to, const void *from, size_t size);
/* A word of its memory; 0 if it can't be read. */
uint64_t memory_word(int32_t pid, uint64_t at);

/* A copy of a descriptor of its, or a negative errno. */
int copy_descriptor(int32_t pid, int32_t fd);

/* Lets this process have as many descriptors as it may. */
void raise_descriptor_limit(void);

#endif
