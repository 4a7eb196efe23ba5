/* SPDX-License-Identifier: MIT */

#include "kernel/netlink.h"

#include <errno.h>
#include <libmnl/libmnl.h>
#include <linux/netlink.h>
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
