/* SPDX-License-Identifier: MIT
 *
 * As glibc has it; see pidfd_open(2) and its kind.
 */

#ifndef FINACK_TOOL_MUSL_SYS_PIDFD_H
#define FINACK_TOOL_MUSL_SYS_PIDFD_H

#include <signal.h>
#include <sys/types.h>

int pidfd_open(pid_t pid, unsigned flags);
int pidfd_getfd(int pidfd, int fd, unsigned flags);
int pidfd_send_signal(int pidfd, int signal, siginfo_t *info, unsigned flags);

#endif
