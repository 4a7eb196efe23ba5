/* SPDX-License-Identifier: MIT */

/* What the kernel says of a connection, seen without changing it: nothing is read, no error
 * taken. */

#ifndef FIN_SIGHT_H
#define FIN_SIGHT_H

#include "close/machine.h"
#include "close/subject.h"

#include <linux/tcp.h>

/* Kernel values of tcpi_state (include/net/tcp_states.h). */
enum fin__tcp_state {
    FIN__ESTABLISHED = 1,
    FIN__SYN_SENT,
    FIN__SYN_RECV,
    FIN__FIN_WAIT1,
    FIN__FIN_WAIT2,
    FIN__TIME_WAIT,
    FIN__CLOSED,
    FIN__CLOSE_WAIT,
    FIN__LAST_ACK,
    FIN__LISTEN,
    FIN__CLOSING,
};

struct fin__sight {
    unsigned facts;   /* IS_SHUT, IS_ACKED, IS_FIN, IS_OVER, IS_UNKNOWN, IS_FIN_UNKNOWN */
    int state;        /* enum fin__tcp_state, 0: not TCP, or not to be known */
    uint64_t unacked; /* bytes that the peer has not acknowledged, without FIN */
};

/* 0, 1 if an older kernel did not fill the counts of bytes (they are zero, and mean nothing), or a
 * negative errno. */
int fin__tcp_info(int fd, struct tcp_info *info);

/* True if this was never a connection: CLOSE is also the state of one that has ended. */
bool fin__never_connected(const struct fin__endpoint *ep, const struct tcp_info *info);

/* Whether this MPTCP socket is one, or fell back to TCP: sets ep->mptcp or ep->fallback. */
void fin__sight_multipath(struct fin__endpoint *ep);

/* Notes what must be known of a connection before its close begins. */
void fin__sight_begin(struct fin__endpoint *ep, const struct tcp_info *info);

/* `shut`: our FIN is queued, as far as the caller knows. `count`: `unacked` is wanted. */
void fin__see(struct fin__endpoint *ep, bool shut, bool count, struct fin__sight *sight);

/* Bytes that the kernel has and the peer has not acknowledged (SIOCOUTQ; FIN counts as one), or, of
 * a Unix socket, has not read. Or a negative errno. */
int64_t fin__outstanding(int fd);

/* Bytes of input that close(2) would find unread; urgent data too. */
uint64_t fin__see_unread(const struct fin__endpoint *ep);

/* What the last close(2) of this connection, in `state`, will send, unread input apart:
 * IS_RESET_ON_CLOSE, and IS_RESET_UNSURE if the peer may not take it. */
unsigned fin__see_resets(const struct fin__endpoint *ep, int state, uint64_t unacked);

/* Of a TCP socket: without a descriptor it answers the acknowledgement of its FIN by RST. */
bool fin__shuns_fin_wait2(int fd);

/* An error waits to be read. */
bool fin__has_error(int fd);

/* Of a Unix socket: 1 if its peer is gone, or both its sides were shut by us (unix_poll()); 0, or a
 * negative errno: not to be known. */
int fin__both_shut(int fd);

/* Nothing more is to be read after what there is, or that can't be known. */
bool fin__may_have_ended(int fd);

#endif
