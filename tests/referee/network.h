/* SPDX-License-Identifier: MIT */

/*
 * A network between us and the peer that can fail: three network namespaces in a row,
 *
 *     us 10.9.1.1 --- 10.9.1.2 a router 10.9.2.1 --- 10.9.2.2 the peer
 *
 * and a saboteur, a process that breaks it at a time and heals it. All of it goes with the
 * processes of the scene. Needs CAP_SYS_ADMIN: root, or a user namespace
 * (tests/system/namespaces.sh).
 */

#ifndef NETWORK_H
#define NETWORK_H

#include "scene.h"
#include "view.h"

#include <sys/types.h>

struct network {
    pid_t saboteur; /* 0: the scene needs no network of its own */
    int control;
};

/* Moves the caller into a namespace of its own, and makes that of the router. */
void network_begin(struct network *net, const struct scene *scene, struct view *view);

/* Moves the caller into a namespace with a loopback interface alone, where data may go with the SYN
 * without a cookie (tcp_fastopen in ip-sysctl.rst: 1, client; 4, without). */
void network_of_fast_open(void);

/* In the peer's process: waits until it is connected. `control` is the peer's. */
void network_join(int control);

/* In ours: connects the peer, which is in network_join(). */
void network_connect(struct network *net, pid_t peer, int control);

/* Breaks it now, if the scene says so; or tells the saboteur that the close begins. */
void network_break_before(struct network *net, const struct scene *scene);
void network_go(struct network *net, const struct scene *scene);

void network_heal(struct network *net);
void network_end(struct network *net);

#endif
