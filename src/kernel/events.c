/* SPDX-License-Identifier: MIT */

#include "kernel/events.h"

#include "kernel/netlink.h"

#include <errno.h>
#include <libmnl/libmnl.h>
#include <linux/inet_diag.h>
#include <linux/netlink.h>
#include <linux/sock_diag.h>
#include <linux/tcp.h>
#include <stddef.h>
#include <string.h>
#include <sys/socket.h>

#define EVENT_SIZE 2048 /* one socket each, below 600 bytes (sock_diag_nlmsg_size()) */

static const int groups[] = { SKNLGRP_INET_TCP_DESTROY, SKNLGRP_INET6_TCP_DESTROY };

int fin__events_open(struct fin__events *events)
{
    *events = FIN__EVENTS_INIT;
    return fin__netlink_open(&events->socket);
}

void fin__events_close(struct fin__events *events)
{
    fin__netlink_close(events->socket);
    *events = FIN__EVENTS_INIT;
}

int fin__events_fd(const struct fin__events *events)
{
    return events->socket ? mnl_socket_get_fd(events->socket) : -1;
}

static int change_membership(struct fin__events *events, int what)
{
    int result = 0;

    for (size_t i = 0; i < sizeof groups / sizeof *groups; i++) {
        int group = groups[i];

        if (mnl_socket_setsockopt(events->socket, what, &group, sizeof group) < 0)
            result = -errno;
    }
    return result;
}

int fin__events_join(struct fin__events *events)
{
    int result = 0;

    if (!events->socket)
        return -EBADF;
    if (!events->joined)
        result = change_membership(events, NETLINK_ADD_MEMBERSHIP);
    if (result < 0) {
        (void) change_membership(events, NETLINK_DROP_MEMBERSHIP);
        return result;
    }
    events->joined = true;
    events->users++;
    return 0;
}

void fin__events_leave(struct fin__events *events)
{
    if (--events->users > 0)
        return;
    (void) change_membership(events, NETLINK_DROP_MEMBERSHIP);
    events->joined = false;
}

struct taking {
    void (*take)(const struct fin__destroyed *destroyed, void *arg);
    void *arg;
};

static int take_info(const struct nlattr *attribute, void *arg)
{
    struct fin__destroyed *destroyed = arg;
    size_t size = mnl_attr_get_payload_len(attribute);
    size_t end = offsetof(struct tcp_info, tcpi_bytes_acked) + sizeof(uint64_t);

    if (mnl_attr_get_type(attribute) != INET_DIAG_INFO || size < end)
        return MNL_CB_OK;
    memcpy(&destroyed->bytes_acked,
           (const char *) mnl_attr_get_payload(attribute) + end - sizeof(uint64_t),
           sizeof(uint64_t));
    destroyed->counted = true;
    return MNL_CB_OK;
}

static int take_event(const struct nlmsghdr *message, void *arg)
{
    const struct inet_diag_msg *event = mnl_nlmsg_get_payload(message);
    struct fin__destroyed destroyed = { 0 };
    struct taking *taking = arg;

    if (message->nlmsg_type != SOCK_DIAG_BY_FAMILY
        || mnl_nlmsg_get_payload_len(message) < sizeof *event)
        return MNL_CB_OK;
    destroyed.cookie = (uint64_t) event->id.idiag_cookie[1] << 32 | event->id.idiag_cookie[0];
    (void) mnl_attr_parse(message, sizeof *event, take_info, &destroyed);
    taking->take(&destroyed, taking->arg);
    return MNL_CB_OK;
}

int fin__events_read(struct fin__events *events, int max,
                     void (*take)(const struct fin__destroyed *destroyed, void *arg), void *arg)
{
    struct taking taking = { take, arg };
    union {
        char bytes[EVENT_SIZE];
        struct nlmsghdr align;
    } buf;

    for (int i = 0; i < max; i++) {
        ssize_t n = mnl_socket_recvfrom(events->socket, buf.bytes, sizeof buf.bytes);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return errno == EAGAIN ? 0 : -errno;
        (void) fin__netlink_run(buf.bytes, (size_t) n, 0, 0, take_event, &taking);
    }
    return 0;
}
