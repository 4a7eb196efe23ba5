/* SPDX-License-Identifier: MIT */

#include "close/endpoint.h"

#include "close/listener.h"
#include "close/read.h"

#include <errno.h>
#include <linux/sockios.h>
#include <linux/tcp.h>
#include <netinet/in.h>
#include <poll.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>

/* Kernel values of tcpi_state (include/net/tcp_states.h). */
enum tcp_state {
    ESTABLISHED = 1,
    SYN_SENT,
    SYN_RECV,
    FIN_WAIT1,
    FIN_WAIT2,
    TIME_WAIT,
    CLOSED,
    CLOSE_WAIT,
    LAST_ACK,
    LISTEN,
    CLOSING,
};

#ifndef IPPROTO_MPTCP
#define IPPROTO_MPTCP 262
#endif

#define DISCONNECT_TRIES 3

static int tcp_info(int fd, struct tcp_info *info)
{
    socklen_t size = sizeof *info;

    memset(info, 0, sizeof *info); /* an older kernel fills less */
    return getsockopt(fd, IPPROTO_TCP, TCP_INFO, info, &size) < 0 ? -errno : 0;
}

static int option(int fd, int name, int *value)
{
    socklen_t size = sizeof *value;

    return getsockopt(fd, SOL_SOCKET, name, value, &size) < 0 ? -errno : 0;
}

/* 1, 0, or a negative errno: not to be known. */
static int is_connected(int fd)
{
    struct sockaddr_storage address;
    socklen_t size = sizeof address;

    if (getpeername(fd, (struct sockaddr *) &address, &size) == 0)
        return 1;
    return errno == ENOTCONN ? 0 : -errno;
}

/* ---- examine ---- */

/* State CLOSE is also that of a connection that has ended. */
static bool never_connected(const struct tcp_info *info)
{
    return info->tcpi_state == CLOSED && info->tcpi_segs_in == 0 && info->tcpi_segs_out == 0;
}

static int examine_tcp(struct fin__endpoint *ep, const struct tcp_info *info, bool follows)
{
    int protocol = IPPROTO_TCP, listening = info->tcpi_state == LISTEN;

    ep->family = AF_INET;
    ep->traits = FIN__SOCKET;
    ep->plain_tcp = true;
    if (follows && option(ep->fd, SO_PROTOCOL, &protocol) == 0 && protocol == IPPROTO_MPTCP) {
        ep->plain_tcp = false;
        ep->traits |= FIN__ACK_UNKNOWN;
        (void) option(ep->fd, SO_ACCEPTCONN, &listening);
    }
    if (listening)
        ep->traits |= FIN__LISTENING;
    else if (info->tcpi_state == SYN_SENT)
        ep->traits |= FIN__CONNECTING;
    else if (!never_connected(info))
        ep->traits |= FIN__STREAM;
    if (info->tcpi_unacked || info->tcpi_notsent_bytes)
        ep->facts |= FIN__IS_OUTSTANDING;
    return 0;
}

static bool peer_has_shut(int fd)
{
    struct pollfd entry = { .fd = fd, .events = POLLRDHUP };

    return poll(&entry, 1, 0) > 0 && entry.revents & POLLRDHUP;
}

/* RDHUP before the close began: the peer's end, or a shutdown(SHUT_RD) of the program's own? */
static bool may_be_our_own_end(struct fin_kernel *kernel, int fd)
{
    struct fin_identity id = FIN_IDENTITY_INIT;

    if (!peer_has_shut(fd))
        return false;
    if (fin_identify(fd, &id) < 0 || fin__kernel_need_diag(kernel) < 0)
        return true;
    return fin__diag_unix_peer_gone(&kernel->diag, &id) != 1;
}

static int examine_unix_stream(struct fin_kernel *kernel, struct fin__endpoint *ep)
{
    int listening = 0;
    int result = option(ep->fd, SO_ACCEPTCONN, &listening);

    if (result == 0 && listening)
        ep->traits |= FIN__LISTENING;
    else if (result == 0)
        result = is_connected(ep->fd);
    if (result > 0) {
        ep->traits |= FIN__STREAM | FIN__ACK_AT_SHUT | FIN__QUENCHABLE;
        ep->eof_ambiguous = may_be_our_own_end(kernel, ep->fd);
    }
    return result < 0 ? result : 0;
}

