/* SPDX-License-Identifier: MIT */

#include "sockets/dump.h"

#include "kernel/netlink.h"

#include <errno.h>
#include <libmnl/libmnl.h>
#include <linux/inet_diag.h>
#include <linux/sock_diag.h>
#include <linux/tcp.h>
#include <linux/unix_diag.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

/* The kernel fills at most 32 KiB of it at a time. */
#define REPLY_SIZE 65536

/* ---- inet ---- */

static const void *payload(const struct nlattr *attribute, size_t *size)
{
    *size = mnl_attr_get_payload_len(attribute);
    return mnl_attr_get_payload(attribute);
}

/* An older kernel tells less. */
static void take_tcp_info(const struct nlattr *attribute, struct socket *s)
{
    struct tcp_info info = { 0 };
    size_t size;
    const void *from = payload(attribute, &size);

    memcpy(&info, from, size < sizeof info ? size : sizeof info);
    s->has_tcp = true;
    s->tcp.last_sent = info.tcpi_last_data_sent;
    s->tcp.last_received = info.tcpi_last_data_recv;
    s->tcp.last_acked = info.tcpi_last_ack_recv;
    s->tcp.received = info.tcpi_bytes_received;
    s->tcp.acked = info.tcpi_bytes_acked;
}

static int take_inet_attribute(const struct nlattr *attribute, void *arg)
{
    struct socket *s = arg;

    if (mnl_attr_get_type(attribute) == INET_DIAG_INFO && s->protocol == PROTOCOL_TCP)
        take_tcp_info(attribute, s);
    return MNL_CB_OK;
}

static void take_inet_message(const struct inet_diag_msg *found, struct socket *s)
{
    s->family = found->idiag_family;
    s->state = socket_state(found->idiag_state);
    s->timer = found->idiag_timer;
    s->retries = found->idiag_retrans;
    s->local_port = ntohs(found->id.idiag_sport);
    s->remote_port = ntohs(found->id.idiag_dport);
    memcpy(s->local, found->id.idiag_src, sizeof s->local);
    memcpy(s->remote, found->id.idiag_dst, sizeof s->remote);
    s->interface = found->id.idiag_if;
    s->uid = found->idiag_uid;
    s->tcp.timer_ms = found->idiag_expires;
    s->receive_queue = found->idiag_rqueue;
    s->send_queue = found->idiag_wqueue;
    s->inode = found->idiag_inode;
    s->cookie = found->id.idiag_cookie[0] | (uint64_t) found->id.idiag_cookie[1] << 32;
}

struct taking {
    struct dump *dump;
    enum protocol protocol;
    struct socket *socket; /* at hand */
};

static struct socket *dump_add(struct taking *t)
{
    struct dump *dump = t->dump;
    struct socket s = { .protocol = t->protocol, .listed = true, .netns = dump->netns };

    return list_add(&dump->sockets, s) < 0 ? NULL : &dump->sockets.at[dump->sockets.count - 1];
}

static int dump_fail(int error)
{
    errno = error;
    return MNL_CB_ERROR;
}

static int take_inet(const struct nlmsghdr *reply, void *arg)
{
    const struct inet_diag_msg *found = mnl_nlmsg_get_payload(reply);
    struct taking *t = arg;
    struct socket *s;

    if (mnl_nlmsg_get_payload_len(reply) < sizeof *found)
        return dump_fail(EPROTO);
    s = dump_add(t);
    if (!s)
        return dump_fail(ENOMEM);
    s->type = t->protocol == PROTOCOL_TCP ? SOCK_STREAM : SOCK_DGRAM;
    take_inet_message(found, s);
    return mnl_attr_parse(reply, sizeof *found, take_inet_attribute, s);
}

/* ---- Unix ---- */

static int take_name(struct dump *dump, const struct nlattr *attribute, struct socket *s)
{
    size_t size;
    const char *from = payload(attribute, &size);
    bool abstract = size > 0 && !from[0]; /* then any byte may be zero */

    if (size == 0 || dump->names.count + size > UINT32_MAX)
        return 0;
    if (list_need(&dump->names, size + 2) < 0)
        return -ENOMEM;
    if (dump->names.count == 0)
        dump->names.at[dump->names.count++] = '\0';
    s->name = (uint32_t) dump->names.count;
    for (size_t i = 0; i < size && (from[i] || abstract); i++)
        dump->names.at[dump->names.count++] = from[i] ? from[i] : '@';
    dump->names.at[dump->names.count++] = '\0';
    return 0;
}

static void take_queues(const struct nlattr *attribute, struct socket *s)
{
    struct unix_diag_rqlen queues = { 0, 0 };
    size_t size;
    const void *from = payload(attribute, &size);

    if (size < sizeof queues)
        return;
    memcpy(&queues, from, sizeof queues);
    s->receive_queue = queues.udiag_rqueue;
    s->send_queue = queues.udiag_wqueue;
}

static int take_unix_attribute(const struct nlattr *attribute, void *arg)
{
    struct taking *t = arg;

    switch (mnl_attr_get_type(attribute)) {
    case UNIX_DIAG_NAME:
        return take_name(t->dump, attribute, t->socket) < 0 ? dump_fail(ENOMEM) : MNL_CB_OK;
    case UNIX_DIAG_PEER:
        if (mnl_attr_validate(attribute, MNL_TYPE_U32) >= 0)
            t->socket->peer = mnl_attr_get_u32(attribute);
        break;
    case UNIX_DIAG_RQLEN:
        take_queues(attribute, t->socket);
        break;
    case UNIX_DIAG_SHUTDOWN:
        if (mnl_attr_get_payload_len(attribute) > 0)
            t->socket->shut = mnl_attr_get_u8(attribute);
        break;
    case UNIX_DIAG_UID:
        if (mnl_attr_validate(attribute, MNL_TYPE_U32) >= 0)
            t->socket->uid = mnl_attr_get_u32(attribute);
        break;
    default:
        break;
    }
    return MNL_CB_OK;
}

