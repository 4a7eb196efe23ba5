/* SPDX-License-Identifier: MIT */

/* What the peer did and saw. In memory that is shared with it; to be read when it has answered. */

#ifndef VIEW_H
#define VIEW_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>

#define CLIENTS_MAX 4

enum view_end {
    VIEW_OPEN,  /* nothing says that the stream has ended */
    VIEW_EOF,   /* a read gave 0 */
    VIEW_RESET, /* a read failed; `error` tells */
};

struct view {
    struct sockaddr_storage theirs, ours; /* addresses */
    socklen_t theirs_size, ours_size;
    unsigned clients; /* of a listening socket: how many are to connect */

    uint64_t sent;    /* bytes for us that the peer's kernel took */
    uint64_t sent_ns; /* just before it last sent, 0: never */
    uint64_t read;
    bool corrupt; /* what was read is not what was sent */
    int end;      /* enum view_end */
    int error;
    uint64_t end_ns; /* CLOCK_MONOTONIC; 0: not */
    int send_error;  /* of the first send that failed */
    int so_error;    /* found at the very end */
    bool watched;    /* the peer had its socket open to the very end */

    uint64_t acted_ns; /* just before the peer shut, closed, reset or died; 0: it did not */
    uint64_t did_ns;   /* just after, 0: not yet */
    bool acted_unread; /* bytes of ours were unread then: its close is a reset */
    bool died;
    bool notified;     /* the peer read our close_notify */
    uint64_t said_ns;  /* just before it said its own, 0: not */
    uint64_t told_ns;  /* just after */
    uint64_t fault_ns; /* when the network broke, 0: it did not */

    uint64_t now_read,
        now_queued; /* just after the close: read by the program, and in its kernel */
    int now_poll;   /* poll(2)'s events then, -1 without a socket */
    int now_end;

    unsigned client_eof, client_reset, client_open; /* how a listening socket's clients ended */
};

/* The byte at `offset` of what either side sends. */
unsigned char view_byte(uint64_t offset);

uint64_t view_clock(void);

#endif
