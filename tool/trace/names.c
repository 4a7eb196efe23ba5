/* SPDX-License-Identifier: MIT */

#include "trace/names.h"

#include "base/line.h"

#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

struct name {
    int value;
    const char *text;
};

static const char *name_of(const struct name *names, size_t count, int value, char *buf,
                           size_t size)
{
    size_t i;

    for (i = 0; i < count; i++)
        if (names[i].value == value)
            return names[i].text;
    snprintf(buf, size, "%d", value);
    return buf;
}
#define NAME_OF(names, value, buf, size)                                                           \
    name_of(names, sizeof(names) / sizeof *(names), value, buf, size)

const char *family_name(int family, char *buf, size_t size)
{
    static const struct name names[] = {
        { AF_INET, "inet" },       { AF_INET6, "inet6" },   { AF_UNIX, "unix" },
        { AF_NETLINK, "netlink" }, { AF_PACKET, "packet" }, { AF_VSOCK, "vsock" },
    };

    return NAME_OF(names, family, buf, size);
}

const char *type_name(int type, char *buf, size_t size)
{
    static const struct name names[] = {
        { SOCK_STREAM, "stream" },
        { SOCK_DGRAM, "dgram" },
        { SOCK_SEQPACKET, "seqpacket" },
        { SOCK_RAW, "raw" },
    };

    return NAME_OF(names, type, buf, size);
}

const char *protocol_name(const struct thing *socket, char *buf, size_t size)
{
    static const struct name names[] = {
        { IPPROTO_TCP, "tcp" },       { IPPROTO_UDP, "udp" },         { IPPROTO_ICMP, "icmp" },
        { IPPROTO_ICMPV6, "icmpv6" }, { IPPROTO_SCTP, "sctp" },       { 262, "mptcp" },
        { IPPROTO_RAW, "raw" },       { IPPROTO_UDPLITE, "udplite" },
    };

    if (socket->family == AF_INET || socket->family == AF_INET6)
        return NAME_OF(names, socket->protocol, buf, size);
    if (socket->protocol == 0)
        return "";
    snprintf(buf, size, "%d", socket->protocol);
    return buf;
}

void socket_format(const struct thing *socket, char *buf, size_t size)
{
    bool inet = socket->family == AF_INET || socket->family == AF_INET6;
    struct fin__line line = { buf, size, 0 };
    char a[16], b[16];

    if (!socket->family)
        fin__put(&line, "socket:[%llu]", (unsigned long long) socket->inode);
    else if (inet)
        fin__put(&line, "%s", protocol_name(socket, a, sizeof a));
    else
        fin__put(&line, "%s %s", family_name(socket->family, a, sizeof a),
                 type_name(socket->type, b, sizeof b));
    if (socket->local)
        fin__put(&line, " %s", socket->local);
    if (socket->remote)
        fin__put(&line, " -> %s", socket->remote);
}

const char *event_name(enum event_kind kind)
{
    static const char *const names[] = {
        "made",         "connecting",   "connected", "accepted",   "listening", "registered",
        "unregistered", "shut",         "closed",    "duplicated", "inherited", "received",
        "found",        "unreferenced", "finished",  "gone",
    };

    return names[kind];
}

const char *shut_name(int how)
{
    return how == SHUT_RD ? "read" : how == SHUT_WR ? "write" : "both";
}
