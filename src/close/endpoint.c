/* SPDX-License-Identifier: MIT */

#include "close/endpoint.h"

#include "close/listener.h"
#include "close/read.h"
#include "close/sight.h"

#include "base/clock.h"

#include <errno.h>
#include <netinet/in.h>
#include <stddef.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>

#ifndef IPPROTO_MPTCP
#define IPPROTO_MPTCP 262
#endif

#define DISCONNECT_TRIES 10
#define ERRORS_AT_ONCE 64 /* what is behind them raises the next event */

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

static int examine_tcp(struct fin__endpoint *ep, const struct tcp_info *info)
{
    int protocol = IPPROTO_TCP, listening = info->tcpi_state == FIN__LISTEN;

    ep->family = AF_INET;
    ep->traits = FIN__SOCKET;
    if (!ep->plain_tcp && option(ep->fd, SO_PROTOCOL, &protocol) == 0
        && protocol == IPPROTO_MPTCP) {
        fin__sight_multipath(ep);
        (void) option(ep->fd, SO_ACCEPTCONN, &listening);
    }
    ep->plain_tcp = !ep->mptcp && !ep->fallback;
    if (listening)
        ep->traits |= FIN__LISTENING;
    else if (info->tcpi_state == FIN__SYN_SENT)
        ep->traits |= FIN__CONNECTING;
    else if (!fin__never_connected(ep, info))
        ep->traits |= FIN__STREAM;
    if (ep->traits & FIN__STREAM)
        fin__sight_begin(ep, info);
    if (info->tcpi_unacked || info->tcpi_notsent_bytes)
        ep->facts |= FIN__IS_OUTSTANDING;
    return 0;
}

/* 1, 0, or a negative errno: not to be known. */
static int unix_peer_is_gone(struct fin_kernel *kernel, int fd)
{
    struct fin_identity id = FIN_IDENTITY_INIT;
    int result = fin_identify(fd, &id);

    if (result == 0)
        result = fin__kernel_need_diag(kernel);
    return result < 0 ? result : fin__diag_unix_peer_gone(&kernel->diag, &id);
}

