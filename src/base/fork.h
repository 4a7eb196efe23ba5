/* SPDX-License-Identifier: MIT */

#ifndef FIN_FORK_H
#define FIN_FORK_H

/* Tells a forked child from the process that made something. */
struct fin__fork_guard {
    unsigned char *page; /* zeroed by the kernel in a child; NULL: compare `process` */
    int process;
};

void fin__fork_guard_init(struct fin__fork_guard *guard);
void fin__fork_guard_end(struct fin__fork_guard *guard);

/* 0, or -ECHILD in a child. No system call where MADV_WIPEONFORK is known (Linux 4.14). */
int fin__fork_check(const struct fin__fork_guard *guard);

#endif
