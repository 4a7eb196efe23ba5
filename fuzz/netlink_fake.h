/* SPDX-License-Identifier: MIT */

/* A netlink socket (libmnl's, by -Wl,--wrap) whose kernel answers with the fuzzer's bytes. */

#ifndef FIN_FUZZ_NETLINK_FAKE_H
#define FIN_FUZZ_NETLINK_FAKE_H

#include "bytes.h"

#include <sys/socket.h>

struct mnl_socket;

/* Of what is received from now on each datagram takes a length of two bytes, and as many bytes.
 * When they are used up it is `last`, if there is one, and nothing then. */
void netlink_feed(struct bytes *bytes, const void *last, size_t size);

/* Names that the linker looks for. */
struct mnl_socket *__wrap_mnl_socket_open2(int bus, int flags); // NOLINT(bugprone-reserved*)
int __wrap_mnl_socket_bind(struct mnl_socket *nl, unsigned groups, pid_t pid); // NOLINT
int __wrap_mnl_socket_close(struct mnl_socket *nl);                            // NOLINT
unsigned __wrap_mnl_socket_get_portid(const struct mnl_socket *nl);            // NOLINT
ssize_t __wrap_mnl_socket_sendto(const struct mnl_socket *nl, const void *buf, // NOLINT
                                 size_t size);
ssize_t __wrap_mnl_socket_recvfrom(const struct mnl_socket *nl, void *buf, size_t size); // NOLINT

#endif
