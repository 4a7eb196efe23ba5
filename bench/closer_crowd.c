/* SPDX-License-Identifier: MIT */

#include "closer_parts.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#define SPARE 100 /* descriptors for anything but connections */
#define BACKLOG 4096
#define EVENTS 256

/* Of a batch, so many go to one port. connect(2) tries every even local port before an odd one
 * (__inet_hash_connect()): with more than half of ip_local_port_range in use towards one address it
 * takes a millisecond. */
#define RUN 2500

struct order {
    unsigned count, port, stamped;
};

/* ---- in the peer's process ---- */

struct peer {
    int set;
    int *fds;
    bool *ended; /* one FIN may make two edges */
    uint64_t *stamps;
};

static void sign(int control)
{
    bench_must((int) send(control, "", 1, MSG_NOSIGNAL), "send");
}

static unsigned port_of(const struct order *order, size_t i)
{
    return (unsigned) (order->port + i / RUN) % CROWD_PORTS;
}

static void take(struct peer *p, const int *listeners, const struct order *order)
{
    struct epoll_event entry = { .events = EPOLLIN | EPOLLRDHUP | EPOLLET };

    for (unsigned i = 0; i < order->count; i++) {
        p->fds[i] = bench_must(
            accept4(listeners[port_of(order, i)], NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK),
            "accept");
        p->ended[i] = false;
        entry.data.u32 = i;
        bench_must(epoll_ctl(p->set, EPOLL_CTL_ADD, p->fds[i], &entry), "epoll_ctl");
    }
}

static bool at_end(int fd)
{
    char buf[4096];
    ssize_t n;

    do
        n = recv(fd, buf, sizeof buf, 0);
    while (n > 0);
    if (n < 0 && errno != EAGAIN)
        bench_die("peer: recv: %s", strerror(errno));
    return n == 0;
}

/* Reads all to EOF. */
static void read_all(struct peer *p, unsigned count, bool close_at_once)
{
    struct epoll_event events[EVENTS];

    while (count > 0) {
        int n = bench_must(epoll_wait(p->set, events, EVENTS, -1), "peer: epoll_wait");

        for (int i = 0; i < n; i++) {
            uint32_t at = events[i].data.u32;

            if (p->ended[at] || !at_end(p->fds[at]))
                continue;
            p->ended[at] = true;
            count--;
            if (close_at_once)
                bench_must(close(p->fds[at]), "peer: close");
        }
    }
}

static void shuffle(unsigned *order, unsigned count)
{
    for (unsigned i = 0; i < count; i++)
        order[i] = i;
    for (unsigned i = count; i > 1; i--) {
        unsigned j = (unsigned) random() % i, swapped = order[i - 1];

        order[i - 1] = order[j];
        order[j] = swapped;
    }
}

static void close_paced(struct peer *p, const struct order *order)
{
    unsigned *turns = malloc(order->count * sizeof *turns);
    uint64_t next = monotonic_ns() + 50 * CROWD_PACE_NS; /* the other side goes to sleep first */

    if (!turns)
        bench_die("out of memory");
    shuffle(turns, order->count);
    for (unsigned i = 0; i < order->count; i++, next += CROWD_PACE_NS) {
        while (i < order->stamped && monotonic_ns() < next)
            ; /* asleep it would wake too late */
        p->stamps[turns[i]] = i < order->stamped ? monotonic_ns() : 0;
        bench_must(close(p->fds[turns[i]]), "peer: close");
    }
    free(turns);
}

static void serve(int control, const int *listeners, const struct crowd *crowd)
{
    struct peer p = {
        .set = bench_must(epoll_create1(EPOLL_CLOEXEC), "epoll_create1"),
        .fds = calloc(crowd->size, sizeof *p.fds),
        .ended = calloc(crowd->size, sizeof *p.ended),
        .stamps = crowd->stamps,
    };
    struct order order;

    if (!p.fds || !p.ended)
        bench_die("out of memory");
    while (recv(control, &order, sizeof order, 0) == (ssize_t) sizeof order) {
        take(&p, listeners, &order);
        sign(control);
        read_all(&p, order.count, order.stamped == 0);
        if (order.stamped)
            close_paced(&p, &order);
        sign(control);
    }
    _exit(0);
}

