/* SPDX-License-Identifier: MIT */

/* libevent: shutdown(2), and an edge-triggered event that reads to EOF and closes. Cheaper than its
 * bufferevents, which have no call for FIN. No deadline, no proof. */

#include "closer_parts.h"

#include <errno.h>
#include <event2/event.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static struct event_base *base;
static struct event **events;
static const int *fds;
static size_t count;

static void readable(evutil_socket_t fd, short what, void *arg)
{
    size_t i = (size_t) ((const int *) arg - fds);
    char buf[16384];
    ssize_t n;

    (void) what;
    do
        n = recv(fd, buf, sizeof buf, 0);
    while (n > 0);
    if (n < 0 && errno == EAGAIN)
        return;
    bench_must((int) n, "recv");
    bench_must(event_del(events[i]), "event_del");
    bench_must(close(fd), "close");
    completed(i);
}

static void adopt(const int *list, size_t size)
{
    fds = list;
    count = size;
    base = event_base_new();
    events = calloc(count, sizeof(struct event *));
    if (!base || !events)
        bench_die("out of memory");
    for (size_t i = 0; i < count; i++) {
        bench_must(evutil_make_socket_nonblocking(fds[i]), "fcntl");
        events[i] =
            event_new(base, fds[i], EV_READ | EV_PERSIST | EV_ET, readable, (void *) &fds[i]);
        if (!events[i])
            bench_die("out of memory");
        bench_must(event_add(events[i], NULL), "event_add");
    }
}

static void close_all(void)
{
    for (size_t i = 0; i < count; i++) {
        bench_must(shutdown(fds[i], SHUT_WR), "shutdown");
        if (is_turn(i))
            bench_must(event_base_loop(base, EVLOOP_NONBLOCK), "event_base_loop");
    }
    bench_must(event_base_dispatch(base), "event_base_dispatch"); /* until no event is left */
}

static void clean_up(void)
{
    for (size_t i = 0; i < count; i++)
        event_free(events[i]);
    free(events);
    event_base_free(base);
}

const struct way way_event = { "libevent", adopt, close_all, clean_up };
