/* SPDX-License-Identifier: MIT */

#include "close/sight.h"

#include "base/again.h"
#include "base/poll.h"

#include <errno.h>
#include <linux/sockios.h>
#include <netinet/in.h>
#include <stddef.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#ifndef SOL_MPTCP
#define SOL_MPTCP 284
#endif
#ifndef MPTCP_INFO
#define MPTCP_INFO 1
#endif

/* Whether the peer's FIN has come, or ours is acknowledged. */
enum answer {
    NO,
    YES,
    UNKNOWN
};

/* The part of TCP_INFO that the counts below need; Linux has all of it since 4.19. */
#define COUNTS_SIZE (offsetof(struct tcp_info, tcpi_bytes_retrans) + sizeof(uint64_t))

int fin__tcp_info(int fd, struct tcp_info *info)
{
    socklen_t size = sizeof *info;

    memset(info, 0, sizeof *info);
    if (getsockopt(fd, IPPROTO_TCP, TCP_INFO, info, &size) < 0)
        return -errno;
    return size < COUNTS_SIZE;
}

/* Not one function that takes the request: its type is the C library's choice. */
int64_t fin__outstanding(int fd)
{
    int bytes = 0;

    return ioctl(fd, SIOCOUTQ, &bytes) < 0 ? -errno : bytes;
}

static uint64_t bytes_outstanding(int fd)
{
    int64_t bytes = fin__outstanding(fd);

    return bytes < 0 ? 0 : (uint64_t) bytes;
}

static uint64_t bytes_readable(int fd)
{
    int bytes = 0;

    return ioctl(fd, SIOCINQ, &bytes) < 0 || bytes < 0 ? 0 : (uint64_t) bytes;
}

bool fin__has_error(int fd)
{
    int events = fin__events(fd, 0);

    return events > 0 && events & POLLERR;
}

int fin__both_shut(int fd)
{
    int events = fin__events(fd, 0);

    return events < 0 ? events : (events & POLLHUP) != 0;
}

bool fin__may_have_ended(int fd)
{
    int events = fin__events(fd, POLLRDHUP);

    return events < 0 || events & POLLRDHUP;
}

/* ---- a connection in state CLOSE ---- */

/* tcp_disconnect() leaves no count behind. */
static bool was_disconnected(const struct tcp_info *info)
{
    return info->tcpi_segs_in == 0 && info->tcpi_segs_out == 0;
}

/* Is it our FIN that was acknowledged last? bytes_acked counts it, and the SYN of an active open,
 * beside the data; `delivered` counts segments, one of the handshake and one of a FIN that went by
 * itself. Everything queued is acknowledged already. */
static enum answer fin_is_counted(const struct tcp_info *info)
{
    uint64_t data = info->tcpi_bytes_sent - info->tcpi_bytes_retrans;
    uint64_t more = info->tcpi_bytes_acked - data;
    bool by_itself = info->tcpi_total_retrans == 0 && info->tcpi_options & TCPI_OPT_SACK
        && info->tcpi_delivered - info->tcpi_data_segs_out == 2;

    if (more == 2 || (more == 1 && by_itself))
        return YES;
    return more == 0 ? NO : UNKNOWN;
}

/* Also if that can't be known. */
static bool may_have_urgent_data(int fd)
{
    int at_mark = 0, events = fin__events(fd, POLLPRI);

    return events < 0 || events & POLLPRI || (ioctl(fd, SIOCATMARK, &at_mark) == 0 && at_mark);
}

/* SYN, data and FIN are acknowledged: nothing else can make two more than the data that was
 * sent. Where the socket was accepted the SYN is not counted, and one more is the FIN. */
static bool has_all(const struct fin__endpoint *ep, const struct tcp_info *info)
{
    uint64_t data = info->tcpi_bytes_sent - info->tcpi_bytes_retrans;

    return info->tcpi_bytes_acked - data == (ep->accepted ? 1 : 2);
}

/* Asked about a page that is mapped, where it takes no other: before Linux 5.11, and with a page or
 * more to read. */
static int ask_by_a_page(int fd, struct tcp_zerocopy_receive *question, socklen_t *size)
{
    size_t length = (size_t) sysconf(_SC_PAGESIZE);
    void *page = mmap(NULL, length, PROT_READ, MAP_SHARED, fd, 0);
    int result, error;

    if (page == MAP_FAILED)
        return -EINVAL;
    *question = (struct tcp_zerocopy_receive) { .address = (uintptr_t) page };
    result = getsockopt(fd, IPPROTO_TCP, TCP_ZEROCOPY_RECEIVE, question, size);
    error = errno;
    (void) munmap(page, length);
    return result < 0 ? -error : 0;
}

