/* SPDX-License-Identifier: MIT */

#include "trace/inspect.h"

#include "base/line.h"
#include "common/procfs.h"
#include "common/say.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/sockios.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/pidfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

int inspect_at(pid_t tid, int fd, struct fin__link *link)
{
    char path[64], text[64];
    ssize_t n;

    snprintf(path, sizeof path, "/proc/%d/fd/%d", (int) tid, fd);
    n = readlink(path, text, sizeof text - 1);
    if (n < 0)
        return -errno;
    text[n] = '\0';
    fin__link_parse(text, link);
    return 0;
}

int inspect_borrow(int pidfd, int fd)
{
    int borrowed = pidfd < 0 ? -1 : pidfd_getfd(pidfd, fd, 0);

    if (pidfd < 0)
        return -EMFILE;
    return borrowed < 0 ? -errno : borrowed;
}

uint64_t inspect_socket_inode(int borrowed)
{
    struct stat st;

    return fstat(borrowed, &st) == 0 && S_ISSOCK(st.st_mode) ? st.st_ino : 0;
}

/* ---- addresses ---- */

static char *inet_text(int family, const void *address, uint16_t port)
{
    uint8_t whole[16] = { 0 };
    char text[64];

    memcpy(whole, address, family == AF_INET ? 4 : sizeof whole);
    fin__put_address(&(struct fin__line) { text, sizeof text, 0 }, family, whole, port);
    return strdup(text);
}

/* An abstract name begins with a zero byte, and may hold more of them. */
static void unix_text(const struct sockaddr_un *a, socklen_t length, char *buf, size_t size)
{
    char name[sizeof a->sun_path + 1];
    size_t used = length - offsetof(struct sockaddr_un, sun_path), i;

    memcpy(name, a->sun_path, used);
    name[used] = '\0';
    for (i = 0; used > 0 && name[0] == '\0' && i < used; i++)
        if (name[i] == '\0')
            name[i] = '@';
    escape(name, buf, size);
}

/* NULL for a socket without a name. */
static char *address_text(const struct sockaddr_un *a, socklen_t length)
{
    char buf[4 * sizeof *a];

    if (a->sun_family != AF_UNIX || length <= offsetof(struct sockaddr_un, sun_path)
        || length > sizeof *a)
        return NULL;
    unix_text(a, length, buf, sizeof buf);
    return strdup(buf);
}

static void inspect_replace(char **text, char *by)
{
    if (!by)
        return;
    free(*text);
    *text = by;
}

static void take_unix_addresses(struct thing *socket, int fd)
{
    struct sockaddr_un address = { 0 };
    socklen_t length = sizeof address;

    if (getpeername(fd, (struct sockaddr *) &address, &length) == 0) {
        inspect_replace(&socket->remote, address_text(&address, length));
        socket->connected = true;
    }
    length = sizeof address;
    if (getsockname(fd, (struct sockaddr *) &address, &length) == 0)
        inspect_replace(&socket->local, address_text(&address, length));
}

static void take_inet_addresses(struct thing *socket)
{
    const struct fin_identity *id = &socket->identity;

    if (id->remote_port) {
        inspect_replace(&socket->remote, inet_text(id->family, id->remote, id->remote_port));
        socket->connected = true;
    }
    if (id->local_port)
        inspect_replace(&socket->local, inet_text(id->family, id->local, id->local_port));
}

/* The address that connect(2) was given, while the socket itself does not tell it. */
void inspect_at_target(struct thing *socket, const void *address, size_t size)
{
    struct sockaddr_in6 in6 = { 0 };
    struct sockaddr_in in = { 0 };
    struct sockaddr_un un = { 0 };

    if (socket->remote || size < sizeof(sa_family_t) || size > sizeof un)
        return;
    memcpy(&un, address, size);
    memcpy(&in6, address, size < sizeof in6 ? size : sizeof in6);
    memcpy(&in, address, size < sizeof in ? size : sizeof in);
    if (un.sun_family == AF_UNIX)
        socket->remote = address_text(&un, (socklen_t) size);
    else if (un.sun_family == AF_INET && size >= sizeof in)
        socket->remote = inet_text(AF_INET, (const void *) &in.sin_addr, ntohs(in.sin_port));
    else if (un.sun_family == AF_INET6 && size >= sizeof in6)
        socket->remote = inet_text(AF_INET6, (const void *) &in6.sin6_addr, ntohs(in6.sin6_port));
}

/* What was connected once and is not any more keeps its name. */
void inspect_identify(struct thing *socket, int borrowed)
{
    struct fin_identity identity = FIN_IDENTITY_INIT;

    if (fin_identify(borrowed, &identity) < 0 || identity.inode != socket->inode)
        return;
    socket->family = identity.family;
    socket->type = identity.type;
    socket->protocol = identity.protocol;
    if (socket->known && socket->connected)
        return;
    socket->known = true;
    socket->identity = identity;
    if (identity.family == AF_UNIX)
        take_unix_addresses(socket, borrowed);
    else if (identity.family == AF_INET || identity.family == AF_INET6)
        take_inet_addresses(socket);
}

