/* SPDX-License-Identifier: MIT */

/* What is being closed, as far as it is known by now; endpoint.c, read.c and sight.c share it. */

#ifndef FIN_SUBJECT_H
#define FIN_SUBJECT_H

#include <finack.h>
#include <stdbool.h>
#include <stdint.h>

struct fin__endpoint {
    int fd;
    uint16_t traits;
    uint16_t facts; /* for fin__machine_start() */
    uint8_t family; /* AF_*, AF_INET for both versions; 0: a pipe */
    uint8_t kind;   /* enum fin__kind, to search for holders by */
    bool plain_tcp : 1;
    bool mptcp : 1;    /* TCP_INFO speaks of one subflow alone */
    bool fallback : 1; /* an MPTCP socket whose connection is TCP */
    bool seqpacket : 1;
    bool layer_over : 1;    /* nothing more is read through the layer */
    bool end_ambiguous : 1; /* read(2) = 0 may come from a shutdown on our side */
    bool end_forfeited : 1; /* it does: the peer's FIN is not waited for */
    bool shut : 1;          /* our FIN was queued, by us or before */
    bool peer_fin : 1;      /* the peer's FIN was seen */
    bool linger_reset : 1;  /* SO_LINGER with time 0 stands */
    bool accepted : 1;      /* by a listening socket: its SYN is not counted */
    bool emptied : 1;       /* all that the peer sent was read, and its FIN */
    uint32_t beyond;        /* MPTCP: rcv_nxt less the data, before a DATA_FIN came */
    const struct fin_layer *layer;
};

#endif
