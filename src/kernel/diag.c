/* SPDX-License-Identifier: MIT */

#include "kernel/diag.h"

#include "base/again.h"
#include "kernel/netlink.h"

#include <errno.h>
#include <libmnl/libmnl.h>
#include <linux/inet_diag.h>
#include <linux/sock_diag.h>
#include <linux/unix_diag.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/socket.h>

/* What the kernel puts into one datagram (NLMSG_GOODSIZE) where pages have 4 KiB; with larger ones
 * a long dump may not fit, which is an error. */
#define REPLY_SIZE 4096

#define REPLIES_MAX (1 << 16) /* of about 30 sockets each */

int fin__diag_open(struct fin__diag *diag)
{
    return fin__netlink_open(&diag->socket);
}

void fin__diag_close(struct fin__diag *diag)
{
    fin__netlink_close(diag->socket);
    diag->socket = NULL;
}

static int send_request(struct fin__diag *diag, struct nlmsghdr *request, uint16_t flags)
{
    request->nlmsg_type = SOCK_DIAG_BY_FAMILY;
    request->nlmsg_flags = (uint16_t) (NLM_F_REQUEST | flags);
    request->nlmsg_seq = ++diag->sequence;
    return mnl_socket_sendto(diag->socket, request, request->nlmsg_len) < 0 ? -errno : 0;
}

/* Receives replies and gives each to `take` until the kernel says that it was the last one. The
 * kernel answers inside sendto(2), so nothing is waited for. */
static int diag_receive(struct fin__diag *diag, mnl_cb_t take, void *arg)
{
    union {
        char bytes[REPLY_SIZE];
        struct nlmsghdr align;
    } reply;
    unsigned port = mnl_socket_get_portid(diag->socket);
    int result = MNL_CB_OK, tries = 0;
    ssize_t n;

    for (int i = 0; i < REPLIES_MAX && result > MNL_CB_STOP; i++) {
        do
            n = mnl_socket_recvfrom(diag->socket, reply.bytes, sizeof reply.bytes);
        while (fin__again(n, &tries));
        if (n < 0)
            return -errno;
        result = fin__netlink_run(reply.bytes, (size_t) n, diag->sequence, port, take, arg);
    }
    if (result > MNL_CB_STOP)
        return -EPROTO; /* and no end of it */
    return result;
}

/* ---- TCP and UDP ---- */

static void put_end(const struct fin_identity *id, struct inet_diag_sockid *to, bool swapped)
{
    memcpy(swapped ? to->idiag_dst : to->idiag_src, id->local, sizeof id->local);
    memcpy(swapped ? to->idiag_src : to->idiag_dst, id->remote, sizeof id->remote);
    *(swapped ? &to->idiag_dport : &to->idiag_sport) = htons(id->local_port);
    *(swapped ? &to->idiag_sport : &to->idiag_dport) = htons(id->remote_port);
    to->idiag_if = id->interface;
    to->idiag_cookie[0] = (uint32_t) id->cookie;
    to->idiag_cookie[1] = (uint32_t) (id->cookie >> 32);
}

static struct nlmsghdr *inet_request(const struct fin_identity *id, char *buf)
{
    struct nlmsghdr *request = mnl_nlmsg_put_header(buf);
    struct inet_diag_req_v2 *question = mnl_nlmsg_put_extra_header(request, sizeof *question);

    question->sdiag_family = (uint8_t) id->family;
    question->sdiag_protocol = (uint8_t) id->protocol;
    question->idiag_states = UINT32_MAX;
    /* udp_diag's look-up takes the receiver's view: our own address is the destination. */
    put_end(id, &question->id, id->protocol == IPPROTO_UDP);
    return request;
}

static int take_inet(const struct nlmsghdr *reply, void *arg)
{
    const struct inet_diag_msg *found = mnl_nlmsg_get_payload(reply);
    struct fin_state *state = arg;

    if (mnl_nlmsg_get_payload_len(reply) < sizeof *found) {
        errno = EPROTO;
        return MNL_CB_ERROR;
    }
    state->tcp_state = found->idiag_state;
    state->timer = found->idiag_timer;
    state->timer_ms = found->idiag_expires;
    state->inode = found->idiag_inode;
    state->receive_queue = found->idiag_rqueue;
    state->send_queue = found->idiag_wqueue;
    return MNL_CB_STOP;
}

/* ---- Unix ---- */

struct unix_answer {
    struct fin_state *state;
    bool has_peer;
    uint32_t peer;
};

static struct nlmsghdr *unix_request(const struct fin_identity *id, char *buf)
{
    struct nlmsghdr *request = mnl_nlmsg_put_header(buf);
    struct unix_diag_req *question = mnl_nlmsg_put_extra_header(request, sizeof *question);

