/* SPDX-License-Identifier: MIT */

#include "kernel/netlink.h"

#include <errno.h>
#include <libmnl/libmnl.h>
#include <linux/netlink.h>
#include <stdbool.h>
#include <sys/socket.h>

int fin__netlink_open(struct mnl_socket **ret)
{
    struct mnl_socket *socket = mnl_socket_open2(NETLINK_SOCK_DIAG, SOCK_CLOEXEC | SOCK_NONBLOCK);

    if (!socket)
        return -errno;
    if (mnl_socket_bind(socket, 0, MNL_SOCKET_AUTOPID) < 0) {
        int error = errno;

        (void) mnl_socket_close(socket);
        return -error;
    }
    *ret = socket;
    return 0;
}

void fin__netlink_close(struct mnl_socket *socket)
{
    if (socket)
        (void) mnl_socket_close(socket);
}

static bool fits(const char *at, size_t left)
{
    while (left >= sizeof(struct nlmsghdr)) {
        uint32_t length = ((const struct nlmsghdr *) (const void *) at)->nlmsg_len;
        size_t whole = NLMSG_ALIGN((size_t) length);

        if (length < sizeof(struct nlmsghdr) || length > left)
            return false;
        if (whole >= left)
            return true;
        at += whole;
        left -= whole;
    }
    return true;
}

int fin__netlink_run(const void *buf, size_t size, uint32_t sequence, unsigned port, mnl_cb_t take,
                     void *arg)
{
    int result;

    if (!fits(buf, size))
        return -EPROTO;
    result = mnl_cb_run(buf, size, sequence, port, take, arg);
    if (result >= 0)
        return result;
    return errno > 0 ? -errno : -EPROTO; /* as the message had it, which may be INT_MIN */
}
