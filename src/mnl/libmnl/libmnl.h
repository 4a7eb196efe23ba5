/* SPDX-License-Identifier: MIT */

/*
 * What is used here of libmnl, for builds that are to need no other library: names, arguments and
 * results are those of libmnl 1.0.4, whose manual describes them. Meson's option `libmnl` decides
 * which of the two is used.
 */

#ifndef FIN_LIBMNL_H
#define FIN_LIBMNL_H

#include <linux/netlink.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/types.h>

/* ---- messages ---- */

struct nlmsghdr *mnl_nlmsg_put_header(void *buf);
void *mnl_nlmsg_put_extra_header(struct nlmsghdr *message, size_t size);
void *mnl_nlmsg_get_payload(const struct nlmsghdr *message);
size_t mnl_nlmsg_get_payload_len(const struct nlmsghdr *message);

/* ---- attributes ---- */

enum mnl_attr_data_type {
    MNL_TYPE_U32 = 3, /* the only one that can be asked for */
};

uint16_t mnl_attr_get_type(const struct nlattr *attribute);
uint16_t mnl_attr_get_payload_len(const struct nlattr *attribute);
void *mnl_attr_get_payload(const struct nlattr *attribute);
uint8_t mnl_attr_get_u8(const struct nlattr *attribute);
uint32_t mnl_attr_get_u32(const struct nlattr *attribute);

/* -1 with ERANGE if it is smaller. */
int mnl_attr_validate(const struct nlattr *attribute, enum mnl_attr_data_type type);

typedef int (*mnl_attr_cb_t)(const struct nlattr *attribute, void *arg);
int mnl_attr_parse(const struct nlmsghdr *message, unsigned offset, mnl_attr_cb_t take, void *arg);

/* ---- what a callback answers ---- */

#define MNL_CB_ERROR (-1)
#define MNL_CB_STOP 0
#define MNL_CB_OK 1

typedef int (*mnl_cb_t)(const struct nlmsghdr *message, void *arg);
int mnl_cb_run(const void *buf, size_t size, unsigned sequence, unsigned port, mnl_cb_t take,
               void *arg);

/* ---- sockets ---- */

#define MNL_SOCKET_AUTOPID 0

struct mnl_socket;

struct mnl_socket *mnl_socket_open2(int bus, int flags);
int mnl_socket_bind(struct mnl_socket *socket, unsigned groups, pid_t port);
int mnl_socket_close(struct mnl_socket *socket);
int mnl_socket_get_fd(const struct mnl_socket *socket);
unsigned mnl_socket_get_portid(const struct mnl_socket *socket);
ssize_t mnl_socket_sendto(const struct mnl_socket *socket, const void *buf, size_t size);
ssize_t mnl_socket_recvfrom(const struct mnl_socket *socket, void *buf, size_t size);
int mnl_socket_setsockopt(const struct mnl_socket *socket, int option, void *value, socklen_t size);

#endif
