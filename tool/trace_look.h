/* SPDX-License-Identifier: MIT */

/* What the kernel tells of a descriptor of another process, without that process's help. */

#ifndef TOOL_TRACE_LOOK_H
#define TOOL_TRACE_LOOK_H

#include "trace_book.h"

struct fin_kernel;

/* What the link of a descriptor says. */
enum what {
    WHAT_NOTHING, /* not open, or not to be seen */
    WHAT_OTHER,
    WHAT_SOCKET,
    WHAT_SET, /* an epoll set */
};

/* Of the text of a link; *inode is written for WHAT_SOCKET. */
enum what look_what(const char *link, uint64_t *inode);

/* Descriptor `fd` of thread `tid`; *inode is written for WHAT_SOCKET. */
enum what look_at(pid_t tid, int fd, uint64_t *inode);

/* A second descriptor of ours for `fd` of the process, or a negative errno. While we have it the
 * socket is held by us: keep it for an instant only, while a thread that might close is stopped. */
int look_borrow(int pidfd, int fd);

/* Who it is and its addresses, from a borrowed descriptor. Writes nothing if it is another socket. */
void look_identify(struct thing *socket, int borrowed);

/* The same once it has its addresses, so that its connection can be asked about after its end. */
void look_connected(struct thing *socket, int borrowed, struct fin_kernel *kernel);

/* Where connect(2) was told to go. */
void look_at_target(struct thing *socket, const void *address, size_t size);

/* How it stands just before it is closed. */
void look_before_close(struct thing *socket, int borrowed, struct fin_kernel *kernel);

/* Calls visit(fd, what, inode, arg) for each socket and epoll set that thread `tid` has. Returns 0
 * or a negative errno. */
int look_through(pid_t tid, void (*visit)(int fd, enum what what, uint64_t inode, void *arg),
                 void *arg);

/* The name of a thread, "" if it is gone; any bytes. */
void look_command(pid_t tid, char command[16]);

/* The process that a thread belongs to; the thread itself if it is gone. */
pid_t look_process(pid_t tid);
/* ... from its proc_pid_status(5); 0 if that does not tell. */
pid_t look_tgid(const char *status);

#endif