/* Up to `inq`. 0, or a negative errno. */
static int ask_to_map_nothing(int fd, struct tcp_zerocopy_receive *question, socklen_t *size)
{
    *size = offsetof(struct tcp_zerocopy_receive, inq) + sizeof question->inq;
    *question = (struct tcp_zerocopy_receive) { 0 };
    if (getsockopt(fd, IPPROTO_TCP, TCP_ZEROCOPY_RECEIVE, question, size) == 0)
        return 0;
    return errno == EINVAL ? ask_by_a_page(fd, question, size) : -errno;
}

/* tcp_fin() marks a socket (SOCK_DONE) for good, whoever reads the input or takes the error.
 * TCP_ZEROCOPY_RECEIVE, asked to map nothing, shows the mark: by EIO if nothing is left to read,
 * else `inq` counts the FIN and `recv_skip_hint` does not (tcp_zerocopy_receive()). The latter
 * ends at an urgent byte, too. */
static enum answer peer_fin_is_marked(int fd)
{
    struct tcp_zerocopy_receive question;
    socklen_t size;
    int result = ask_to_map_nothing(fd, &question, &size);

    if (result < 0)
        return result == -EIO ? YES : UNKNOWN;
    if (question.inq > question.recv_skip_hint + 1 || may_have_urgent_data(fd))
        return UNKNOWN;
    if (question.inq > question.recv_skip_hint)
        return YES;
    return size > offsetof(struct tcp_zerocopy_receive, inq) || question.recv_skip_hint == 0
        ? NO
        : UNKNOWN;
}

/* The program's own FIN may be among what is outstanding: at most what was sent and not
 * acknowledged is data. */
static uint64_t data_among(const struct tcp_info *info, uint64_t left, bool shut)
{
    uint64_t data = info->tcpi_bytes_sent - info->tcpi_bytes_retrans + info->tcpi_notsent_bytes;

    if (shut)
        return left - (left > 0);
    return left < data ? left : data;
}

static unsigned fact_of(enum answer answer, unsigned yes, unsigned unknown)
{
    return answer == YES ? yes : answer == UNKNOWN ? unknown : 0;
}

static void see_closed(struct fin__endpoint *ep, const struct tcp_info *info, bool counts,
                       bool shut, struct fin__sight *sight)
{
    bool disconnected = counts && was_disconnected(info);
    bool all = counts && has_all(ep, info);
    /* A reset empties the queue, and leaves its numbers (tcp_ioctl(): write_seq - snd_una). */
    uint64_t left = disconnected ? 1 : all ? 0 : bytes_outstanding(ep->fd);
    enum answer counted = counts ? fin_is_counted(info) : UNKNOWN;
    enum answer acked = left ? NO : shut && !ep->fallback ? YES : counted;
    enum answer fin = ep->peer_fin ? YES : peer_fin_is_marked(ep->fd);

    sight->facts = FIN__IS_OVER | fact_of(acked, FIN__IS_SHUT | FIN__IS_ACKED, FIN__IS_UNKNOWN)
        | fact_of(fin, FIN__IS_FIN, FIN__IS_FIN_UNKNOWN);
    sight->unacked = disconnected ? 0 : data_among(info, left, shut);
}

/* ---- TCP, RFC 9293, 3.3.2 ---- */

static unsigned facts_of(int state)
{
    switch (state) {
    case FIN__FIN_WAIT1:
        return FIN__IS_SHUT;
    case FIN__FIN_WAIT2:
        return FIN__IS_SHUT | FIN__IS_ACKED;
    case FIN__TIME_WAIT:
        return FIN__IS_SHUT | FIN__IS_ACKED | FIN__IS_FIN;
    case FIN__CLOSE_WAIT:
        return FIN__IS_FIN;
    case FIN__LAST_ACK:
    case FIN__CLOSING:
        return FIN__IS_SHUT | FIN__IS_FIN;
    default:
        return 0;
    }
}

/* Of an attempt to connect: data that went with the SYN (TCP_FASTOPEN). SIOCOUTQ counts none
 * then. */
static uint64_t sent_early(const struct tcp_info *info)
{
    return info->tcpi_bytes_sent - info->tcpi_bytes_retrans;
}

/* A connection can't return to a state before our FIN: this is another one, which a holder has
 * made with the socket after a disconnect that ended ours. Its FIN is not the one that the close
 * waits for. */
static bool is_another(const struct fin__endpoint *ep, int state)
{
    return ep->plain_tcp && ep->shut
        && (state == FIN__ESTABLISHED || state == FIN__SYN_SENT || state == FIN__CLOSE_WAIT
            || state == FIN__LISTEN);
}