static int examine_other(struct fin_kernel *kernel, struct fin__endpoint *ep)
{
    int type = 0, family = 0;
    int result = option(ep->fd, SO_DOMAIN, &family);

    if (result == 0)
        result = option(ep->fd, SO_TYPE, &type);
    if (result < 0)
        return result;
    ep->family = (uint8_t) family;
    ep->traits = FIN__SOCKET;
    ep->seqpacket = type == SOCK_SEQPACKET;
    if (ep->family == AF_UNIX)
        return type == SOCK_DGRAM ? 0 : examine_unix_stream(kernel, ep);
    if (ep->family != AF_INET && ep->family != AF_INET6)
        return -EOPNOTSUPP;
    return type == SOCK_DGRAM ? 0 : -EOPNOTSUPP;
}

static int examine_file(struct fin__endpoint *ep)
{
    struct stat st;

    if (fstat(ep->fd, &st) < 0)
        return -errno;
    if (!S_ISFIFO(st.st_mode))
        return -EOPNOTSUPP;
    ep->kind = (uint8_t) fin__kind_of(ep->fd);
    return 0;
}

static int examine(struct fin_kernel *kernel, bool follows, struct fin__endpoint *ep)
{
    struct tcp_info info;
    int result =
        tcp_info(ep->fd, &info); /* first: it answers everything for the most frequent kind */

    if (result == 0)
        return examine_tcp(ep, &info, follows);
    if (result == -ENOTSOCK)
        return examine_file(ep);
    if (result == -EBADF)
        return result;
    return examine_other(kernel, ep);
}

int fin__layer_check(const struct fin_layer *layer)
{
    bool whole =
        layer && layer->size == sizeof *layer && layer->flush && layer->notify && layer->read;

    return whole ? 0 : -EINVAL;
}

int fin__endpoint_examine(struct fin_kernel *kernel, int fd, const struct fin_layer *layer,
                          const struct fin_policy *policy, struct fin__endpoint *ep)
{
    int result;

    *ep = (struct fin__endpoint) { .fd = fd, .layer = layer };
    result = examine(
        kernel, policy->courtesy >= FIN_COURTESY_ORDERLY || policy->proof > FIN_STAGE_RELEASED, ep);
    if (result == 0 && layer) {
        ep->traits |= FIN__LAYERED;
        result = ep->traits & FIN__STREAM ? 0 : -ENOTCONN;
    }
    return result;
}

void fin__endpoint_discard_errors(const struct fin__endpoint *ep)
{
    struct msghdr message = { 0 };

    while (recvmsg(ep->fd, &message, MSG_ERRQUEUE | MSG_DONTWAIT) >= 0)
        memset(&message, 0, sizeof message);
}

/* ---- take over ---- */

void fin__endpoint_take_over(struct fin__endpoint *ep, const struct fin__plan *plan)
{
    struct linger linger = { 0 };
    socklen_t size = sizeof linger;

    if (ep->family != AF_INET || !(ep->traits & (FIN__STREAM | FIN__CONNECTING)))
        return;
    if (plan->descriptor_only) { /* other holders keep a SO_LINGER that can't block us */
        if (getsockopt(ep->fd, SOL_SOCKET, SO_LINGER, &linger, &size) < 0 || !linger.l_onoff)
            return;
        if (linger.l_linger == 0) {
            ep->facts |= FIN__IS_RESET_ON_CLOSE;
            return;
        }
        linger = (struct linger) { 0 };
    }
    (void) setsockopt(ep->fd, SOL_SOCKET, SO_LINGER, &linger, sizeof linger);
}

/* ---- actions ---- */

static void done_or_failed(struct fin__event *ev, int result)
{
    ev->kind = result < 0 ? FIN__FAILED : FIN__DONE;
    ev->error = result < 0 ? result : 0;
}

