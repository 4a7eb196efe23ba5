/* SPDX-License-Identifier: MIT */

/* What the kernel says of a descriptor of another process, without that process's help. */

#ifndef TOOL_TRACE_INSPECT_H
#define TOOL_TRACE_INSPECT_H

#include "kernel/proc.h"
#include "trace/book.h"

struct fin_kernel;

/* What descriptor `fd` of thread `tid` is; 0 or a negative errno. */
int inspect_at(pid_t tid, int fd, struct fin__link *link);

/* A second descriptor of ours for `fd` of the process, or a negative errno. While we have it we
 * hold the socket: keep it only briefly, while the thread that might close is stopped. */
int inspect_borrow(int pidfd, int fd);

/* The inode of a socket, 0 if it is none. */
uint64_t inspect_socket_inode(int borrowed);

/* Its identity and addresses, from a borrowed descriptor. Writes nothing if it is another
 * socket. */
void inspect_identify(struct thing *socket, int borrowed);

/* The same once it has its addresses, so that its connection can be asked about after its end. */
void inspect_connected(struct thing *socket, int borrowed, struct fin_kernel *kernel);

/* Where connect(2) was told to go. */
void inspect_at_target(struct thing *socket, const void *address, size_t size);

/* How it stands just before it is closed. */
void inspect_before_close(struct thing *socket, int borrowed, struct fin_kernel *kernel);

/* Has the peer of a connection that is open here ended it? *ago_ns: how long ago at least, 0 if
 * that is not known. */
bool inspect_peer_ended(struct thing *socket, int borrowed, uint64_t *ago_ns);

/* Calls visit(fd, link, arg) for each socket and epoll set that thread `tid` has. Returns 0 or a
 * negative errno. */
int inspect_through(pid_t tid, void (*visit)(int fd, const struct fin__link *link, void *arg),
                    void *arg);

/* The process that a thread belongs to; the thread itself if it is gone. */
pid_t inspect_process(pid_t tid);
/* ... from its proc_pid_status(5); 0 if that does not tell. */
pid_t inspect_tgid(const char *status);

#endif