static void see_tcp(struct fin__endpoint *ep, bool shut, bool count, struct fin__sight *sight)
{
    struct tcp_info info;
    int result = fin__tcp_info(ep->fd, &info);

    if (result < 0) {
        sight->facts = FIN__IS_UNKNOWN | FIN__IS_FIN_UNKNOWN;
        return;
    }
    if (is_another(ep, info.tcpi_state)) {
        sight->state = FIN__CLOSED;
        sight->facts = FIN__IS_OVER;
        return;
    }
    sight->state = info.tcpi_state;
    sight->facts = facts_of(sight->state);
    ep->peer_fin |= (sight->facts & FIN__IS_FIN) != 0;
    ep->shut |= (sight->facts & FIN__IS_SHUT) != 0;
    if (sight->state == FIN__CLOSED)
        see_closed(ep, &info, result == 0, shut || ep->shut, sight);
    else if (sight->state == FIN__SYN_SENT)
        sight->unacked = sent_early(&info);
    else if (count && !(sight->facts & FIN__IS_ACKED)) {
        sight->unacked = bytes_outstanding(ep->fd);
        /* It counts our FIN as a byte until it is acked. */
        if (sight->unacked && sight->facts & FIN__IS_SHUT)
            sight->unacked--;
    }
}

/* ---- MPTCP, RFC 8684 ---- */

/* struct mptcp_info as of Linux 6.5 (include/uapi/linux/mptcp.h). write_seq counts DATA_FIN as soon
 * as it is due, and rcv_nxt the peer's; bytes_acked counts DATA_FIN, bytes_sent and bytes_received
 * do not. */
struct multipath {
    uint8_t ignored[8];
    uint32_t flags, token;
    uint64_t write_seq, snd_una, rcv_nxt;
    uint8_t ignored_too[8];
    uint64_t bytes_retrans, bytes_sent, bytes_received, bytes_acked;
};

#define REMOTE_KEY_RECEIVED 2

enum told {
    NOTHING,
    NUMBERS /* since Linux 5.16: up to rcv_nxt */,
    COUNTS /* since 6.5 */
};

static enum told multipath_info(int fd, struct multipath *info)
{
    socklen_t size = sizeof *info;
    int tries = 0, result;

    memset(info, 0, sizeof *info);
    do
        result = getsockopt(fd, SOL_MPTCP, MPTCP_INFO, info, &size);
    while (fin__again(result, &tries));
    if (result < 0 || size < offsetof(struct multipath, ignored_too))
        return NOTHING;
    return size < sizeof *info ? NUMBERS : COUNTS;
}

static enum answer data_fin_is_acked(const struct fin__endpoint *ep, const struct multipath *info,
                                     enum told told, bool over)
{
    if (info->write_seq != info->snd_una)
        return NO;
    if (told == COUNTS)
        return info->bytes_acked == info->bytes_sent + 1 ? YES : NO;
    if (ep->shut)
        return YES;
    return over ? UNKNOWN : NO; /* there may have been a shutdown(2) of the program's */
}

static uint32_t received_beyond_data(const struct multipath *info)
{
    return (uint32_t) (info->rcv_nxt - info->bytes_received);
}

static enum answer data_fin_has_come(struct fin__endpoint *ep, const struct multipath *info,
                                     enum told told)
{
    if (ep->end_ambiguous || told != COUNTS)
        return UNKNOWN;
    ep->peer_fin |= received_beyond_data(info) == ep->beyond + 1;
    return ep->peer_fin ? YES : NO;
}

/* DATA_FIN is one of those left; if the program sent it, one more than there is data to send. */
static uint64_t multipath_left(const struct fin__endpoint *ep, const struct multipath *info,
                               enum told told)
{
    uint64_t left = info->write_seq - info->snd_una;
    bool by_program = told == COUNTS && left == info->bytes_sent - info->bytes_acked + 1;

    return left && (ep->shut || by_program) ? left - 1 : left;
}

static void see_mptcp(struct fin__endpoint *ep, struct fin__sight *sight)
{
    struct multipath info;
    struct tcp_info tcp;
    enum answer acked, fin;
    enum told told;

    if (fin__tcp_info(ep->fd, &tcp) >= 0)
        sight->state = tcp.tcpi_state;
    if (sight->state == FIN__CLOSED)
        sight->facts = FIN__IS_OVER;
    told = multipath_info(ep->fd, &info);
    if (told == NOTHING) {
        sight->facts |= FIN__IS_UNKNOWN | FIN__IS_FIN_UNKNOWN;
        return;
    }
    acked = data_fin_is_acked(ep, &info, told, sight->state == FIN__CLOSED);
    fin = data_fin_has_come(ep, &info, told);
    sight->facts |= fact_of(acked, FIN__IS_SHUT | FIN__IS_ACKED, FIN__IS_UNKNOWN)
        | fact_of(fin, FIN__IS_FIN, FIN__IS_FIN_UNKNOWN);
    sight->unacked = multipath_left(ep, &info, told);
}

