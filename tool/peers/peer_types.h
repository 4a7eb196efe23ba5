/* SPDX-License-Identifier: MIT */

/* The kinds of embedded peers, and what a peer reports of its connection. */

#ifndef TOOL_PEER_TYPES_H
#define TOOL_PEER_TYPES_H

#include <stdbool.h>
#include <stdint.h>

enum peer_kind {
    PEER_CLEAN,      /* answers: reads to the end, says close_notify, closes */
    PEER_SLOW,       /* the same 300 ms later */
    PEER_MUTE,       /* reads, never closes */
    PEER_DEAF,       /* stops reading at once; reads what is there once it is asked to finish */
    PEER_CHATTY,     /* sends for ever */
    PEER_UNREAD,     /* sends PEER_UNREAD_BYTES at once, and one byte more after the end */
    PEER_RESETTING,  /* answers FIN by RST */
    PEER_HELD,       /* as clean; our own side forks a holder (client.h) */
    PEER_TRUNCATING, /* TLS: answers by FIN without close_notify */
    PEER_NOTIFY_THEN_DEAF, /* TLS: says close_notify first, and then is deaf */
};
#define PEER_KINDS 10

#define PEER_UNREAD_BYTES 16384

/* No peer lives longer, whatever happens. */
#define PEER_LIFE_MS 30000

/* What the peer saw. */
struct peer_view {
    uint64_t bytes; /* of the program's that it received */
    bool connected; /* somebody came, and the TLS handshake succeeded */
    bool notified;  /* close_notify was read */
    bool eof;       /* FIN was read */
    bool pollerr;   /* poll(2) gave POLLERR afterwards */
    bool reset;     /* any sign of RST: in a read, a send, POLLERR or SO_ERROR */
    int read_error; /* errno of the read that ended the stream, or 0 */
    int so_error;   /* SO_ERROR afterwards */
    int next_send;  /* errno of its next send after the end, 0: it succeeded, -1: not tried
                       (mute, deaf, chatty, unread and notify-then-deaf try) */
};

#endif
