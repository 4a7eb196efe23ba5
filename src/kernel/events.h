/* SPDX-License-Identifier: MIT */

/* Destroy events: the kernel announces that a TCP socket is freed (SKNLGRP_INET_TCP_DESTROY and
 * its v6 twin, sock_diag_destroy()). Being in the groups costs every program of the network
 * namespace about a sixth more per connection, so they are joined only while a close needs them. */

#ifndef FIN_EVENTS_H
#define FIN_EVENTS_H

#include <stdbool.h>
#include <stdint.h>

struct mnl_socket;

struct fin__events {
    struct mnl_socket *socket; /* NULL: none */
    uint32_t users;
    bool joined;
};

#define FIN__EVENTS_INIT ((struct fin__events) { 0 })

/* A TCP socket that was freed. */
struct fin__destroyed {
    uint64_t cookie;
    uint64_t bytes_acked;
    bool counted; /* bytes_acked is known */
};

/* Opens the socket; joins nothing. Returns 0 or a negative errno. */
int fin__events_open(struct fin__events *events);
void fin__events_close(struct fin__events *events);

/* To be polled for input, or -1. */
int fin__events_fd(const struct fin__events *events);

/* One more close, one less, that needs them. join returns 0 or a negative errno: then it is not
 * counted. */
int fin__events_join(struct fin__events *events);
void fin__events_leave(struct fin__events *events);

/* Takes at most `max` of what has come: calls take() for each. Returns 0, or -ENOBUFS: some were
 * lost. */
int fin__events_read(struct fin__events *events, int max,
                     void (*take)(const struct fin__destroyed *destroyed, void *arg), void *arg);

#endif