/* RDHUP before the close began: the peer's end, or a shutdown(SHUT_RD) of the program's own? */
static bool may_be_our_own_end(struct fin_kernel *kernel, int fd)
{
    return fin__may_have_ended(fd) && unix_peer_is_gone(kernel, fd) != 1;
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
        ep->traits |= FIN__STREAM | FIN__QUENCHABLE;
        /* A peer that is gone may have left our bytes unread, and its error may have been taken:
         * the socket keeps no trace of it. */
        ep->traits |= fin__both_shut(ep->fd) == 0 ? FIN__ACK_AT_SHUT : 0;
        ep->end_ambiguous = may_be_our_own_end(kernel, ep->fd);
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

static int examine(struct fin_kernel *kernel, struct fin__endpoint *ep)
{
    struct tcp_info info;
    /* First: it answers everything for the most frequent kind. */
    int result = fin__tcp_info(ep->fd, &info);

    if (result >= 0)
        return examine_tcp(ep, &info);
    if (result == -ENOTSOCK)
        return examine_file(ep);
    if (result == -EBADF)
        return result;
    return examine_other(kernel, ep);
}

/* Without its last member, which came later. */
#define LAYER_SIZE_OLD offsetof(struct fin_layer, unsent)

int fin__layer_check(const struct fin_layer *layer)
{
    bool whole = layer && (layer->size == sizeof *layer || layer->size == LAYER_SIZE_OLD)
        && layer->flush && layer->notify && layer->read;

    return whole ? 0 : -EINVAL;
}

int fin__endpoint_examine(struct fin_kernel *kernel, int fd, const struct fin_layer *layer,
                          struct fin__endpoint *ep)
{
    int result;

    *ep = (struct fin__endpoint) { .fd = fd, .layer = layer };
    result = examine(kernel, ep);
    if (result == 0 && layer) {
        ep->traits |= FIN__LAYERED;
        result = ep->traits & FIN__STREAM ? 0 : -ENOTCONN;
    }
    return result;
}

/* tcpi_bytes_received counts what came in order, and the FIN. If the FIN is there, and the
 * caller has read everything before it, nothing is left to be read, nor can anything come: if
 * somebody else had read, or had shut our side for reading, the count would differ. */
static bool is_emptied(const struct tcp_info *info, const struct fin__past *past)
{
    return past->ended && info->tcpi_state == FIN__CLOSE_WAIT
        && info->tcpi_bytes_received == past->read + 1;
}

/* Of a stream that has not ended as far as the caller knows. TCP_INFO is asked for its state
 * only when the machine wants that: the peer's FIN leaves a mark. */
static int examine_open(struct fin__endpoint *ep)
{
    int64_t bytes = fin__outstanding(ep->fd);

    if (bytes < 0)
        return (int) bytes;
    ep->family = AF_INET;
    ep->traits = FIN__SOCKET | FIN__STREAM;
    if (bytes)
        ep->facts |= FIN__IS_OUTSTANDING;
    return 0;
}

int fin__endpoint_examine_tcp(int fd, const struct fin__past *past, struct fin__endpoint *ep)
{
    struct tcp_info info;
    int result;

    *ep = (struct fin__endpoint) { .fd = fd, .plain_tcp = true, .accepted = past->accepted };
    if (past->open && examine_open(ep) == 0)
        return 0;
    result = fin__tcp_info(fd, &info);
    if (result < 0)
        return result;
    ep->emptied = result == 0 && is_emptied(&info, past);
    return examine_tcp(ep, &info);
}

bool fin__endpoint_is_plain_tcp(int fd)
{
    int protocol = 0;

    return option(fd, SO_PROTOCOL, &protocol) == 0 && protocol == IPPROTO_TCP;
}

int fin__endpoint_queued(int fd)
{
    struct tcp_info info;

    if (fin__tcp_info(fd, &info) < 0 || info.tcpi_state != FIN__LISTEN)
        return -1;
    return (int) info.tcpi_unacked;
}

bool fin__endpoint_has_linger(int fd)
{
    struct linger linger = { 0 };
    socklen_t size = sizeof linger;

    return getsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, &size) < 0 || linger.l_onoff;
}

void fin__endpoint_discard_errors(const struct fin__endpoint *ep)
{
    struct msghdr message = { 0 };

    /* Other sockets have no error queue, and for them MSG_ERRQUEUE is a plain read. */
    if (ep->family != AF_INET && ep->family != AF_INET6)
        return;
    for (int i = 0; i < ERRORS_AT_ONCE; i++) {
        if (recvmsg(ep->fd, &message, MSG_ERRQUEUE | MSG_DONTWAIT) < 0)
            return;
        memset(&message, 0, sizeof message);
    }
}

enum fin_kind fin__endpoint_kind(const struct fin__endpoint *ep)
{
    if (!(ep->traits & FIN__SOCKET))
        return FIN_KIND_PIPE;
    if (ep->family == AF_UNIX)
        return FIN_KIND_UNIX;
    if (ep->mptcp || ep->fallback)
        return FIN_KIND_MPTCP;
    return ep->plain_tcp ? FIN_KIND_TCP : FIN_KIND_UDP;
}