/* ---- in ours ---- */

static size_t raise_limit(void)
{
    struct rlimit limit;

    bench_must(getrlimit(RLIMIT_NOFILE, &limit), "getrlimit");
    limit.rlim_cur = limit.rlim_max;
    bench_must(setrlimit(RLIMIT_NOFILE, &limit), "setrlimit");
    if (limit.rlim_cur < 4 * SPARE)
        bench_die("too few descriptors are allowed (RLIMIT_NOFILE)");
    /* Each connection of a batch needs a local port of its own (ip_local_port_range). */
    return limit.rlim_cur > 25000 ? 25000 : limit.rlim_cur - SPARE;
}

static int listen_on_loopback(unsigned short *port)
{
    struct sockaddr_in address = { .sin_family = AF_INET, .sin_addr = { htonl(INADDR_LOOPBACK) } };
    socklen_t size = sizeof address;
    int fd = bench_must(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), "socket");

    bench_must(bind(fd, (struct sockaddr *) &address, sizeof address), "bind");
    bench_must(listen(fd, BACKLOG), "listen");
    bench_must(getsockname(fd, (struct sockaddr *) &address, &size), "getsockname");
    *port = address.sin_port;
    return fd;
}

static uint64_t *shared(size_t count)
{
    void *memory = mmap(NULL, count * sizeof(uint64_t), PROT_READ | PROT_WRITE,
                        MAP_SHARED | MAP_ANONYMOUS, -1, 0);

    if (memory == MAP_FAILED)
        bench_die("mmap: %s", strerror(errno));
    return memory;
}

void crowd_start(struct crowd *crowd)
{
    int pair[2], listeners[CROWD_PORTS];

    *crowd = (struct crowd) { .size = raise_limit() };
    crowd->stamps = shared(crowd->size);
    bench_must(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), "socketpair");
    for (int i = 0; i < CROWD_PORTS; i++)
        listeners[i] = listen_on_loopback(&crowd->port[i]);
    crowd->process = bench_must(fork(), "fork");
    if (crowd->process == 0) {
        bench_must(prctl(PR_SET_PDEATHSIG, SIGKILL), "prctl");
        bench_must(close(pair[0]), "close");
        bench_pin(1);
        serve(pair[1], listeners, crowd);
    }
    bench_pin(0);
    for (int i = 0; i < CROWD_PORTS; i++)
        bench_must(close(listeners[i]), "close");
    bench_must(close(pair[1]), "close");
    crowd->control = pair[0];
}

void crowd_settle(struct crowd *crowd)
{
    char byte;

    if (recv(crowd->control, &byte, 1, 0) != 1)
        bench_die("the peer has gone");
}

void crowd_connect(struct crowd *crowd, int *fds, size_t count, size_t stamped)
{
    struct order order = { (unsigned) count, crowd->turn, (unsigned) stamped };
    struct sockaddr_in address = { .sin_family = AF_INET, .sin_addr = { htonl(INADDR_LOOPBACK) } };

    crowd->turn = port_of(&order, count - 1 + RUN);
    /* The order first, so that the peer accepts meanwhile: the queue is shorter than the batch. */
    bench_must((int) send(crowd->control, &order, sizeof order, MSG_NOSIGNAL), "send");
    for (size_t i = 0; i < count; i++) {
        address.sin_port = crowd->port[port_of(&order, i)];
        fds[i] = bench_must(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), "socket");
        bench_must(connect(fds[i], (struct sockaddr *) &address, sizeof address), "connect");
    }
    crowd_settle(crowd); /* all are accepted */
}

void crowd_stop(struct crowd *crowd)
{
    int status;

    bench_must(close(crowd->control), "close");
    bench_must(waitpid(crowd->process, &status, 0), "waitpid");
    if (!WIFEXITED(status) || WEXITSTATUS(status) != 0)
        bench_die("the peer failed");
    bench_must(munmap(crowd->stamps, crowd->size * sizeof(uint64_t)), "munmap");
}
