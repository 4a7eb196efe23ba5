/* SPDX-License-Identifier: MIT */

#include "base/alloc.h"
#include "base/descriptor.h"

#include <errno.h>
#include <sys/socket.h>

#include <libmnl/libmnl.h>
#include <string.h>

/* ---- messages ---- */

struct nlmsghdr *mnl_nlmsg_put_header(void *buf)
{
    struct nlmsghdr *message = buf;

    *message = (struct nlmsghdr) { .nlmsg_len = NLMSG_HDRLEN };
    return message;
}

void *mnl_nlmsg_put_extra_header(struct nlmsghdr *message, size_t size)
{
    char *at = (char *) message + message->nlmsg_len;
    size_t whole = NLMSG_ALIGN(size);

    message->nlmsg_len += (uint32_t) whole;
    return memset(at, 0, whole);
}

void *mnl_nlmsg_get_payload(const struct nlmsghdr *message)
{
    return (char *) (uintptr_t) message + NLMSG_HDRLEN;
}

size_t mnl_nlmsg_get_payload_len(const struct nlmsghdr *message)
{
    return message->nlmsg_len - NLMSG_HDRLEN;
}

/* ---- attributes: aligned as messages are ---- */

#define HEADER sizeof(struct nlattr)

uint16_t mnl_attr_get_type(const struct nlattr *attribute)
{
    return (uint16_t) (attribute->nla_type & (unsigned) NLA_TYPE_MASK);
}

uint16_t mnl_attr_get_payload_len(const struct nlattr *attribute)
{
    return (uint16_t) (attribute->nla_len - HEADER);
}

void *mnl_attr_get_payload(const struct nlattr *attribute)
{
    return (char *) (uintptr_t) attribute + HEADER;
}

uint8_t mnl_attr_get_u8(const struct nlattr *attribute)
{
    return *(const uint8_t *) mnl_attr_get_payload(attribute);
}

uint32_t mnl_attr_get_u32(const struct nlattr *attribute)
{
    uint32_t value;

    memcpy(&value, mnl_attr_get_payload(attribute), sizeof value);
    return value;
}

int mnl_attr_validate(const struct nlattr *attribute, enum mnl_attr_data_type type)
{
    if (type == MNL_TYPE_U32 && mnl_attr_get_payload_len(attribute) >= sizeof(uint32_t))
        return 0;
    errno = ERANGE;
    return -1;
}

int mnl_attr_parse(const struct nlmsghdr *message, unsigned offset, mnl_attr_cb_t take, void *arg)
{
    size_t start = NLMSG_ALIGN((size_t) offset), length = mnl_nlmsg_get_payload_len(message);
    const char *at = (const char *) mnl_nlmsg_get_payload(message) + start;
    size_t left = length > start ? length - start : 0;
    int result = MNL_CB_OK;

    while (left >= HEADER && result > MNL_CB_STOP) {
        const struct nlattr *attribute = (const struct nlattr *) (const void *) at;
        size_t whole = NLMSG_ALIGN((size_t) attribute->nla_len);

        if (attribute->nla_len < HEADER || attribute->nla_len > left)
            break;
        result = take(attribute, arg);
        if (whole >= left)
            break;
        at += whole;
        left -= whole;
    }
    return result;
}

/* ---- replies ---- */

static int mnl_fail(int error)
{
    errno = error;
    return MNL_CB_ERROR;
}

/* An error of 0 acknowledges. */
static int take_error(const struct nlmsghdr *message)
{
    const struct nlmsgerr *error = mnl_nlmsg_get_payload(message);

    if (mnl_nlmsg_get_payload_len(message) < sizeof *error)
        return mnl_fail(EBADMSG);
    if (error->error == 0)
        return MNL_CB_STOP;
    /* The sign may be either one; that of INT_MIN can't be changed. */
    return mnl_fail(error->error < -INT32_MAX || error->error > 0 ? error->error : -error->error);
}

static int take_control(const struct nlmsghdr *message)
{
    switch (message->nlmsg_type) {
    case NLMSG_ERROR:
        return take_error(message);
    case NLMSG_DONE:
        return MNL_CB_STOP;
    default:
        return MNL_CB_OK;
    }
}

