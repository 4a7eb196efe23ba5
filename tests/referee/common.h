/* SPDX-License-Identifier: MIT */

/* What both ends of a scene use. */

#ifndef COMMON_H
#define COMMON_H

#include "scene.h"

#include <sys/socket.h>
#include <sys/types.h>

/* Ends the process if the scene can't be played: that is no contradiction, but a broken referee. */
#define must(condition, what) ((condition) ? (void) 0 : broken(__FILE__, __LINE__, what))
_Noreturn void broken(const char *file, int line, const char *what);

/* fork(2); the child is killed when this thread ends. */
pid_t fork_mortal(void);

/* An address on the loopback interface that no other scene uses at the same time, port 0. */
void address_make(const struct scene *scene, uint64_t host, struct sockaddr_storage *address,
                  socklen_t *size);

/* A socket of the scene's kind, bound there; the port is filled in. */
int socket_bound(const struct scene *scene, struct sockaddr *address, socklen_t *size);

/* One message of the peer's, and the descriptor in it or -1. */
int receive_descriptor(int control);

/* Bit N of `set` tells whether descriptor N is open. */
#define DESCRIPTORS 512
struct descriptors {
    unsigned char open[DESCRIPTORS];
};
void descriptors_take(struct descriptors *set);

/* The state that sock_diag has for a TCP connection, 0: none, negative: can't be asked. */
int diag_state(const struct sockaddr_storage *ours, const struct sockaddr_storage *theirs);

#endif
