/* SPDX-License-Identifier: MIT */

#include "sockets/unlisted.h"

#include "common/procfs.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/sockios.h>
#include <linux/tcp.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

/* ---- its protocol ---- */

/* sockfs tells the name of the protocol, in an attribute that takes no more right than the link. */
static bool read_protocol(int32_t pid, const struct reference *reference, struct socket *s)
{
    static const struct {
        const char *name;
        enum protocol protocol;
        uint8_t family, type;
    } known[] = {
        { "TCP", PROTOCOL_TCP, AF_INET, SOCK_STREAM },
        { "TCPv6", PROTOCOL_TCP, AF_INET6, SOCK_STREAM },
        { "UDP", PROTOCOL_UDP, AF_INET, SOCK_DGRAM },
        { "UDPv6", PROTOCOL_UDP, AF_INET6, SOCK_DGRAM },
        { "UNIX", PROTOCOL_UNIX, AF_UNIX, SOCK_DGRAM },
        { "UNIX-STREAM", PROTOCOL_UNIX, AF_UNIX, SOCK_STREAM },
    };
    char path[48], name[32];
    ssize_t n;

    snprintf(path, sizeof path, "/proc/%d/fd/%d", pid, reference->fd);
    n = getxattr(path, "system.sockprotoname", name, sizeof name - 1);
    if (n <= 0 || link_inode(AT_FDCWD, path, "socket:[") != reference->inode)
        return false;
    name[n] = '\0';
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        if (strcmp(name, known[i].name) != 0)
            continue;
        s->protocol = known[i].protocol;
        s->family = known[i].family;
        s->type = known[i].type;
        return true;
    }
    return false;
}

/* ---- a closer look ---- */

static int take_copy(int32_t pid, const struct reference *reference)
{
    int fd = copy_descriptor(pid, reference->fd);
    struct stat st;

    if (fd >= 0 && (fstat(fd, &st) < 0 || st.st_ino != reference->inode)) {
        close(fd);
        return -ESTALE;
    }
    return fd;
}

static void take_address(const struct sockaddr_storage *from, uint8_t address[16], uint16_t *port)
{
    const struct sockaddr_in *v4 = (const void *) from;
    const struct sockaddr_in6 *v6 = (const void *) from;

    if (from->ss_family == AF_INET) {
        memcpy(address, &v4->sin_addr, sizeof v4->sin_addr);
        *port = ntohs(v4->sin_port);
    } else if (from->ss_family == AF_INET6) {
        memcpy(address, &v6->sin6_addr, sizeof v6->sin6_addr);
        *port = ntohs(v6->sin6_port);
    }
}

/* getpeername(2) refuses once the connection is over; SO_PEERNAME has no such scruple, but must be
 * asked for no more than the address has. */
static void read_addresses(int fd, struct socket *s)
{
    struct sockaddr_storage name = { 0 };
    socklen_t size = sizeof name;

    if (getsockname(fd, (struct sockaddr *) &name, &size) == 0)
        take_address(&name, s->local, &s->local_port);
    size = s->family == AF_INET ? sizeof(struct sockaddr_in) : sizeof(struct sockaddr_in6);
    if (getsockopt(fd, SOL_SOCKET, SO_PEERNAME, &name, &size) == 0)
        take_address(&name, s->remote, &s->remote_port);
}

static void read_queue(int fd, struct socket *s)
{
    int bytes = 0;

    if (ioctl(fd, SIOCINQ, &bytes) == 0 && bytes > 0)
        s->receive_queue = (uint32_t) bytes;
}

/* SO_ERROR would take the error away from the program; poll(2) leaves it. */
static bool has_error(int fd)
{
    struct pollfd poller = { .fd = fd };

    return poll(&poller, 1, 0) > 0 && poller.revents & POLLERR;
}

/* segs_in tells a connection that was from one that never came to be; it begins at 0 again after
 * connect(AF_UNSPEC). */
static enum unlisted look_closer(int fd, struct socket *s)
{
    struct tcp_info info = { 0 };
    socklen_t size = sizeof info;
    struct stat st;

    if (getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &size) < 0 || info.tcpi_state != STATE_CLOSE)
        return UNLISTED_OTHER;
    read_addresses(fd, s);
    read_queue(fd, s);
    size = sizeof s->cookie;
    if (getsockopt(fd, SOL_SOCKET, SO_COOKIE, &s->cookie, &size) < 0)
        s->cookie = 0;
    if (fstat(fd, &st) == 0)
        s->uid = st.st_uid;
    s->has_error = has_error(fd);
    s->has_tcp = info.tcpi_segs_in > 0;
    s->tcp = (struct tcp_facts) {
        .last_sent = info.tcpi_last_data_sent,
        .last_received = info.tcpi_last_data_recv,
        .last_acked = info.tcpi_last_ack_recv,
        .received = info.tcpi_bytes_received,
        .acked = info.tcpi_bytes_acked,
    };
    return info.tcpi_segs_in > 0 ? UNLISTED_DEAD : UNLISTED_FRESH;
}

/* The space of a socket may be another than that of its process. */
static uint64_t space_of(int fd, struct process *process, const struct netns_list *spaces)
{
    uint64_t cookie;
    socklen_t size = sizeof cookie;

    if (fd >= 0 && getsockopt(fd, SOL_SOCKET, SO_NETNS_COOKIE, &cookie, &size) == 0)
        return netns_find(spaces, 0, cookie);
    if (process->netns == 0)
        process->netns = netns_of(process->pid);
    return netns_find(spaces, process->netns, 0);
}

enum unlisted unlisted_identify(const struct reference *reference, struct process *process,
                                const struct netns_list *spaces, struct socket *s)
{
    enum unlisted result = UNLISTED_FRESH;
    int fd = -1;

    *s = (struct socket) { .state = STATE_CLOSE, .inode = reference->inode };
    if (!read_protocol(process->pid, reference, s))
        return UNLISTED_OTHER;
    if (s->protocol == PROTOCOL_TCP)
        fd = take_copy(process->pid, reference);
    s->netns = (uint32_t) space_of(fd, process, spaces);
    if (s->netns == 0)
        result = UNLISTED_ELSEWHERE;
    else if (s->protocol == PROTOCOL_UNIX || fd == -ESTALE)
        result = UNLISTED_OTHER;
    else if (fd >= 0)
        result = look_closer(fd, s);
    else if (s->protocol == PROTOCOL_TCP)
        result = UNLISTED_UNKNOWN;
    if (fd >= 0)
        close(fd);
    return result;
}