static int take_message(const struct nlmsghdr *message, unsigned sequence, unsigned port,
                        mnl_cb_t take, void *arg)
{
    if (message->nlmsg_pid && port && message->nlmsg_pid != port)
        return mnl_fail(ESRCH);
    if (message->nlmsg_seq && sequence && message->nlmsg_seq != sequence)
        return mnl_fail(EPROTO);
    if (message->nlmsg_flags & NLM_F_DUMP_INTR)
        return mnl_fail(EINTR);
    if (message->nlmsg_type < NLMSG_MIN_TYPE)
        return take_control(message);
    return take ? take(message, arg) : MNL_CB_OK;
}

int mnl_cb_run(const void *buf, size_t size, unsigned sequence, unsigned port, mnl_cb_t take,
               void *arg)
{
    const char *at = buf;
    int result = MNL_CB_OK;

    while (size >= NLMSG_HDRLEN && result > MNL_CB_STOP) {
        const struct nlmsghdr *message = (const struct nlmsghdr *) (const void *) at;
        size_t whole = NLMSG_ALIGN((size_t) message->nlmsg_len);

        if (message->nlmsg_len < NLMSG_HDRLEN || message->nlmsg_len > size)
            break;
        result = take_message(message, sequence, port, take, arg);
        if (whole >= size)
            break;
        at += whole;
        size -= whole;
    }
    return result;
}

/* ---- sockets ---- */

struct mnl_socket {
    int fd;
    struct sockaddr_nl address;
};

struct mnl_socket *mnl_socket_open2(int bus, int flags)
{
    struct mnl_socket *made = fin__alloc(sizeof *made);

    if (!made) {
        errno = ENOMEM;
        return NULL;
    }
    *made = (struct mnl_socket) { .fd = socket(AF_NETLINK, SOCK_RAW | flags, bus) };
    if (made->fd < 0) {
        fin__free(made);
        return NULL;
    }
    return made;
}

int mnl_socket_bind(struct mnl_socket *socket, unsigned groups, pid_t port)
{
    struct sockaddr_nl address = {
        .nl_family = AF_NETLINK,
        .nl_pid = (uint32_t) port,
        .nl_groups = groups,
    };
    socklen_t size = sizeof address;

    if (bind(socket->fd, (const struct sockaddr *) &address, size) < 0
        || getsockname(socket->fd, (struct sockaddr *) &address, &size) < 0)
        return -1;
    socket->address = address;
    return 0;
}

int mnl_socket_close(struct mnl_socket *socket)
{
    fin__drop(&socket->fd);
    fin__free(socket);
    return 0;
}

int mnl_socket_get_fd(const struct mnl_socket *socket)
{
    return socket->fd;
}

unsigned mnl_socket_get_portid(const struct mnl_socket *socket)
{
    return socket->address.nl_pid;
}

ssize_t mnl_socket_sendto(const struct mnl_socket *socket, const void *buf, size_t size)
{
    const struct sockaddr_nl kernel = { .nl_family = AF_NETLINK };

    return sendto(socket->fd, buf, size, 0, (const struct sockaddr *) &kernel, sizeof kernel);
}

ssize_t mnl_socket_recvfrom(const struct mnl_socket *socket, void *buf, size_t size)
{
    struct sockaddr_nl from;
    struct iovec part = { buf, size };
    struct msghdr message = {
        .msg_name = &from,
        .msg_namelen = sizeof from,
        .msg_iov = &part,
        .msg_iovlen = 1,
    };
    ssize_t n = recvmsg(socket->fd, &message, 0);

    if (n >= 0 && message.msg_flags & MSG_TRUNC)
        return mnl_fail(ENOSPC);
    if (n >= 0 && message.msg_namelen != sizeof from)
        return mnl_fail(EINVAL);
    return n;
}

int mnl_socket_setsockopt(const struct mnl_socket *socket, int option, void *value, socklen_t size)
{
    return setsockopt(socket->fd, SOL_NETLINK, option, value, size);
}