bool fin__endpoint_wants_addresses(const struct fin__endpoint *ep, const struct fin__plan *plan)
{
    return plan->addresses && (ep->family == AF_INET || ep->family == AF_INET6);
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
            ep->linger_reset = true;
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

static int endpoint_call(int result)
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
    case FIN_LAYER_DEAD:
        ev->kind = FIN__SKIP;
        ev->facts = FIN__IS_MUTE;
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

static void endpoint_flush(struct fin__endpoint *ep, struct fin__event *ev)
{
    take_layer_result(ev, ep->layer->flush(ep->layer->arg, &ev->bytes));
}

static void endpoint_measure(const struct fin__endpoint *ep, struct fin__event *ev)
{
    /* Both ends of a pipe see what is unread (pipe_ioctl()). */
    int64_t bytes =
        ep->traits & FIN__SOCKET ? fin__outstanding(ep->fd) : (int64_t) fin__see_unread(ep);

    ev->kind = FIN__BYTES;
    ev->bytes = bytes < 0 ? 0 : (uint64_t) bytes;
}

/* EPIPE may be our own doing, a shutdown(2) before. */
static void endpoint_notify(struct fin__endpoint *ep, struct fin__event *ev)
{
    take_layer_result(ev, ep->layer->notify(ep->layer->arg));
    if (ev->error == -EPIPE && ep->family == AF_UNIX
        && (ep->traits & FIN__ACK_AT_SHUT || !ep->end_ambiguous) && fin__both_shut(ep->fd) > 0)
        /* The peer is gone: with ours unread, or after a FIN of the program's, or without
         * either. */
        ev->error = fin__has_error(ep->fd) ? -ECONNRESET : -ENOTCONN;
}

static void shut(struct fin__endpoint *ep, const struct fin__plan *plan, struct fin__event *ev)
{
    int on = 1;

    /* Before FIN: TIME_WAIT remembers whether the address may be shared (tw_reuse). */
    if (plan->rebindable)
        (void) setsockopt(ep->fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    done_or_failed(ev, endpoint_call(shutdown(ep->fd, SHUT_WR)));
}

/* Takes the socket's error, once its connection is over: it belongs to the close. */
static void take_error(struct fin__endpoint *ep, struct fin__event *ev)
{
    int error = 0;

    (void) option(ep->fd, SO_ERROR, &error);
    if (error) {
        ev->kind = FIN__FAILED;
        ev->error = -error;
    }
}

static bool both_fins(unsigned facts)
{
    return (facts & (FIN__IS_ACKED | FIN__IS_FIN)) == (FIN__IS_ACKED | FIN__IS_FIN);
}

/* Writes what is seen of a stream into the event; returns the state. Under scope descriptor it
 * takes nothing that another holder might read. `m` may be NULL: nothing was done yet. */
static int see(struct fin__endpoint *ep, const struct fin__machine *m, bool count,
               struct fin__event *ev)
{
    struct fin__sight sight;
    bool shut = m && fin__reached(m, FIN_STAGE_SHUT);

    fin__see(ep, shut, count, &sight);
    ev->facts |= sight.facts;
    ev->bytes = sight.unacked;
    if (sight.facts & FIN__IS_OVER && !both_fins(sight.facts) && !(m && m->plan->descriptor_only))
        take_error(ep, ev);
    return sight.state;
}

static void see_unix(struct fin__endpoint *ep, const struct fin__machine *m, struct fin__event *ev)
{
    ev->facts |= ep->traits & FIN__ACK_AT_SHUT ? 0 : FIN__IS_UNKNOWN;
    if (m->plan->descriptor_only)
        ev->facts |= fin__has_error(ep->fd) ? FIN__IS_OVER : 0;
    else
        take_error(ep, ev);
}

static void endpoint_look(struct fin__endpoint *ep, const struct fin__machine *m,
                          struct fin__event *ev)
{
    ev->kind = FIN__STATE;
    if (ep->family == AF_INET)
        (void) see(ep, m, false, ev);
    else
        see_unix(ep, m, ev);
}

/* FIN_LAYER_INIT has no callback for it: then it is not known. */
static uint64_t layer_unsent(const struct fin_layer *layer)
{
    bool can_be_asked = layer->size > LAYER_SIZE_OLD && layer->unsent;

    return can_be_asked ? layer->unsent(layer->arg) : UINT64_MAX;
}

/* Because of unread input close(2) resets only a peer that still has a socket
 * (unix_release_sock()). While one of our sides is open it has. */
static void see_who_is_reset(const struct fin__endpoint *ep, struct fin_kernel *kernel,
                             struct fin__event *ev)
{
    int gone = fin__both_shut(ep->fd);

    if (gone > 0)
        gone = unix_peer_is_gone(kernel, ep->fd);
    if (gone == 1)
        ev->unread = 0;
    else if (gone < 0)
        ev->facts |= FIN__IS_RESET_UNSURE;
}

static void tally(struct fin__endpoint *ep, struct fin_kernel *kernel, const struct fin__machine *m,
                  struct fin__event *ev)
{
    int state;

    ev->kind = FIN__STATE;
    if (ep->layer && m->plan->descriptor_only)
        ev->unsent = layer_unsent(ep->layer);
    if (!(ep->traits & (FIN__STREAM | FIN__CONNECTING)))
        return;
    ev->unread = fin__see_unread(ep);
    if (ep->family != AF_INET) {
        see_unix(ep, m, ev);
        if (ev->unread)
            see_who_is_reset(ep, kernel, ev);
        return;
    }
    state = see(ep, m, true, ev);
    ev->facts |= fin__see_resets(ep, state, ev->bytes);
}

/* The peer's end of a Unix socket is a read of 0, unless our side was shut for reading. */
static void endpoint_ended(struct fin__endpoint *ep, const struct fin__machine *m,
                           struct fin__event *ev)
{
    ev->kind = FIN__END;
    if (ep->family == AF_INET) {
        (void) see(ep, m, false, ev);
    } else {
        ev->facts |= ep->traits & FIN__ACK_AT_SHUT ? 0 : FIN__IS_UNKNOWN;
        ev->facts |= ep->end_ambiguous || ep->end_forfeited || m->quenched ? FIN__IS_FIN_UNKNOWN
                                                                           : FIN__IS_FIN;
    }
    if (ep->end_forfeited && !(ev->facts & FIN__IS_FIN))
        ev->facts |= FIN__IS_FIN_UNKNOWN;
}

static void drain(struct fin__endpoint *ep, const struct fin__machine *m, struct fin__event *ev)
{
    struct fin__sight sight;

    if (ep->emptied)
        ev->kind = FIN__END;
    else
        fin__read(ep, fin__drain_left(m), ev);
    if (ev->kind == FIN__FAILED && ev->error == -ENOTCONN && ep->family == AF_INET) {
        fin__see(ep, false, false, &sight);
        if (sight.facts & FIN__IS_OVER) /* it was connected: that is another way to say 0 */
            *ev = (struct fin__event) { .kind = FIN__END };
    }
    if (ev->kind == FIN__END)
        endpoint_ended(ep, m, ev);
}

/* What the kernel may do for an orphan: TCP_USER_TIMEOUT bounds data that is not acked, TCP_LINGER2
 * the wait in FIN_WAIT2 (tcp(7)). */
static void limit(struct fin__endpoint *ep, const struct fin__plan *plan, struct fin__event *ev)
{
    unsigned timeout = (unsigned) plan->orphan_ms;
    int seconds = (int) (plan->orphan_ms / 1000) + 1;
    int result =
        endpoint_call(setsockopt(ep->fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &timeout, sizeof timeout));

    (void) setsockopt(ep->fd, IPPROTO_TCP, TCP_LINGER2, &seconds, sizeof seconds);
    done_or_failed(ev, result);
}

/* Some kernels refuse while a thread waits. One that reads is woken without a FIN, which would tell
 * the peer that it has everything; one that sends is not, and its FIN is behind what it sends. */
static void wake_who_waits(int fd, int how)
{
    (void) shutdown(fd, how);
    (void) nanosleep(&(struct timespec) { 0, FIN__NS_PER_MS }, NULL); /* until it is out */
}

/* connect(AF_UNSPEC) resets at once, also when others hold the description (tcp_disconnect()). */
static int disconnect(int fd)
{
    struct sockaddr address = { .sa_family = AF_UNSPEC };
    int result = -EBUSY;

    for (int tries = 0; tries < DISCONNECT_TRIES && result == -EBUSY; tries++) {
        if (tries)
            wake_who_waits(fd, tries == DISCONNECT_TRIES - 1 ? SHUT_RDWR : SHUT_RD);
        result = endpoint_call(connect(fd, &address, sizeof address));
    }
    return result;
}

/* It sends nothing then (tcp_disconnect()). */
static bool is_in_repair(int fd)
{
    int on = 0;
    socklen_t size = sizeof on;

    return getsockopt(fd, IPPROTO_TCP, TCP_REPAIR, &on, &size) == 0 && on;
}

/* Was RST sent, or was nothing left that could be reset? tcp_disconnect() leaves ECONNRESET
 * behind if it sent one; a live MPTCP connection always gets one (mptcp_do_fastclose()). A
 * thread that it woke, or another holder, may have taken the error: in a state that no FIN of
 * the peer ends one was sent anyway, except in repair. */
static bool was_reset(struct fin__endpoint *ep, int state)
{
    int error = 0;

    if (ep->mptcp || ep->fallback)
        return true;
    if (state == FIN__ESTABLISHED || state == FIN__CLOSE_WAIT)
        return !is_in_repair(ep->fd);
    return option(ep->fd, SO_ERROR, &error) == 0 && error == ECONNRESET;
}

static void endpoint_reset(struct fin__endpoint *ep, const struct fin__machine *m,
                           struct fin__event *ev)
{
    struct linger linger = { 1, 0 };
    unsigned unsure;
    int state;

    if (ep->family != AF_INET) {
        done_or_failed(ev, -EOPNOTSUPP);
        return;
    }
    ev->kind = FIN__STATE;
    state = see(ep, m, true, ev);
    unsure = fin__see_resets(ep, state, ev->bytes) & FIN__IS_RESET_UNSURE;
    if (ev->facts & FIN__IS_OVER)
        return;
    if (disconnect(ep->fd) == 0) {
        bool sent = was_reset(ep, state);

        ev->kind = sent ? FIN__DONE : FIN__STATE;
        ev->facts = sent ? unsure : ev->facts | FIN__IS_OVER;
        return;
    }
    done_or_failed(
        ev, endpoint_call(setsockopt(ep->fd, SOL_SOCKET, SO_LINGER, &linger, sizeof linger)));
    ep->linger_reset = true;
    ev->facts = FIN__IS_RESET_ON_CLOSE;
}

/* Data that went with the SYN (TCP_FASTOPEN) is lost with the attempt. In SYN_SENT any shutdown(2)
 * ends it (inet_shutdown()). */
static void abandon(struct fin__endpoint *ep, const struct fin__machine *m, struct fin__event *ev)
{
    uint64_t lost;

    (void) see(ep, m, true, ev);
    lost = ev->bytes;
    *ev = (struct fin__event) { 0 };
    done_or_failed(ev, endpoint_call(shutdown(ep->fd, SHUT_RDWR)));
    ev->bytes = lost;
}

void fin__endpoint_do(struct fin__endpoint *ep, struct fin_kernel *kernel,
                      const struct fin__machine *m, enum fin__action action, struct fin__event *ev)
{
    *ev = (struct fin__event) { .kind = FIN__DONE };
    switch (action) {
    case FIN__FLUSH:
        endpoint_flush(ep, ev);
        break;
    case FIN__MEASURE:
        endpoint_measure(ep, ev);
        break;
    case FIN__NOTIFY:
        endpoint_notify(ep, ev);
        break;
    case FIN__ABANDON:
        abandon(ep, m, ev);
        break;
    case FIN__SHUT:
        shut(ep, m->plan, ev);
        break;
    case FIN__LOOK:
        endpoint_look(ep, m, ev);
        break;
    case FIN__TALLY:
        tally(ep, kernel, m, ev);
        break;
    case FIN__DRAIN:
        drain(ep, m, ev);
        break;
    case FIN__REFUSE:
        done_or_failed(ev, fin__listener_refuse(ep->fd, ep->family));
        break;
    case FIN__ACCEPT:
        fin__listener_accept(kernel, ep->fd, m, ev);
        break;
    case FIN__QUENCH:
        done_or_failed(ev, endpoint_call(shutdown(ep->fd, SHUT_RD)));
        break;
    case FIN__LIMIT:
        limit(ep, m->plan, ev);
        break;
    case FIN__RESET:
        endpoint_reset(ep, m, ev);
        ev->unsent = ep->layer ? layer_unsent(ep->layer) : 0;
        break;
    default:
        break;
    }
}
