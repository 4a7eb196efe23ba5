/* SPDX-License-Identifier: MIT */

#include "peers/peer_kinds.h"

#include "common/deadline.h"
#include "peers/peer.h"

#include <errno.h>
#include <string.h>

enum {
    SLOW_MS = 300,
    CHUNK = 16384
};

static bool out_of_time(const struct peer *p)
{
    return fin__now() >= p->deadline;
}

/* Reads until the peer's program ended it (close_notify or FIN), or to FIN. */
static void read_until(struct peer *p, bool farewell_is_enough)
{
    while (!transport_over(&p->transport) && !(farewell_is_enough && p->transport.notified)) {
        if (fin__now() >= p->life)
            return;
        if (transport_receive(&p->transport) != 0)
            continue;
        if (!peer_wait(p, p->transport.fd, POLLIN, UINT64_MAX) && out_of_time(p))
            return;
    }
}

static void read_farewell(struct peer *p)
{
    read_until(p, true);
}

static void read_to_end(struct peer *p)
{
    read_until(p, false);
}

/* What a program can find out once it has read to the end. */
static void peer_kinds_look(struct peer *p)
{
    struct pollfd pfd = { .fd = p->transport.fd };
    socklen_t size = sizeof p->view.so_error;

    poll(&pfd, 1, 0);
    p->view.pollerr = pfd.revents & POLLERR;
    getsockopt(p->transport.fd, SOL_SOCKET, SO_ERROR, &p->view.so_error, &size);
}

static void send_once_more(struct peer *p)
{
    int r = transport_send(&p->transport, "!", 1);

    if (p->view.next_send <= 0)
        p->view.next_send = r == -EAGAIN ? 0 : -r;
}

static void wait_for_stop(struct peer *p)
{
    while (!p->stopped && !out_of_time(p))
        peer_wait(p, -1, 0, UINT64_MAX);
}

static void answer_after(struct peer *p, int ms)
{
    uint64_t due;

    read_farewell(p);
    due = deadline_in_ms(ms);
    while (fin__now() < due && !p->stopped)
        peer_wait(p, -1, 0, due);
    transport_notify(&p->transport);
    read_to_end(p);
    peer_kinds_look(p);
}

static void clean(struct peer *p)
{
    answer_after(p, 0);
}

static void slow(struct peer *p)
{
    answer_after(p, SLOW_MS);
}

static void mute(struct peer *p)
{
    read_to_end(p);
    wait_for_stop(p);
    peer_kinds_look(p);
    send_once_more(p);
}

static void deaf(struct peer *p)
{
    wait_for_stop(p);
    read_to_end(p);
    peer_kinds_look(p);
    send_once_more(p);
}

static void notify_then_deaf(struct peer *p)
{
    transport_notify(&p->transport);
    wait_for_stop(p);
    read_to_end(p);
    peer_kinds_look(p);
    /* After close_notify there is nothing more that TLS could send. */
}

/* One round of talking; false when sending has failed. */
static bool chat(struct peer *p, const char *noise)
{
    short events = (short) (POLLOUT | (transport_over(&p->transport) ? 0 : POLLIN));
    int r;

    if (!peer_wait(p, p->transport.fd, events, UINT64_MAX))
        return true;
    transport_receive(&p->transport);
    r = transport_send(&p->transport, noise, CHUNK);
    if (r == 0 || r == -EAGAIN)
        return true;
    p->view.next_send = -r;
    return false;
}

static void chatty(struct peer *p)
{
    char noise[CHUNK];

    memset(noise, '.', sizeof noise);
    while (!p->stopped && !out_of_time(p))
        if (!chat(p, noise))
            break;
    read_to_end(p);
    peer_kinds_look(p);
    send_once_more(p);
}

static void unread(struct peer *p)
{
    char data[PEER_UNREAD_BYTES];

    memset(data, 'u', sizeof data);
    transport_send(&p->transport, data, sizeof data);
    read_to_end(p);
    peer_kinds_look(p);
    send_once_more(p);
    transport_notify(&p->transport);
}

static void resetting(struct peer *p)
{
    struct linger now = { .l_onoff = 1 };

    read_to_end(p);
    peer_kinds_look(p);
    setsockopt(p->transport.fd, SOL_SOCKET, SO_LINGER, &now, sizeof now);
}

static void truncating(struct peer *p)
{
    read_farewell(p);
    shutdown(p->transport.fd, SHUT_WR);
    read_to_end(p);
    peer_kinds_look(p);
}

static const struct {
    const char *name;
    void (*behave)(struct peer *p);
    bool tls_only;
} kinds[PEER_KINDS] = {
    [PEER_CLEAN] = { "clean", clean, false },
    [PEER_SLOW] = { "slow", slow, false },
    [PEER_MUTE] = { "mute", mute, false },
    [PEER_DEAF] = { "deaf", deaf, false },
    [PEER_CHATTY] = { "chatty", chatty, false },
    [PEER_UNREAD] = { "unread", unread, false },
    [PEER_RESETTING] = { "resetting", resetting, false },
    [PEER_HELD] = { "held", clean, false },
    [PEER_TRUNCATING] = { "truncating", truncating, true },
    [PEER_NOTIFY_THEN_DEAF] = { "notify-then-deaf", notify_then_deaf, true },
};

const char *peer_kind_name(enum peer_kind kind)
{
    return (unsigned) kind < PEER_KINDS ? kinds[kind].name : "?";
}

bool peer_needs_tls(enum peer_kind kind)
{
    return (unsigned) kind < PEER_KINDS && kinds[kind].tls_only;
}

void peer_behave(struct peer *p)
{
    kinds[p->kind].behave(p);
}