static int call(int result)
{
    return result < 0 ? -errno : 0;
}

static void take_layer_result(struct fin__event *ev, int result)
{
    ev->interest = FIN__WRITE;
    switch (result) {
    case FIN_LAYER_DONE:
        ev->kind = FIN__DONE;
        break;
    case FIN_LAYER_WANT_READ:
        ev->interest = FIN__READ;
        ev->kind = FIN__AGAIN;
        break;
    case FIN_LAYER_WANT_WRITE:
        ev->kind = FIN__AGAIN;
        break;
    case FIN_LAYER_NONE:
        ev->kind = FIN__SKIP;
        break;
    case FIN_LAYER_BROKEN:
        ev->kind = FIN__BROKEN;
        ev->error = -EBADMSG;
        break;
    default:
        ev->kind = FIN__FAILED;
        ev->error = result < 0 ? result : -EPROTO;
        break;
    }
}

static void flush(struct fin__endpoint *ep, struct fin__event *ev)
{
    take_layer_result(ev, ep->layer->flush(ep->layer->arg, &ev->bytes));
}

static void notify(struct fin__endpoint *ep, struct fin__event *ev)
{
    take_layer_result(ev, ep->layer->notify(ep->layer->arg));
}

static void shut(struct fin__endpoint *ep, const struct fin__plan *plan, struct fin__event *ev)
{
    int on = 1;

    /* Before FIN: TIME_WAIT remembers whether the address may be shared (tw_reuse). */
    if (plan->rebindable)
        (void) setsockopt(ep->fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    done_or_failed(ev, call(shutdown(ep->fd, SHUT_WR)));
}

/* State CLOSE means both FINs, or a reset that SO_ERROR still tells of. */
static void look_closed(struct fin__endpoint *ep, struct fin__event *ev)
{
    int error = 0;

    (void) option(ep->fd, SO_ERROR, &error);
    if (error) {
        ev->kind = FIN__FAILED;
        ev->error = -error;
    } else {
        ev->facts |= FIN__IS_ACKED | FIN__IS_FIN;
    }
}

/* Is our FIN acked, has the peer's come? RFC 9293, 3.3.2. Returns the state, or 0. */
static int look(struct fin__endpoint *ep, struct fin__event *ev)
{
    struct tcp_info info;

    ev->kind = FIN__STATE;
    if (!ep->plain_tcp || tcp_info(ep->fd, &info) < 0) {
        ev->facts |= ep->traits & FIN__ACK_AT_SHUT ? FIN__IS_ACKED : FIN__IS_UNKNOWN;
        return 0;
    }
    switch (info.tcpi_state) {
    case FIN_WAIT2:
        ev->facts |= FIN__IS_ACKED;
        break;
    case TIME_WAIT:
        ev->facts |= FIN__IS_ACKED | FIN__IS_FIN;
        break;
    case CLOSE_WAIT:
    case LAST_ACK:
    case CLOSING:
        ev->facts |= FIN__IS_FIN;
        break;
    case CLOSED:
        look_closed(ep, ev);
        break;
    default:
        break;
    }
    return info.tcpi_state;
}

static int queued(int fd, unsigned long request)
{
    int bytes = 0;

    return ioctl(fd, request, &bytes) < 0 || bytes < 0 ? 0 : bytes;
}

static void tally(struct fin__endpoint *ep, const struct fin__plan *plan, struct fin__event *ev)
{
    int bytes = 0, state = 0;

    ev->kind = FIN__STATE;
    if (ep->family == AF_INET) {
        bytes = queued(ep->fd, SIOCOUTQ);
        if (!plan->descriptor_only) /* SO_ERROR is taken from other holders by looking */
            state = look(ep, ev);
    } else {
        ev->facts |= FIN__IS_ACKED;
    }
    /* SIOCOUTQ counts our FIN as a byte until it is acked (tcp_ioctl(): write_seq - snd_una). */
    if (bytes && (state == FIN_WAIT1 || state == LAST_ACK || state == CLOSING))
        bytes--;
    ev->bytes = (uint64_t) bytes;
    ev->unread = (uint64_t) queued(ep->fd, SIOCINQ);
}

static void drain(struct fin__endpoint *ep, const struct fin__machine *m, struct fin__event *ev)
{
    fin__read(ep, fin__drain_left(m), ev);
    if (ev->kind != FIN__END)
        return;
    if (ep->plain_tcp) {
        (void) look(ep, ev);
        if (ev->kind == FIN__STATE)
            ev->kind = FIN__END;
    } else {
        ev->facts = ep->eof_ambiguous || m->quenched ? 0 : FIN__IS_FIN;
        ev->facts |= ep->traits & FIN__ACK_AT_SHUT ? FIN__IS_ACKED : FIN__IS_UNKNOWN;
    }
}

/* What the kernel may do for an orphan: TCP_USER_TIMEOUT bounds data that is not acked, TCP_LINGER2
 * the wait in FIN_WAIT2 (tcp(7)). */
static void limit(struct fin__endpoint *ep, const struct fin__plan *plan, struct fin__event *ev)
{
    unsigned timeout = (unsigned) plan->orphan_ms;
    int seconds = (int) (plan->orphan_ms / 1000) + 1;
    int result = call(setsockopt(ep->fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &timeout, sizeof timeout));

    (void) setsockopt(ep->fd, IPPROTO_TCP, TCP_LINGER2, &seconds, sizeof seconds);
    done_or_failed(ev, result);
}

/* connect(AF_UNSPEC) resets at once, also when others hold the description (tcp_disconnect()). */
static int disconnect(int fd)
{
    struct sockaddr address = { .sa_family = AF_UNSPEC };
    int result = -EBUSY;

    for (int tries = 0; tries < DISCONNECT_TRIES && result == -EBUSY; tries++) {
        if (tries) /* some kernels refuse while a thread waits: wake it */
            (void) shutdown(fd, SHUT_RDWR);
        result = call(connect(fd, &address, sizeof address));
    }
    return result;
}

static void reset(struct fin__endpoint *ep, struct fin__event *ev)
{
    struct linger linger = { 1, 0 };

    if (ep->family != AF_INET) {
        done_or_failed(ev, -EOPNOTSUPP);
        return;
    }
    if (disconnect(ep->fd) == 0) {
        done_or_failed(ev, 0);
        return;
    }
    done_or_failed(ev, call(setsockopt(ep->fd, SOL_SOCKET, SO_LINGER, &linger, sizeof linger)));
    ev->facts = FIN__IS_RESET_ON_CLOSE;
}

void fin__endpoint_do(struct fin__endpoint *ep, struct fin_kernel *kernel,
                      const struct fin__machine *m, enum fin__action action, struct fin__event *ev)
{
    *ev = (struct fin__event) { .kind = FIN__DONE };
    switch (action) {
    case FIN__FLUSH:
        flush(ep, ev);
        break;
    case FIN__NOTIFY:
        notify(ep, ev);
        break;
    case FIN__ABANDON: /* in SYN_SENT any shutdown(2) ends the attempt (inet_shutdown()) */
        done_or_failed(ev, call(shutdown(ep->fd, SHUT_RDWR)));
        break;
    case FIN__SHUT:
        shut(ep, m->plan, ev);
        break;
    case FIN__LOOK:
        (void) look(ep, ev);
        break;
    case FIN__TALLY:
        tally(ep, m->plan, ev);
        break;
    case FIN__DRAIN:
        drain(ep, m, ev);
        break;
    case FIN__REFUSE:
        done_or_failed(ev, fin__listener_refuse(ep->fd, ep->family));
        break;
    case FIN__ACCEPT:
        fin__listener_accept(kernel, ep->fd, m->plan, ev);
        break;
    case FIN__QUENCH:
        done_or_failed(ev, call(shutdown(ep->fd, SHUT_RD)));
        break;
    case FIN__LIMIT:
        limit(ep, m->plan, ev);
        break;
    case FIN__RESET:
        reset(ep, ev);
        break;
    default:
        break;
    }
}
