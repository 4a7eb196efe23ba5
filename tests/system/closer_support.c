/* SPDX-License-Identifier: MIT */

#include "closer_support.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static unsigned turns;

unsigned completions(void)
{
    return turns;
}

void completions_reset(void)
{
    turns = 0;
}

void completed(const struct fin_receipt *receipt, void *arg)
{
    struct one *one = arg;

    one->receipt = *receipt;
    one->calls++;
    one->turn = ++turns;
    one->thread = pthread_self();
    if (one->then)
        one->then(one);
}

struct fin_closer *closer_of(uint32_t cap)
{
    struct fin_closer_options options = FIN_CLOSER_OPTIONS_INIT;
    struct fin_closer *closer = NULL;

    options.cap = cap;
    completions_reset();
    assert_int_equal(fin_closer_new(&options, &closer), 0);
    return closer;
}

void prepare(struct fin_closer *closer, struct one *one, int fd)
{
    one->receipt = (struct fin_receipt) FIN_RECEIPT_INIT;
    one->calls = one->turn = 0;
    one->op = 0;
    one->fd = fd;
    one->closer = closer;
}

void submit(struct fin_closer *closer, struct one *one, int fd, const struct fin_policy *policy)
{
    prepare(closer, one, fd);
    assert_int_equal(fin_closer_submit(closer, fd, policy, completed, one, &one->op), 0);
    assert_true(one->op != 0);
}

int turn(struct fin_closer *closer)
{
    struct pollfd entry = { .fd = fin_closer_fd(closer), .events = POLLIN };
    int result;

    assert_int_equal(poll(&entry, 1, GUARD_S * 1000), 1);
    result = fin_closer_dispatch(closer);
    assert_true(result >= 0);
    return result;
}

void await(struct fin_closer *closer, const struct one *one)
{
    await_all(closer, one, 1);
}

void await_all(struct fin_closer *closer, const struct one *list, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        while (list[i].calls == 0)
            (void) turn(closer);
        assert_int_equal(list[i].calls, 1);
    }
}

struct fin_receipt closed_by(struct fin_closer *closer, int fd, const struct fin_policy *policy)
{
    struct one one = { 0 };

    submit(closer, &one, fd, policy);
    assert_int_equal(one.calls, 0); /* never from inside the call that started it */
    await(closer, &one);
    assert_true(is_free(fd));
    assert_sound(&one.receipt);
    assert_true(reached(&one.receipt, FIN_STAGE_RELEASED));
    return one.receipt;
}

uint64_t pending(struct fin_closer *closer)
{
    struct fin_closer_counters counters = FIN_CLOSER_COUNTERS_INIT;

    assert_int_equal(fin_closer_count(closer, &counters), 0);
    return counters.pending;
}

bool is_readable(const struct fin_closer *closer)
{
    struct pollfd entry = { .fd = fin_closer_fd(closer), .events = POLLIN };

    return poll(&entry, 1, 0) == 1;
}

uint64_t clock_ns(void)
{
    struct timespec now;

    (void) clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t) now.tv_sec * 1000000000u + (uint64_t) now.tv_nsec;
}

/* ---- a layer ---- */

static int fake_flush(void *arg, uint64_t *unsent)
{
    static const char block[4096];
    struct fake_layer *fake = arg;

    fake->flushes++;
    while (send(fake->flush_fd, block, sizeof block, MSG_DONTWAIT | MSG_NOSIGNAL) > 0)
        ;
    *unsent = fake->unsent;
    return fake->flush;
}

static int fake_notify(void *arg)
{
    return ((struct fake_layer *) arg)->notify;
}

static int fake_read(void *arg, uint64_t max, uint64_t *n)
{
    struct fake_layer *fake = arg;

    if (fake->reads_left == 0)
        return FIN_LAYER_WANT_READ;
    fake->reads_left--;
    fake->reads++;
    *n = max ? 1 : 0;
    return fake->read;
}

void fake_layer(struct fake_layer *fake)
{
    memset(fake, 0, sizeof *fake);
    fake->layer.size = sizeof fake->layer;
    fake->layer.arg = fake;
    fake->layer.flush = fake_flush;
    fake->layer.notify = fake_notify;
    fake->layer.read = fake_read;
    fake->flush = fake->notify = fake->read = FIN_LAYER_DONE;
    fake->flush_fd = -1;
}

void submit_fake(struct fin_closer *closer, struct one *one, int fd, struct fake_layer *fake,
                 const struct fin_policy *policy)
{
    prepare(closer, one, fd);
    assert_int_equal(
        fin_closer_submit_layered(closer, fd, &fake->layer, policy, completed, one, &one->op), 0);
}

/* ---- destroy groups ---- */

#define NETLINK_SOCK_DIAG_PROTOCOL 4

unsigned memberships(void)
{
    FILE *file = fopen("/proc/net/netlink", "re");
    unsigned protocol, groups, count = 0;
    char line[256];

    assert_non_null(file);
    while (fgets(line, sizeof line, file))
        if (sscanf(line, "%*s %u %*u %x", &protocol, &groups) == 2
            && protocol == NETLINK_SOCK_DIAG_PROTOCOL && groups)
            count++;
    (void) fclose(file);
    return count;
}
