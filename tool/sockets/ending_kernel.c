/* SPDX-License-Identifier: MIT */

#include "kernel/netlink.h"
#include "kernel/proc.h"
#include "sockets/dump.h"
#include "sockets/ending.h"
#include "sockets/netns.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/inet_diag.h>
#include <linux/sock_diag.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>

/* Does something where the process has its network. */
static int in_its_namespace(struct ending *e, int (*act)(struct ending *e))
{
    struct netns_list list;
    const struct netns *space;
    int result = netns_list_make(NULL, &list) ? -EPERM : netns_list_add_process(&list, e->pid);

    if (result == 0) {
        space = &list.spaces.at[list.spaces.count - 1];
        result = netns_enter(space);
        if (result == 0)
            result = act(e);
        if (result != -ENOMEM && netns_leave(&list, space) < 0)
            abort();
    }
    netns_list_free(&list);
    return result;
}

/* ---- which it is ---- */

static int link_of(int32_t pid, int32_t fd, uint64_t *inode)
{
    struct fin__folder fds;
    struct fin__link link;
    int result = fin__fds_open(&fds, pid);

    if (result < 0)
        return result;
    result = fin__link_read(&fds, fd, &link);
    fin__folder_close(&fds);
    if (result < 0)
        return result == -ENOENT ? -EBADF : result;
    *inode = link.inode;
    return link.kind == FIN__LINK_SOCKET ? 0 : -ENOTSOCK;
}

static void take_found(struct ending *e, const struct socket *s)
{
    struct fin_identity *id = &e->identity;

    id->family = s->family;
    id->type = s->type;
    id->protocol = IPPROTO_TCP;
    id->cookie = s->cookie;
    id->local_port = s->local_port;
    id->remote_port = s->remote_port;
    memcpy(id->local, s->local, sizeof s->local);
    memcpy(id->remote, s->remote, sizeof s->remote);
    id->interface = s->interface;
    e->state = s->state;
}

/* By the inode that is in the identity. */
static int find(struct ending *e)
{
    struct dump dump = { .netns = 0 };
    int result = dump_sockets(&dump), found = -EOPNOTSUPP;

    for (size_t i = 0; result == 0 && i < dump.sockets.count; i++) {
        const struct socket *s = &dump.sockets.at[i];

        if (s->inode != e->identity.inode || s->protocol != PROTOCOL_TCP)
            continue;
        take_found(e, s);
        found = s->state == STATE_LISTEN || s->state == STATE_CLOSE ? -EOPNOTSUPP : 0;
    }
    dump_free(&dump);
    return result < 0 ? result : found;
}

int ending_find(struct ending *e, int32_t pid, int32_t fd, uint64_t socket)
{
    int result;

    *e = (struct ending) { .copy = -1, .pid = pid, .identity = FIN_IDENTITY_INIT };
    result = link_of(pid, fd, &e->identity.inode);
    if (result == 0)
        result = in_its_namespace(e, find);
    if (result == 0 && socket && e->identity.cookie != socket)
        result = -ESTALE;
    if (result == 0)
        ending_describe(e, pid, fd, e->state);
    return result;
}

/* ---- SOCK_DESTROY ---- */

static struct nlmsghdr *destroy_request(const struct ending *e, char *buf)
{
    const struct fin_identity *id = &e->identity;
    struct nlmsghdr *request = mnl_nlmsg_put_header(buf);
    struct inet_diag_req_v2 *question;

    request->nlmsg_type = SOCK_DESTROY;
    request->nlmsg_flags = NLM_F_REQUEST | NLM_F_ACK;
    request->nlmsg_seq = 1;
    question = mnl_nlmsg_put_extra_header(request, sizeof *question);
    question->sdiag_family = (uint8_t) id->family;
    question->sdiag_protocol = IPPROTO_TCP;
    question->idiag_states = UINT32_MAX;
    question->id.idiag_sport = htons(id->local_port);
    question->id.idiag_dport = htons(id->remote_port);
    memcpy(question->id.idiag_src, id->local, sizeof question->id.idiag_src);
    memcpy(question->id.idiag_dst, id->remote, sizeof question->id.idiag_dst);
    question->id.idiag_if = id->interface;
    question->id.idiag_cookie[0] = (uint32_t) id->cookie;
    question->id.idiag_cookie[1] = (uint32_t) (id->cookie >> 32);
    return request;
}

/* The kernel compares the cookie, so that no other socket is touched. */
static int destroy(struct ending *e)
{
    _Alignas(8) char buf[1024];
    const struct nlmsghdr *request = destroy_request(e, buf);
    struct mnl_socket *netlink;
    ssize_t n;
    int result = fin__netlink_open(&netlink);

    if (result < 0)
        return result;
    if (mnl_socket_sendto(netlink, request, request->nlmsg_len) < 0) {
        result = -errno;
    } else {
        n = mnl_socket_recvfrom(netlink, buf, sizeof buf);
        result = n < 0
            ? -errno
            : fin__netlink_run(buf, (size_t) n, 1, mnl_socket_get_portid(netlink), NULL, NULL);
    }
    fin__netlink_close(netlink);
    return result < 0 ? result : 0;
}

int ending_destroy(struct ending *e)
{
    return in_its_namespace(e, destroy);
}
