/* SPDX-License-Identifier: MIT */

/* The other end, in a process of its own. It is asked by bytes on a socket, and answers each but GO
 * by the same byte. */

#ifndef PEER_H
#define PEER_H

#include "network.h"
#include "scene.h"
#include "view.h"

#include <sys/types.h>

enum peer_question {
    ASK_MEET = 'm',  /* accept, or connect to us: our address is in the view now */
    ASK_BEGIN = 'b', /* send what is to be there before the close */
    ASK_ACT = 'a',   /* act now */
    ASK_HAS = 'h',   /* note how much has come */
    ASK_GO = 'g',    /* the close begins */
    ASK_FINAL = 'f', /* read to the end, look, leave */
};

struct peer {
    pid_t pid;
    int control;
    int fd; /* our end, if the peer made it; else -1 */
};

/* Starts it. Its address is in the view then. */
void peer_start(struct peer *peer, const struct scene *scene, struct view *view, uint64_t host,
                struct network *net);

/* Asks without waiting, and waits. */
void peer_begin(struct peer *peer, enum peer_question question);
bool peer_answered(struct peer *peer);

/* True if it has answered; false if it is not there any more. */
bool peer_ask(struct peer *peer, enum peer_question question);

void peer_end(struct peer *peer);

/* Reads the exact count of bytes in a descriptor's receive queue, 0 if that can't be told. */
uint64_t queued_input(int fd);

#endif
