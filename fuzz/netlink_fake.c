/* SPDX-License-Identifier: MIT */

#include "netlink_fake.h"

#include <errno.h>
#include <string.h>

static struct {
    struct bytes *bytes;
    const void *last;
    size_t last_size;
} feed;

static char fake; /* has an address, which is all that a socket needs */

void netlink_feed(struct bytes *bytes, const void *last, size_t size)
{
    feed.bytes = bytes;
    feed.last = last;
    feed.last_size = size;
}

struct mnl_socket *__wrap_mnl_socket_open2(int bus, int flags)
{
    (void) bus;
    (void) flags;
    return (struct mnl_socket *) (void *) &fake;
}

int __wrap_mnl_socket_bind(struct mnl_socket *nl, unsigned groups, pid_t pid)
{
    (void) nl;
    (void) groups;
    (void) pid;
    return 0;
}

int __wrap_mnl_socket_close(struct mnl_socket *nl)
{
    (void) nl;
    return 0;
}

/* 0 matches any. */
unsigned __wrap_mnl_socket_get_portid(const struct mnl_socket *nl)
{
    (void) nl;
    return 0;
}

ssize_t __wrap_mnl_socket_sendto(const struct mnl_socket *nl, const void *buf, size_t size)
{
    (void) nl;
    (void) buf;
    return (ssize_t) size;
}

ssize_t __wrap_mnl_socket_recvfrom(const struct mnl_socket *nl, void *buf, size_t size)
{
    size_t length = feed.last_size;
    const void *from = feed.last;

    (void) nl;
    if (feed.bytes->left > 0) {
        length = (size_t) take_number(feed.bytes, 2);
        length = length < feed.bytes->left ? length : feed.bytes->left;
        from = feed.bytes->at;
        feed.bytes->at += length;
        feed.bytes->left -= length;
    }
    if (!from || length > size) {
        errno = from ? ENOSPC : EAGAIN; /* as libmnl says of a datagram that was cut */
        return -1;
    }
    memcpy(buf, from, length);
    return (ssize_t) length;
}
