/* SPDX-License-Identifier: MIT */

/* recv, send and accept that a close can wake without shutting the socket: no call blocks;
 * poll(2) waits for the socket and for the close together. */

#include "base/cancel.h"
#include "base/clock.h"
#include "handle/handle.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdint.h>
#include <sys/socket.h>
#include <time.h>

#define PAUSE_MAX_NS (64ull * FIN__NS_PER_MS)

struct call {
    struct fin_handle *handle;
    int fd;
    int wake; /* -1: not to be waited for */
    int flags;
    short events, seen; /* of poll(2) */
    uint64_t deadline;  /* UINT64_MAX: none */
    uint64_t pause;
    bool late; /* the deadline had passed a turn ago */
};

static int handle_calls_begin(struct call *c, struct fin_handle *handle, int flags, short events,
                              int timeout_ms)
{
    uint64_t span = (uint64_t) timeout_ms * FIN__NS_PER_MS;

    if (!handle || timeout_ms < -1)
        return -EINVAL;
    *c = (struct call) { .handle = handle, .flags = flags, .events = events };
    c->deadline = timeout_ms < 0 ? UINT64_MAX : fin__now() + span;
    c->fd = fin__handle_enter(handle, false);
    c->wake = handle->wake;
    return c->fd < 0 ? c->fd : 0;
}

/* Data that was received or sent is returned; once the handle is closed a call's own error is
 * not. */
static int64_t handle_calls_end(const struct call *c, int64_t result, int64_t nothing)
{
    bool closed = fin__handle_leave(c->handle, false);

    return closed && result <= nothing ? -ECANCELED : result;
}

static int poll_until(struct pollfd *entries, nfds_t count, uint64_t deadline)
{
    uint64_t now = fin__now();
    uint64_t span = deadline > now ? deadline - now : 0;
    struct timespec left = { (time_t) (span / FIN__NS_PER_S), (long) (span % FIN__NS_PER_S) };

    return ppoll(entries, count, deadline == UINT64_MAX ? NULL : &left, NULL);
}

/* An error queue (MSG_ZEROCOPY, time stamps) that another thread should read keeps POLLERR up,
 * so that poll(2) does not wait: try again after pauses that double. */
static uint64_t next_look(struct call *c)
{
    uint64_t now = fin__now();

    if (!(c->seen & POLLERR))
        return c->deadline;
    c->pause = c->pause ? c->pause * 2 : FIN__NS_PER_MS;
    if (c->pause > PAUSE_MAX_NS)
        c->pause = PAUSE_MAX_NS;
    return c->deadline < now || c->deadline - now < c->pause ? c->deadline : now + c->pause;
}

static bool is_over(const struct call *c)
{
    return c->deadline != UINT64_MAX && fin__now() >= c->deadline;
}

/* Where poll(2) is refused (base/poll.h) the call is tried again after pauses, like one that has an
 * error queue: a close is seen then too. */
static int wait_blindly(struct call *c)
{
    c->seen = POLLERR;
    (void) poll_until(NULL, 0, next_look(c));
    return is_over(c) ? -ETIMEDOUT : 0;
}

/* 0: try the call again. */
static int wait_for(struct call *c)
{
    bool pausing = c->seen & POLLERR;
    struct pollfd entries[] = {
        { .fd = c->wake, .events = POLLIN },
        { .fd = c->fd, .events = c->events },
    };
    int count = poll_until(entries, pausing ? 1 : 2, next_look(c));

    c->seen = entries[1].revents;
    if (count < 0 && errno == EINVAL)
        return wait_blindly(c);
    if (count < 0)
        return errno == EINTR ? 0 : -errno;
    if (count == 0)
        return is_over(c) ? -ETIMEDOUT : 0;
    return entries[0].revents ? -ECANCELED : 0;
}

/* Checked in each turn, so that a close ends a call, and its time ends it one turn later at
 * most, whatever the kernel answers. */
static int may_go_on(struct call *c)
{
    bool late = c->late;

    if (fin__handle_is_closed(c->handle))
        return -ECANCELED;
    c->late = is_over(c);
    return late ? -ETIMEDOUT : 0;
}

