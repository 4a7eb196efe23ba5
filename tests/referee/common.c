/* SPDX-License-Identifier: MIT */

#include "common.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/inet_diag.h>
#include <linux/netlink.h>
#include <linux/sock_diag.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/un.h>
#include <unistd.h>

#ifndef IPPROTO_MPTCP
#define IPPROTO_MPTCP 262
#endif

void broken(const char *file, int line, const char *what)
{
    (void) fprintf(stderr, "referee: %s:%d: %s: %s\n", file, line, what, strerror(errno));
    _exit(99);
}

pid_t fork_mortal(void)
{
    pid_t parent = getpid(), pid = fork();

    must(pid >= 0, "fork");
    if (pid == 0) {
        (void) prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (getppid() != parent)
            _exit(0);
    }
    return pid;
}

static int family_of(const struct scene *scene)
{
    if (scene->v[KIND] == LISTENER_UNIX)
        return AF_UNIX;
    return scene->v[KIND] == TCP6 ? AF_INET6 : AF_INET;
}

void address_make(const struct scene *scene, uint64_t host, struct sockaddr_storage *address,
                  socklen_t *size)
{
    struct sockaddr_in *v4 = (struct sockaddr_in *) address;
    struct sockaddr_in6 *v6 = (struct sockaddr_in6 *) address;

    memset(address, 0, sizeof *address);
    address->ss_family = (sa_family_t) family_of(scene);
    if (address->ss_family == AF_UNIX) {
        *size = sizeof(sa_family_t); /* autobind: an abstract address of the kernel's choice */
    } else if (address->ss_family == AF_INET6) {
        v6->sin6_addr = in6addr_loopback;
        *size = sizeof *v6;
    } else { /* 127.1.0.0 and up: ports in TIME_WAIT are not used up */
        v4->sin_addr.s_addr =
            scene->v[FAULT] ? htonl(0x0a090202) : htonl(0x7f010001 + (uint32_t) (host % 0xf00000));
        *size = sizeof *v4;
    }
}

int socket_bound(const struct scene *scene, struct sockaddr *address, socklen_t *size)
{
    bool mptcp = scene->v[KIND] == MPTCP || scene->v[KIND] == LISTENER_MPTCP;
    int type = scene->v[KIND] == UDP ? SOCK_DGRAM : SOCK_STREAM;
    int fd = socket(address->sa_family, type | SOCK_CLOEXEC, mptcp ? IPPROTO_MPTCP : 0);

    must(fd >= 0, "socket");
    must(bind(fd, address, *size) == 0, "bind");
    *size = sizeof(struct sockaddr_storage);
    must(getsockname(fd, address, size) == 0, "getsockname");
    return fd;
}

int receive_descriptor(int control)
{
    char byte, room[CMSG_SPACE(sizeof(int))];
    struct iovec part = { &byte, 1 };
    struct msghdr message = { NULL, 0, &part, 1, room, sizeof room, 0 };
    struct cmsghdr *header;
    int fd = -1;

    must(recvmsg(control, &message, MSG_CMSG_CLOEXEC) == 1, "the peer");
    header = CMSG_FIRSTHDR(&message);
    if (header)
        memcpy(&fd, CMSG_DATA(header), sizeof fd);
    return fd;
}

void descriptors_take(struct descriptors *set)
{
    for (int i = 0; i < DESCRIPTORS; i++)
        set->open[i] = fcntl(i, F_GETFD) >= 0;
}

/* ---- sock_diag ---- */

static void put_address(struct inet_diag_req_v2 *ask, const struct sockaddr_storage *ours,
                        const struct sockaddr_storage *theirs)
{
    ask->sdiag_family = (uint8_t) ours->ss_family;
    if (ours->ss_family == AF_INET6) {
        const struct sockaddr_in6 *a = (const void *) ours, *b = (const void *) theirs;

        ask->id.idiag_sport = a->sin6_port;
        ask->id.idiag_dport = b->sin6_port;
        memcpy(ask->id.idiag_src, &a->sin6_addr, 16);
        memcpy(ask->id.idiag_dst, &b->sin6_addr, 16);
    } else {
        const struct sockaddr_in *a = (const void *) ours, *b = (const void *) theirs;

        ask->id.idiag_sport = a->sin_port;
        ask->id.idiag_dport = b->sin_port;
        memcpy(ask->id.idiag_src, &a->sin_addr, 4);
        memcpy(ask->id.idiag_dst, &b->sin_addr, 4);
    }
}

int diag_state(const struct sockaddr_storage *ours, const struct sockaddr_storage *theirs)
{
    struct {
        struct nlmsghdr header;
        struct inet_diag_req_v2 ask;
    } request = { { sizeof request, SOCK_DIAG_BY_FAMILY, NLM_F_REQUEST, 1, 0 },
                  { .sdiag_protocol = IPPROTO_TCP,
                    .idiag_states = UINT32_MAX,
                    .id.idiag_cookie = { INET_DIAG_NOCOOKIE, INET_DIAG_NOCOOKIE } } };
    union {
        struct nlmsghdr header;
        char bytes[4096];
    } reply;
    int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_SOCK_DIAG), state = -1;

    put_address(&request.ask, ours, theirs);
    if (send(fd, &request, sizeof request, 0) == (ssize_t) sizeof request
        && recv(fd, &reply, sizeof reply, 0) >= (ssize_t) sizeof reply.header) {
        if (reply.header.nlmsg_type == SOCK_DIAG_BY_FAMILY)
            state = ((struct inet_diag_msg *) NLMSG_DATA(&reply.header))->idiag_state;
        else if (((struct nlmsgerr *) NLMSG_DATA(&reply.header))->error == -ENOENT)
            state = 0;
    }
    (void) close(fd);
    return state;
}