static int take_unix(const struct nlmsghdr *reply, void *arg)
{
    const struct unix_diag_msg *found = mnl_nlmsg_get_payload(reply);
    struct taking *t = arg;
    struct socket *s;

    if (mnl_nlmsg_get_payload_len(reply) < sizeof *found)
        return dump_fail(EPROTO);
    s = t->socket = dump_add(t);
    if (!s)
        return dump_fail(ENOMEM);
    s->family = AF_UNIX;
    s->type = found->udiag_type;
    s->state = socket_state(found->udiag_state);
    s->inode = found->udiag_ino;
    s->cookie = found->udiag_cookie[0] | (uint64_t) found->udiag_cookie[1] << 32;
    return mnl_attr_parse(reply, sizeof *found, take_unix_attribute, t);
}

/* ---- a dump ---- */

static struct nlmsghdr *dump_begin(char *buf)
{
    struct nlmsghdr *request = mnl_nlmsg_put_header(buf);

    request->nlmsg_type = SOCK_DIAG_BY_FAMILY;
    request->nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP;
    return request;
}

static struct nlmsghdr *inet_request(char *buf, int family, int protocol)
{
    struct nlmsghdr *request = dump_begin(buf);
    struct inet_diag_req_v2 *question = mnl_nlmsg_put_extra_header(request, sizeof *question);

    question->sdiag_family = (uint8_t) family;
    question->sdiag_protocol = (uint8_t) protocol;
    question->idiag_states = UINT32_MAX;
    if (protocol == IPPROTO_TCP)
        question->idiag_ext = 1u << (INET_DIAG_INFO - 1);
    return request;
}

static struct nlmsghdr *unix_request(char *buf)
{
    struct nlmsghdr *request = dump_begin(buf);
    struct unix_diag_req *question = mnl_nlmsg_put_extra_header(request, sizeof *question);

    question->sdiag_family = AF_UNIX;
    question->udiag_states = UINT32_MAX;
    question->udiag_show = UDIAG_SHOW_NAME | UDIAG_SHOW_PEER | UDIAG_SHOW_RQLEN | UDIAG_SHOW_UID;
    return request;
}

static int dump_receive(struct mnl_socket *netlink, unsigned sequence, mnl_cb_t take,
                        struct taking *taking)
{
    static union {
        char bytes[REPLY_SIZE];
        struct nlmsghdr align;
    } reply;
    unsigned port = mnl_socket_get_portid(netlink);
    int result = MNL_CB_OK;
    ssize_t n;

    while (result > MNL_CB_STOP) {
        n = mnl_socket_recvfrom(netlink, reply.bytes, sizeof reply.bytes);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -errno;
        result = fin__netlink_run(reply.bytes, (size_t) n, sequence, port, take, taking);
    }
    return result < 0 ? result : 0;
}

static int dump_ask(struct mnl_socket *netlink, struct nlmsghdr *request, mnl_cb_t take,
                    struct taking *taking)
{
    static unsigned sequence;

    request->nlmsg_seq = ++sequence;
    if (mnl_socket_sendto(netlink, request, request->nlmsg_len) < 0)
        return -errno;
    return dump_receive(netlink, sequence, take, taking);
}

static int dump_inet(struct mnl_socket *netlink, struct taking *taking)
{
    static const int families[] = { AF_INET, AF_INET6 };
    int number = taking->protocol == PROTOCOL_TCP ? IPPROTO_TCP : IPPROTO_UDP, result = 0;
    _Alignas(8) char buf[256];

    for (size_t i = 0; i < 2 && result == 0; i++)
        result = dump_ask(netlink, inet_request(buf, families[i], number), take_inet, taking);
    return result;
}

static int dump_unix(struct mnl_socket *netlink, struct taking *taking)
{
    _Alignas(8) char buf[256];

    return dump_ask(netlink, unix_request(buf), take_unix, taking);
}

/* The module of a protocol's sock_diag may be missing, or a filter may forbid it. */
static bool is_refusal(int result)
{
    return result == -ENOENT || result == -EPERM || result == -EACCES || result == -EOPNOTSUPP
        || result == -EINVAL;
}

int dump_sockets(struct dump *dump)
{
    struct mnl_socket *netlink = mnl_socket_open2(NETLINK_SOCK_DIAG, SOCK_CLOEXEC);
    struct taking taking = { .dump = dump };
    int result = 0;

    if (!netlink)
        return -errno;
    if (mnl_socket_bind(netlink, 0, MNL_SOCKET_AUTOPID) < 0)
        result = -errno;
    for (int p = 0; p < PROTOCOLS && result == 0; p++) {
        taking.protocol = (enum protocol) p;
        result = p == PROTOCOL_UNIX ? dump_unix(netlink, &taking) : dump_inet(netlink, &taking);
        if (is_refusal(result)) {
            dump->refused |= 1u << p;
            result = 0;
        }
    }
    (void) mnl_socket_close(netlink);
    return result;
}

void dump_free(struct dump *dump)
{
    free(dump->sockets.at);
    free(dump->names.at);
    *dump = (struct dump) { .names.at = NULL };
}