/* ---- the whole ---- */

bool fin__never_connected(const struct fin__endpoint *ep, const struct tcp_info *info)
{
    struct multipath multipath;

    if (info->tcpi_state != FIN__CLOSED)
        return false;
    if (ep->mptcp) /* TCP_INFO says nothing any more; where nothing tells, a read will */
        return multipath_info(ep->fd, &multipath) && !(multipath.flags & REMOTE_KEY_RECEIVED);
    /* Refused: one SYN, and one RST. */
    return info->tcpi_segs_in <= 1 && info->tcpi_delivered == 0 && info->tcpi_bytes_acked == 0
        && info->tcpi_bytes_received == 0;
}

/* Before Linux 5.16 EOPNOTSUPP is no sign of a fallback: no connection has MPTCP_INFO. This option,
 * which asks for nothing here, MPTCP leaves to TCP and refuses itself (mptcp_getsockopt()). */
static bool is_answered_by_tcp(int fd)
{
    struct tcp_zerocopy_receive nothing = { 0 };
    socklen_t size = sizeof nothing;

    return getsockopt(fd, IPPROTO_TCP, TCP_ZEROCOPY_RECEIVE, &nothing, &size) == 0
        || errno != EOPNOTSUPP;
}

void fin__sight_multipath(struct fin__endpoint *ep)
{
    struct multipath info;

    ep->fallback =
        !multipath_info(ep->fd, &info) && errno == EOPNOTSUPP && is_answered_by_tcp(ep->fd);
    ep->mptcp = !ep->fallback;
}

void fin__sight_begin(struct fin__endpoint *ep, const struct tcp_info *info)
{
    struct multipath multipath;
    unsigned facts = facts_of(info->tcpi_state);

    if (!ep->mptcp) {
        ep->peer_fin = facts & FIN__IS_FIN;
        ep->shut = facts & FIN__IS_SHUT;
    } else if (multipath_info(ep->fd, &multipath) == COUNTS) {
        ep->beyond = received_beyond_data(&multipath);
        /* The peer's DATA_FIN, or the program's shutdown(SHUT_RD): nothing shows which. */
        ep->end_ambiguous = fin__may_have_ended(ep->fd);
    } else {
        ep->end_ambiguous = true;
    }
}

void fin__see(struct fin__endpoint *ep, bool shut, bool count, struct fin__sight *sight)
{
    *sight = (struct fin__sight) { 0 };
    ep->shut |= shut;
    if (ep->mptcp)
        see_mptcp(ep, sight);
    else
        see_tcp(ep, shut, count, sight);
}

/* Under MPTCP, SIOCINQ is 1 where the input has ended and there is none (mptcp_inq_hint()). */
static uint64_t peeked(int fd)
{
    char byte;

    if (fin__has_error(fd)) /* a read would take it */
        return 0;
    return recv(fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) > 0;
}

uint64_t fin__see_unread(const struct fin__endpoint *ep)
{
    uint64_t bytes;
    int events = 0;

    if (ep->mptcp || ep->fallback)
        return peeked(ep->fd);
    bytes = bytes_readable(ep->fd);
    /* SIOCINQ does not count an urgent byte, and close(2) does (tcp_inq(), __tcp_close()). */
    if (bytes == 0 && ep->plain_tcp)
        events = fin__events(ep->fd, POLLPRI);
    if (events > 0 && events & POLLPRI)
        return 1;
    return bytes;
}

/* tcp(7): TCP_LINGER2 below 0 means no FIN_WAIT2 without a descriptor. */
bool fin__shuns_fin_wait2(int fd)
{
    int seconds = 0;
    socklen_t size = sizeof seconds;

    return getsockopt(fd, IPPROTO_TCP, TCP_LINGER2, &seconds, &size) == 0 && seconds < 0;
}

static bool is_to_be_reset(int state) /* tcp_need_reset() */
{
    return state == FIN__ESTABLISHED || state == FIN__SYN_RECV || state == FIN__CLOSE_WAIT
        || state == FIN__FIN_WAIT1 || state == FIN__FIN_WAIT2;
}

unsigned fin__see_resets(const struct fin__endpoint *ep, int state, uint64_t unacked)
{
    /* Where the peer's window is full it may ignore the RST. The next one that it gets is about the
     * subflow alone. */
    unsigned unsure = ep->mptcp && unacked ? FIN__IS_RESET_UNSURE : 0;

    if (ep->linger_reset)
        return unsure | (is_to_be_reset(state) ? FIN__IS_RESET_ON_CLOSE : 0);
    if (state == FIN__FIN_WAIT2 && ep->plain_tcp && fin__shuns_fin_wait2(ep->fd))
        return FIN__IS_RESET_ON_CLOSE;
    return unsure;
}