/* After EAGAIN: 0 to try again, else what ends the call. `at_end`: what a call that blocks would
 * return where the side is shut; one that must not wait says EAGAIN for ever there. */
static int retry(struct call *c, int at_end, bool *over)
{
    int result;

    *over = true;
    if (c->seen & (POLLHUP | POLLRDHUP))
        return at_end;
    if (c->flags & MSG_DONTWAIT)
        return -EAGAIN;
    result = may_go_on(c);
    if (result == 0)
        result = wait_for(c);
    *over = result < 0;
    return result;
}

/* The calls don't wait, so that nothing interrupts them; if one says so it is tried again like one
 * that found nothing. */
static int64_t error_of_call(void)
{
    return errno == EINTR ? -EAGAIN : -errno;
}

int64_t fin_handle_recv(struct fin_handle *handle, void *buf, size_t size, int flags,
                        int timeout_ms)
{
    FIN__UNCANCELLED;
    struct call c;
    bool over = false;
    int64_t n = handle_calls_begin(&c, handle, flags, POLLIN | POLLRDHUP, timeout_ms);

    if (n < 0)
        return n;
    while (!over) {
        n = recv(c.fd, buf, size, flags | MSG_DONTWAIT | MSG_NOSIGNAL);
        if (n < 0)
            n = error_of_call();
        over = n != -EAGAIN;
        if (!over)
            n = retry(&c, 0, &over);
    }
    return handle_calls_end(&c, n, 0);
}

/* One send(2). 0: more is to be sent. */
static int64_t send_some(struct call *c, const char *buf, size_t size, size_t *sent, bool *over)
{
    int64_t n = send(c->fd, buf + *sent, size - *sent, c->flags | MSG_DONTWAIT | MSG_NOSIGNAL);

    if (n < 0)
        n = error_of_call();
    else
        *sent += (size_t) n;
    *over = n < 0 ? n != -EAGAIN : *sent == size;
    if (*over)
        return n;
    if (n <= 0)
        return retry(c, -EPIPE, over);
    n = may_go_on(c);
    *over = n < 0;
    return n;
}

/* An empty message is one too, so the first send(2) is made in any case. */
int64_t fin_handle_send(struct fin_handle *handle, const void *buf, size_t size, int flags,
                        int timeout_ms)
{
    FIN__UNCANCELLED;
    struct call c;
    bool over = false;
    size_t sent = 0;
    int64_t n = handle_calls_begin(&c, handle, flags & ~FIN_SEND_PART, POLLOUT, timeout_ms);

    if (n < 0)
        return n;
    while (!over)
        n = send_some(&c, buf, size, &sent, &over);
    if (n == -ECANCELED && sent > 0 && !(flags & FIN_SEND_PART))
        fin__handle_note_unsent(handle, size - sent);
    return handle_calls_end(&c, sent > 0 ? (int64_t) sent : n, -1);
}

/* accept(2) has no MSG_DONTWAIT, and another thread or process may take what poll(2) saw. */
static int dont_block(const struct call *c)
{
    struct fin__core *core = c->handle->core;
    int flags = 0;

    fin__core_lock(core);
    if (!core->nonblocking)
        flags = fcntl(c->fd, F_GETFL);
    if (flags > 0 && !(flags & O_NONBLOCK))
        flags = fcntl(c->fd, F_SETFL, flags | O_NONBLOCK);
    core->nonblocking = flags >= 0;
    fin__core_unlock(core);
    return flags < 0 ? -errno : 0;
}

int fin_handle_accept(struct fin_handle *handle, int timeout_ms)
{
    FIN__UNCANCELLED;
    struct call c;
    bool over = false;
    int n = handle_calls_begin(&c, handle, 0, POLLIN | POLLRDHUP, timeout_ms);

    if (n < 0)
        return n;
    n = dont_block(&c);
    over = n < 0;
    while (!over) {
        n = accept4(c.fd, NULL, NULL, SOCK_CLOEXEC);
        if (n < 0)
            n = errno == ECONNABORTED ? -EAGAIN : (int) error_of_call(); /* the next may be fine */
        over = n != -EAGAIN;
        if (!over)
            n = retry(&c, -EINVAL, &over);
    }
    return (int) handle_calls_end(&c, n, -1);
}