    question->sdiag_family = AF_UNIX;
    question->udiag_states = UINT32_MAX;
    question->udiag_ino = (uint32_t) id->inode;
    question->udiag_show = UDIAG_SHOW_PEER | UDIAG_SHOW_RQLEN;
    question->udiag_cookie[0] = (uint32_t) id->cookie;
    question->udiag_cookie[1] = (uint32_t) (id->cookie >> 32);
    return request;
}

static int take_unix_attribute(const struct nlattr *attribute, void *arg)
{
    struct unix_answer *answer = arg;
    uint16_t type = mnl_attr_get_type(attribute);

    if (type == UNIX_DIAG_PEER && mnl_attr_validate(attribute, MNL_TYPE_U32) >= 0) {
        answer->has_peer = true;
        answer->peer = mnl_attr_get_u32(attribute);
    }
    if (type == UNIX_DIAG_RQLEN
        && mnl_attr_get_payload_len(attribute) >= sizeof(struct unix_diag_rqlen)) {
        const struct unix_diag_rqlen *queues = mnl_attr_get_payload(attribute);

        answer->state->receive_queue = queues->udiag_rqueue;
        answer->state->send_queue = queues->udiag_wqueue;
    }
    return MNL_CB_OK;
}

static int take_unix(const struct nlmsghdr *reply, void *arg)
{
    const struct unix_diag_msg *found = mnl_nlmsg_get_payload(reply);
    struct unix_answer *answer = arg;

    if (mnl_nlmsg_get_payload_len(reply) < sizeof *found) {
        errno = EPROTO;
        return MNL_CB_ERROR;
    }
    answer->state->tcp_state = found->udiag_state;
    answer->state->inode = found->udiag_ino;
    if (mnl_attr_parse(reply, sizeof *found, take_unix_attribute, arg) < 0)
        return MNL_CB_ERROR;
    return MNL_CB_STOP;
}

/* ---- questions ---- */

static bool has_table(const struct fin_identity *id)
{
    bool inet = id->family == AF_INET || id->family == AF_INET6;

    return id->family == AF_UNIX
        || (inet && (id->protocol == IPPROTO_TCP || id->protocol == IPPROTO_UDP));
}

static int diag_ask(struct fin__diag *diag, const struct fin_identity *id,
                    struct unix_answer *answer)
{
    union {
        char bytes[256];
        struct nlmsghdr align;
    } buf;
    bool is_unix = id->family == AF_UNIX;
    struct nlmsghdr *request;
    int result;

    if (!diag->socket || !has_table(id))
        return -EOPNOTSUPP;
    request = is_unix ? unix_request(id, buf.bytes) : inet_request(id, buf.bytes);
    result = send_request(diag, request, 0);
    if (result < 0)
        return result;
    return is_unix ? diag_receive(diag, take_unix, answer)
                   : diag_receive(diag, take_inet, answer->state);
}

int fin__diag_ask(struct fin__diag *diag, const struct fin_identity *id, struct fin_state *state)
{
    struct unix_answer answer = { .state = state };

    return diag_ask(diag, id, &answer);
}

int fin__diag_unix_peer_gone(struct fin__diag *diag, const struct fin_identity *id)
{
    struct fin_state state = FIN_STATE_INIT;
    struct unix_answer answer = { .state = &state };
    int result = diag_ask(diag, id, &answer);

    if (result < 0)
        return result;
    return !answer.has_peer || answer.peer == 0; /* inode 0: the peer's struct sock is orphaned */
}

static int count(const struct nlmsghdr *reply, void *arg)
{
    int *found = arg;

    (void) reply;
    *found = 1;
    return MNL_CB_OK;
}

int fin__diag_half_open(struct fin__diag *diag, const struct fin_identity *id)
{
    union {
        char bytes[256];
        struct nlmsghdr align;
    } buf;
    struct inet_diag_req_v2 *question;
    struct nlmsghdr *request;
    int found = 0, result;

    if (!diag->socket || !has_table(id) || id->family == AF_UNIX)
        return -EOPNOTSUPP;
    request = inet_request(id, buf.bytes);
    question = mnl_nlmsg_get_payload(request);
    question->idiag_states = 1u << TCP_SYN_RECV;
    question->id.idiag_dport = 0;
    question->id.idiag_cookie[0] = question->id.idiag_cookie[1] = INET_DIAG_NOCOOKIE;
    result = send_request(diag, request, NLM_F_DUMP);
    if (result == 0)
        result = diag_receive(diag, count, &found);
    return result < 0 ? result : found;
}