/* sock_diag(7) finds no socket any more that both ends have shut. */
void inspect_connected(struct thing *socket, int borrowed, struct fin_kernel *kernel)
{
    struct fin_state state = FIN_STATE_INIT;

    inspect_identify(socket, borrowed);
    if (socket->known && socket->protocol == IPPROTO_TCP && socket->family != AF_UNIX)
        (void) fin_inspect(kernel, &socket->identity, &state);
}

/* ---- before a close ---- */

static uint64_t queue_size(int fd, unsigned long request)
{
    int bytes = 0;

    return ioctl(fd, request, &bytes) < 0 || bytes < 0 ? 0 : (uint64_t) bytes;
}

static void look_at_tcp(struct thing *socket, int fd)
{
    struct tcp_info info = { 0 };
    socklen_t size = sizeof info;

    if (getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &size) == 0)
        socket->tcp_state = info.tcpi_state;
    if (info.tcpi_state == TCP_LISTEN)
        socket->listening = true;
    else
        socket->unacked = queue_size(fd, SIOCOUTQ);
}

static bool is_same(const struct thing *socket, int fd)
{
    struct stat st;

    return fstat(fd, &st) == 0 && st.st_ino == socket->inode;
}

void inspect_before_close(struct thing *socket, int borrowed, struct fin_kernel *kernel)
{
    struct linger linger = { 0 };
    socklen_t size = sizeof linger;

    if (!socket->identity.confirmed)
        inspect_connected(socket, borrowed, kernel);
    if (!socket->known || !is_same(socket, borrowed))
        return;
    socket->looked = true;
    if (socket->type == SOCK_STREAM || socket->type == SOCK_SEQPACKET)
        socket->unread = queue_size(borrowed, SIOCINQ);
    if (getsockopt(borrowed, SOL_SOCKET, SO_LINGER, &linger, &size) == 0)
        socket->reset = linger.l_onoff && linger.l_linger == 0;
    if (socket->protocol == IPPROTO_TCP && socket->family != AF_UNIX)
        look_at_tcp(socket, borrowed);
}

/* CLOSE_WAIT, or what a reset has left. */
static bool tcp_peer_ended(struct thing *socket, int fd, uint64_t *ago_ns)
{
    struct tcp_info info = { 0 };
    socklen_t size = sizeof info;

    if (getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &size) < 0)
        return false;
    *ago_ns = info.tcpi_last_ack_recv * 1000000ull;
    socket->now = info.tcpi_state;
    return info.tcpi_state == TCP_CLOSE_WAIT || (info.tcpi_state == TCP_CLOSE && socket->connected);
}

bool inspect_peer_ended(struct thing *socket, int borrowed, uint64_t *ago_ns)
{
    struct pollfd poller = { .fd = borrowed, .events = POLLRDHUP };
    bool ended = false;

    *ago_ns = 0;
    if (!is_same(socket, borrowed))
        return false;
    inspect_identify(socket, borrowed);
    if (socket->protocol == IPPROTO_TCP && socket->family != AF_UNIX)
        ended = tcp_peer_ended(socket, borrowed, ago_ns);
    else if (socket->family == AF_UNIX && socket->type == SOCK_STREAM && socket->connected)
        ended = poll(&poller, 1, 0) > 0 && poller.revents & POLLHUP;
    if (ended)
        socket->unread = queue_size(borrowed, SIOCINQ);
    return ended;
}

/* ---- all of a process ---- */

int inspect_through(pid_t tid, void (*visit)(int fd, const struct fin__link *link, void *arg),
                    void *arg)
{
    struct fin__folder fds;
    struct fin__link link;
    int32_t fd;
    int result = fin__fds_open(&fds, tid);

    if (result < 0)
        return result;
    while (fin__folder_next(&fds, &fd) > 0)
        if (fin__link_read(&fds, fd, &link) == 0
            && (link.kind == FIN__LINK_SOCKET || link.kind == FIN__LINK_EPOLL))
            visit(fd, &link, arg);
    fin__folder_close(&fds);
    return 0;
}

pid_t inspect_tgid(const char *status)
{
    const char *line = strstr(status, "\nTgid:");

    return line ? (pid_t) strtol(line + strlen("\nTgid:"), NULL, 10) : 0;
}

pid_t inspect_process(pid_t tid)
{
    char text[512];
    pid_t pid = 0;

    if (read_proc(text, sizeof text, "/proc/%d/status", (int) tid) > 0)
        pid = inspect_tgid(text);
    return pid > 0 ? pid : tid;
}
