/* SPDX-License-Identifier: MIT */

/* A socket as `finack ps` sees it, and who holds it. */

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

/* Why a socket is still there. One may have several; the first of them is the one that counts. */
enum finding {
    FOUND_STALE,       /* an epoll entry of it whose number is something else now */
    FOUND_INVISIBLE,   /* it is open, and no process shows it */
    FOUND_DEAD,        /* it is open, and its connection is over */
    FOUND_ORPHAN,      /* no process; the kernel is still at work */
    FOUND_STALLED,     /* the peer's window is closed, and bytes wait */
    FOUND_LEAKED,      /* the peer has ended, and it is open still */
    FOUND_HALF_CLOSED, /* our side has ended, the peer's has not */
    FOUND_HELD,        /* several processes hold it that do not share it on purpose */
    FOUND_NOTHING,
};
#define FINDINGS 9

/* The kernel's numbers of states (net/tcp_states.h) go to 13; this one is ours: not known. */
enum {
    STATE_UNKNOWN = 0,
    STATES = 14
};

/* Of struct tcp_info; times are ms ago. */
struct tcp_facts {
    bool known;
    uint32_t last_sent, last_received, last_acked;
    uint64_t received, acked; /* bytes */
};

struct socket {
    enum protocol protocol;
    uint8_t family, type; /* AF_*, SOCK_* */
    uint8_t state;
    uint8_t timer; /* as struct fin_state has it */
    uint8_t retries;
    uint8_t shut;   /* Unix: 1 receiving, 2 sending is over */
    bool listed;    /* sock_diag has it; else it was found in /proc alone */
    bool has_error; /* dead: there is one that the program has not been told of */
    bool gone;      /* it was over before we were */
    uint16_t local_port, remote_port;
    uint8_t local[16], remote[16]; /* network order; v4 in the first 4 */
    uint32_t interface;
    uint32_t uid;
    uint32_t timer_ms;
    uint32_t receive_queue, send_queue;
    uint64_t inode; /* 0: no process can have it */
    uint64_t cookie;
    uint64_t peer; /* Unix: the inode of the other end, 0: it is gone, or not accepted yet */
    size_t name;   /* Unix: where it is in the names, 0: it has none */
    struct tcp_facts tcp;
    uint64_t netns; /* the inode of its network namespace */
    size_t first_reference, references;
    size_t first_stale, stales;
    size_t listener; /* 1 + the index of the socket that listens on its port for other processes */
    unsigned findings; /* bits 1u << enum finding */
    enum finding verdict;
    bool rated;                       /* --watch has seen it before: */
    double received_rate, acked_rate; /* bytes a second */
};

struct process {
    int32_t pid;
    uint64_t netns;   /* 0: not read yet */
    char command[16]; /* terminated; may hold any byte but NUL */
};

/* A descriptor of a process that refers to a socket. */
struct reference {
    uint64_t inode;
    uint32_t process; /* an index */
    int32_t fd;
};

/* An epoll set of a process. */
struct epoll_set {
    uint32_t process;
    int32_t fd;
    size_t stales; /* entries of it in the list of stale ones */
};

/* An entry of an epoll set, for a socket, whose number means something else by now. */
struct stale_entry {
    uint64_t inode; /* of the socket */
    uint64_t data;
    size_t set; /* an index */
    int32_t fd; /* the number */
    uint32_t events;
    bool reused; /* the number is in use for something else; else for nothing */
    bool seen;   /* it was still there after its number had been looked at */
};

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
