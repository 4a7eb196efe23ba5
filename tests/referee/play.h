/* SPDX-License-Identifier: MIT */

/* A scene as it was played: what the program did, what the close said, and what was true. */

#ifndef PLAY_H
#define PLAY_H

#include "common.h"
#include "network.h"
#include "peer.h"
#include "scene.h"
#include "view.h"

#include <finack.h>
#include <openssl/ssl.h>
#include <pthread.h>

struct play {
    struct scene scene;
    struct view *view;
    struct peer peer;
    struct network net;
    int fd;
    uint64_t handed;     /* bytes that the program gave to the kernel */
    uint64_t layer_sent; /* by the layer, in the close */
    uint64_t layer_left;
    uint64_t buffered;   /* by a transport of Python, when the close began */
    bool layer_farewell; /* its byte went after them */
    bool layer_broken;   /* a send of the layer's failed */
    SSL *ssl;            /* the program's end, or NULL */
    unsigned char record[16000];
    size_t unfinished; /* bytes in it that SSL_write() did not finish with */
    uint64_t program_read;
    bool program_saw_reset; /* a call of the program's took the error of a reset */

    pid_t pid;        /* of the program */
    bool cancelled;   /* there is no receipt */
    bool was_closing; /* the transport had ended already */
    bool left_open;   /* descriptors differ, as Python counts them */
    pid_t holder_pid; /* a process that refers to it too, 0: none */
    int holder_fd;    /* a dup of ours, or what is in flight to ourselves, -1: none */
    int flight[2];
    pthread_t worker;
    struct fin_handle *handle;

    struct fin_policy policy;
    struct fin_receipt receipt;
    int result;            /* of the call that closes */
    bool completed;        /* a closer's completion came */
    uint64_t began, ended; /* CLOCK_MONOTONIC */
    uint64_t stolen;       /* ns of it in the layer's callbacks, or in waiting for a processor */
    bool number_is_free;   /* after it */
    struct descriptors before, after; /* around it; `fd` is open in the first */
    int tcp_state; /* that the kernel has for the connection after the close, -1: not asked */
};

/* Plays the scene. */
void play(struct play *p, const struct scene *scene, uint64_t host);

/* The view and the peer of a scene. */
void play_begin(struct play *p, const struct scene *scene, uint64_t host);

struct fin_policy play_policy(const struct scene *scene);

/* The close itself, by the scene's driver. */
void drive(struct play *p);

/* A handle's worker, before the close and after it. */
void workers_start(struct play *p);
void workers_join(struct play *p);

#endif
