/* SPDX-License-Identifier: MIT */

/* A socket as `finack ps` sees it. */

#ifndef TOOL_SOCKET_H
#define TOOL_SOCKET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum protocol {
    PROTOCOL_TCP,
    PROTOCOL_UDP,
    PROTOCOL_UNIX,
};
#define PROTOCOLS 3

/* Why a socket is still there. Several of these may be true; the verdict is the first of them. */
enum finding {
    FOUND_STALE,       /* an epoll entry of it whose number is another file now */
    FOUND_INVISIBLE,   /* it is open, and no process shows it */
    FOUND_DEAD,        /* it is open, and its connection is over */
    FOUND_ORPHAN,      /* no process; the kernel is still at work */
    FOUND_STALLED,     /* the peer's window is closed, and bytes wait */
    FOUND_LEAKED,      /* the peer has ended, and it is still open */
    FOUND_UNSERVED,    /* clients wait, and no holder accepts them */
    FOUND_HALF_CLOSED, /* our side has ended, the peer's has not */
    FOUND_HELD,        /* several processes hold it that do not share it on purpose */
    FOUND_NOTHING,
    FOUND_PARKED, /* what is left of a pair, empty, and nobody waits for it: kept on purpose */
};
#define FINDINGS 11

/* Is this verdict a ghost? */
static inline bool is_ghost(enum finding verdict)
{
    return verdict < FOUND_NOTHING;
}

/* The kernel's numbers of states (net/tcp_states.h) go to 13; this one is ours: not known. */
enum {
    STATE_UNKNOWN = 0,
    STATES = 14
};

/* Of struct tcp_info; times are ms ago. */
struct tcp_facts {
    uint64_t received, acked; /* bytes */
    uint32_t last_sent, last_received, last_acked;
    uint32_t timer_ms; /* until the timer runs out */
};

/* There may be very many: 128 bytes. The kernel numbers sockets and namespaces in 32 bits. */
struct socket {
    uint64_t cookie;
    union {
        struct tcp_facts tcp; /* of TCP */
        struct {
            uint32_t name; /* Unix: where it is in the names, 0: it has none */
            uint32_t
                peer; /* Unix: the inode of the other end, 0: it is gone, or not accepted yet */
        };
    };
    uint8_t local[16], remote[16]; /* network order; v4 in the first 4 */
    uint16_t local_port, remote_port;
    uint32_t interface;
    uint32_t uid;
    uint32_t receive_queue, send_queue;
    uint32_t inode; /* 0: no process can have it */
    uint32_t netns; /* the inode of its network namespace */
    uint32_t first_reference, references;
    uint32_t
        listener; /* 1 + the index of the socket that listens on its port for other processes */
    uint32_t
        closed_by; /* 1 + the index of the process that closed it and left it to another program */
    unsigned findings;    /* bits 1u << enum finding */
    uint8_t family, type; /* AF_*, SOCK_* */
    uint8_t state;
    uint8_t timer; /* as struct fin_state has it */
    uint8_t retries;
    uint8_t shut; /* Unix: 1 receiving, 2 sending is over */
    enum protocol protocol : 3;
    enum finding verdict : 5;
    bool listed : 1;         /* sock_diag has it; else it was found in /proc alone */
    bool has_tcp : 1;        /* what `tcp` says of the past is known */
    bool has_error : 1;      /* dead: there is one that the program has not been told of */
    bool gone : 1;           /* it was over before we were */
    bool queues_unknown : 1; /* we may not look closer */
};
_Static_assert(sizeof(struct socket) == 128, "see above");

/* The states that are told apart here (include/net/tcp_states.h). */
enum {
    STATE_ESTABLISHED = 1,
    STATE_FIN_WAIT1 = 4,
    STATE_FIN_WAIT2 = 5,
    STATE_TIME_WAIT = 6,
    STATE_CLOSE = 7,
    STATE_CLOSE_WAIT = 8,
    STATE_LAST_ACK = 9,
    STATE_LISTEN = 10,
    STATE_CLOSING = 11,
};

/* Timers, as sock_diag(7) has them. */
enum {
    TIMER_RETRANSMIT = 1,
    TIMER_KEEPALIVE = 2,
    TIMER_TIME_WAIT = 3,
    TIMER_PROBE = 4,
};

/* A Unix socket's `shut`. */
enum {
    SHUT_RECEIVING = 1,
    SHUT_SENDING = 2,
    SHUT_BOTH = 3
};

/* "tcp", "leaked", "CLOSE_WAIT"; "?" for no such value. Static strings. */
const char *socket_protocol_name(int protocol);
const char *finding_name(int finding);
const char *socket_state_name(int state);

/* A state as the kernel numbers it; STATE_UNKNOWN for one that only a newer kernel has. */
uint8_t socket_state(int kernel);

#endif
