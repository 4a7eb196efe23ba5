/* SPDX-License-Identifier: MIT */

/* What the kernel shows of an epoll set in /proc/PID/fdinfo (proc(5)). */

#ifndef FIN_FDINFO_H
#define FIN_FDINFO_H

#include <stdint.h>

/* An entry of the set: its key is the description and the number it was registered under. */
struct fin__entry {
    int32_t fd;
    uint32_t events;
    uint64_t data;
    uint64_t inode;  /* of the description; 0: a kernel before 4.13 does not tell */
    uint64_t device; /* as st_dev has it */
};

/* Calls visit(entry, arg) for every entry; `fdinfo` is open for reading. All entries are those of
 * one moment: the kernel writes the text at the first read. Returns 0 or a negative errno. */
int fin__fdinfo_read(int fdinfo, void (*visit)(const struct fin__entry *entry, void *arg),
                     void *arg);

#endif
