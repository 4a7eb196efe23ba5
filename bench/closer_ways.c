/* SPDX-License-Identifier: MIT */

/* The closer, and the program that one would write by hand instead. */

#include "closer_parts.h"

#include <errno.h>
#include <finack.h>
#include <poll.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

static const int *fds;
static size_t count;

/* ---- completions, of every way ---- */

static size_t done;
static uint64_t *done_at;

void completed(size_t i)
{
    done++;
    if (done_at)
        done_at[i] = monotonic_ns();
}

size_t completed_count(void)
{
    return done;
}

void completed_none(uint64_t *stamps)
{
    done = 0;
    done_at = stamps;
}

/* ---- ours ---- */

static struct fin_closer *closer;

static void adopt_by_closer(const int *list, size_t size)
{
    int result = fin_closer_new(NULL, &closer);

    if (result < 0)
        bench_die("fin_closer_new: %s", strerror(-result));
    fds = list;
    count = size;
}

static void closed(const struct fin_receipt *receipt, void *arg)
{
    if (receipt->outcome != FIN_OUTCOME_GRACEFUL || receipt->stage_ns[FIN_STAGE_UNREFERENCED] < 0)
        bench_die("closed %s, without the proof or the outcome asked for",
                  fin_outcome_name(receipt->outcome));
    completed((size_t) ((const int *) arg - fds));
}

static void close_by_closer(void)
{
    struct fin_policy policy = FIN_POLICY_INIT;
    struct pollfd entry = { .fd = fin_closer_fd(closer), .events = POLLIN };

    policy.linger_ms = policy.total_ms =
        30000; /* the same work in every way: no deadline cuts it */
    for (size_t i = 0; i < count; i++) {
        int result = fin_closer_submit(closer, fds[i], &policy, closed, (void *) &fds[i], NULL);

        if (result < 0)
            bench_die("fin_closer_submit: %s", strerror(-result));
        if (is_turn(i))
            (void) fin_closer_dispatch(closer);
    }
    while (completed_count() < count) {
        bench_must(poll(&entry, 1, -1), "poll");
        (void) fin_closer_dispatch(closer);
    }
}

static void free_closer(void)
{
    closer = fin_closer_free(closer);
}

const struct way way_ours = { "closer", adopt_by_closer, close_by_closer, free_closer };

/* ---- by hand ---- */

#define EVENTS 256

static int set = -1;

static void watch(size_t i)
{
    struct epoll_event entry = {
        .events = EPOLLIN | EPOLLRDHUP | EPOLLET,
        .data.u32 = (uint32_t) i,
    };

    bench_must(epoll_ctl(set, EPOLL_CTL_ADD, fds[i], &entry), "epoll_ctl");
}

static void adopt_unwatched(const int *list, size_t size)
{
    set = bench_must(epoll_create1(EPOLL_CLOEXEC), "epoll_create1");
    fds = list;
    count = size;
}

static void adopt_watched(const int *list, size_t size)
{
    adopt_unwatched(list, size);
    for (size_t i = 0; i < count; i++)
        watch(i);
}

static void drain_and_close(size_t i)
{
    char buf[16384];
    ssize_t n;

    do
        n = recv(fds[i], buf, sizeof buf, MSG_DONTWAIT);
    while (n > 0);
    if (n < 0 && errno == EAGAIN)
        return;
    bench_must((int) n, "recv");
    bench_must(close(fds[i]), "close");
    completed(i);
}

static void take_turn(int timeout_ms)
{
    struct epoll_event events[EVENTS];
    int n = bench_must(epoll_wait(set, events, EVENTS, timeout_ms), "epoll_wait");

    for (int i = 0; i < n; i++)
        drain_and_close(events[i].data.u32);
}

static void close_all(bool watched)
{
    for (size_t i = 0; i < count; i++) {
        if (!watched)
            watch(i);
        bench_must(shutdown(fds[i], SHUT_WR), "shutdown");
        if (is_turn(i))
            take_turn(0);
    }
    while (completed_count() < count)
        take_turn(-1);
}

static void close_by_hand(void)
{
    close_all(true);
}

static void watch_and_close_by_hand(void)
{
    close_all(false);
}

static void close_set(void)
{
    bench_must(close(set), "close");
}

const struct way way_raw = { "by hand", adopt_unwatched, watch_and_close_by_hand, close_set };
const struct way way_raw_watched = { "by hand, watched", adopt_watched, close_by_hand, close_set };
