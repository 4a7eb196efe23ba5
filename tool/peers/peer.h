/* SPDX-License-Identifier: MIT */

/* What the embedded peers share among themselves; users take peers.h. */

#ifndef TOOL_PEER_H
#define TOOL_PEER_H

#include "peers/peer_types.h"
#include "peers/transport.h"

#include <pthread.h>
#include <stdatomic.h>
#include <sys/socket.h>

struct peer {
    enum peer_kind kind;
    SSL_CTX *server;
    int listener;
    int stop; /* eventfd: readable once it shall come to its end */
    struct sockaddr_storage address;
    socklen_t address_size;
    pthread_t thread;
    atomic_int grace_ms;
    bool stopped;      /* seen by the thread */
    uint64_t life;     /* its last moment */
    uint64_t deadline; /* the end of its life, or of the grace once it is stopped */
    struct transport transport;
    struct peer_view view;
};

/* Waits for `events` at `fd` (-1: for nothing) until `limit` or the peer's own deadline. Being
 * stopped ends it once. Returns what poll(2) found, 0 for time or stop. */
short peer_wait(struct peer *p, int fd, short events, uint64_t limit);

#endif
