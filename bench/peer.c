/* SPDX-License-Identifier: MIT */

#include "bench.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

/* What goes over the control socket: to the peer, a batch to accept; back, a sign (a byte) for
 * "accepted" and one for "all closed". */
struct order {
    unsigned count;
    unsigned port;
    bool hold; /* wait for a sign before reading */
};

/* ---- signs ---- */

static void sign(int control)
{
    bench_must((int) send(control, "", 1, MSG_NOSIGNAL), "send");
}

static void await_sign(int control)
{
    char byte;

    if (recv(control, &byte, 1, 0) != 1)
        bench_die("the other side has gone");
}

/* ---- in the peer's process ---- */

static void read_and_close(int fd)
{
    char buf[4096];
    ssize_t n;

    do
        n = recv(fd, buf, sizeof buf, 0);
    while (n > 0);
    bench_must((int) n, "peer: recv");
    bench_must(close(fd), "peer: close");
}

static void serve(int control, const int *listeners)
{
    struct order order;
    int fds[BENCH_BATCH_MAX];

    while (recv(control, &order, sizeof order, 0) == (ssize_t) sizeof order) {
        for (unsigned i = 0; i < order.count; i++)
            fds[i] = bench_must(accept4(listeners[order.port], NULL, NULL, SOCK_CLOEXEC), "accept");
        sign(control);
        if (order.hold)
            await_sign(control);
        for (unsigned i = 0; i < order.count; i++)
            read_and_close(fds[i]);
        sign(control);
    }
    _exit(0);
}

/* ---- in ours ---- */

static int listen_on_loopback(unsigned short *port)
{
    struct sockaddr_in address = { .sin_family = AF_INET, .sin_addr = { htonl(INADDR_LOOPBACK) } };
    socklen_t size = sizeof address;
    int fd = bench_must(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), "socket");

    bench_must(bind(fd, (struct sockaddr *) &address, sizeof address), "bind");
    bench_must(listen(fd, BENCH_BATCH_MAX), "listen");
    bench_must(getsockname(fd, (struct sockaddr *) &address, &size), "getsockname");
    *port = address.sin_port;
    return fd;
}

void bench_peer_start(struct bench_peer *peer)
{
    int pair[2], listeners[BENCH_PORTS];

    *peer = (struct bench_peer) { .process = -1 };
    bench_must(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), "socketpair");
    /* More ports than one: each close leaves an address pair in TIME_WAIT. */
    for (int i = 0; i < BENCH_PORTS; i++)
        listeners[i] = listen_on_loopback(&peer->port[i]);
    peer->process = bench_must(fork(), "fork");
    if (peer->process == 0) {
        bench_must(prctl(PR_SET_PDEATHSIG, SIGKILL), "prctl");
        bench_must(close(pair[0]), "close");
        bench_pin(1);
        serve(pair[1], listeners);
    }
    bench_pin(0);
    for (int i = 0; i < BENCH_PORTS; i++)
        bench_must(close(listeners[i]), "close");
    bench_must(close(pair[1]), "close");
    peer->control = pair[0];
}

void bench_peer_connect(struct bench_peer *peer, int *fds, size_t count)
{
    struct order order = { (unsigned) count, peer->turn++ % BENCH_PORTS, peer->holds };
    struct sockaddr_in address = { .sin_family = AF_INET,
                                   .sin_port = peer->port[order.port],
                                   .sin_addr = { htonl(INADDR_LOOPBACK) } };

    for (size_t i = 0; i < count; i++) {
        fds[i] = bench_must(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), "socket");
        bench_must(connect(fds[i], (struct sockaddr *) &address, sizeof address), "connect");
    }
    bench_must((int) send(peer->control, &order, sizeof order, MSG_NOSIGNAL), "send");
    await_sign(peer->control);
}

void bench_peer_settle(struct bench_peer *peer)
{
    if (peer->holds)
        sign(peer->control);
    await_sign(peer->control);
}

void bench_peer_stop(struct bench_peer *peer)
{
    int status;

    bench_must(close(peer->control), "close");
    bench_must(waitpid(peer->process, &status, 0), "waitpid");
    if (!WIFEXITED(status) || WEXITSTATUS(status) != 0)
        bench_die("the peer failed");
}
