/* SPDX-License-Identifier: MIT */

#include "peers/peers.h"

#include "common/deadline.h"
#include "peers/peer.h"

#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

/* A deaf peer's window is small, so that it is full soon. */
enum {
    DEAF_BUFFER = 16384
};

static int accept_one(struct peer *p)
{
    while (!p->stopped && fin__now() < p->deadline) {
        int fd = accept4(p->listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

        if (fd >= 0)
            return fd;
        if (errno != EAGAIN && errno != EINTR && errno != ECONNABORTED)
            return -errno;
        peer_wait(p, p->listener, POLLIN, UINT64_MAX);
    }
    return -ETIMEDOUT;
}

static bool shake_hands(struct peer *p)
{
    int r;

    while ((r = transport_handshake(&p->transport)) == 0) {
        int got = transport_receive(&p->transport);

        if (got < 0)
            return false;
        if (!got && !peer_wait(p, p->transport.fd, POLLIN, UINT64_MAX) && fin__now() >= p->deadline)
            return false;
    }
    return r == 1;
}

static bool means_reset(int error)
{
    return error == ECONNRESET || error == EPIPE;
}

static void peers_report(struct peer *p)
{
    struct peer_view *v = &p->view;

    v->bytes = p->transport.bytes;
    v->notified = p->transport.notified;
    v->eof = p->transport.eof;
    v->read_error = p->transport.error;
    v->reset = v->pollerr || v->so_error || means_reset(v->read_error) || means_reset(v->next_send);
}

static void *peer_main(void *arg)
{
    struct peer *p = arg;
    int fd = accept_one(p);

    if (fd < 0)
        return NULL;
    if (transport_open(&p->transport, fd, p->server) < 0) {
        close(fd);
        return NULL;
    }
    p->view.connected = shake_hands(p);
    if (p->view.connected)
        peer_behave(p);
    peers_report(p);
    transport_close(&p->transport);
    return NULL;
}

static int loopback(struct peer *p, int family)
{
    struct sockaddr_in *v4 = (struct sockaddr_in *) &p->address;
    struct sockaddr_in6 *v6 = (struct sockaddr_in6 *) &p->address;

    p->address.ss_family = (sa_family_t) family;
    p->address_size = family == AF_INET ? sizeof *v4 : sizeof *v6;
    if (family == AF_INET)
        v4->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    else if (family == AF_INET6)
        v6->sin6_addr = in6addr_loopback;
    else
        return -EAFNOSUPPORT;
    return 0;
}

static int listen_there(struct peer *p)
{
    struct sockaddr *address = (struct sockaddr *) &p->address;
    int small = DEAF_BUFFER;

    p->listener = socket(address->sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (p->listener < 0)
        return -errno;
    if (p->kind == PEER_DEAF || p->kind == PEER_NOTIFY_THEN_DEAF)
        setsockopt(p->listener, SOL_SOCKET, SO_RCVBUF, &small, sizeof small);
    if (bind(p->listener, address, p->address_size) < 0 || listen(p->listener, 1) < 0
        || getsockname(p->listener, address, &p->address_size) < 0)
        return -errno;
    return 0;
}

static int set_up(struct peer *p, int family)
{
    int r = loopback(p, family);

    if (r < 0)
        return r;
    r = listen_there(p);
    if (r < 0)
        return r;
    p->stop = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (p->stop < 0)
        return -errno;
    return -pthread_create(&p->thread, NULL, peer_main, p);
}

static void peer_free(struct peer *p)
{
    if (p->listener >= 0)
        close(p->listener);
    if (p->stop >= 0)
        close(p->stop);
    free(p);
}

int peer_start(enum peer_kind kind, SSL_CTX *server, int family, struct peer **ret)
{
    struct peer *p;
    int r;

    if ((unsigned) kind >= PEER_KINDS || (peer_needs_tls(kind) && !server))
        return -EINVAL;
    p = calloc(1, sizeof *p);
    if (!p)
        return -ENOMEM;
    p->kind = kind;
    p->server = server;
    p->listener = p->stop = -1;
    p->view.next_send = -1;
    p->life = p->deadline = deadline_in_ms(PEER_LIFE_MS);
    r = set_up(p, family);
    if (r < 0)
        peer_free(p);
    else
        *ret = p;
    return r;
}

const struct sockaddr *peer_address(const struct peer *peer, socklen_t *ret_size)
{
    *ret_size = peer->address_size;
    return (const struct sockaddr *) &peer->address;
}

void peer_finish(struct peer *peer, int grace_ms, struct peer_view *view)
{
    atomic_store(&peer->grace_ms, grace_ms);
    eventfd_write(peer->stop, 1);
    pthread_join(peer->thread, NULL);
    *view = peer->view;
    peer_free(peer);
}
