/* SPDX-License-Identifier: MIT */

#include "close/read.h"

#include "base/again.h"
#include "close/sight.h"

#include <errno.h>
#include <sys/socket.h>

#define SCRATCH 4096    /* no call takes more than 8 KiB of stack */
#define GULP (1u << 20) /* what one call may discard where nothing is copied */

static void took(struct fin__event *ev, ssize_t n, uint64_t max)
{
    ev->interest = FIN__READ;
    if (n > 0) {
        ev->kind = FIN__BYTES;
        ev->bytes = (uint64_t) n < max ? (uint64_t) n : max;
    } else if (n == 0) {
        ev->kind = FIN__END;
    } else if (fin__is_nothing(errno)) {
        ev->kind = FIN__AGAIN;
    } else {
        ev->kind = FIN__FAILED;
        ev->error = -errno;
    }
}

static ssize_t read_receive(int fd, void *buf, size_t size, int flags)
{
    int tries = 0;
    ssize_t n;

    do
        n = recv(fd, buf, size, flags | MSG_DONTWAIT);
    while (fin__again(n, &tries));
    return n;
}

/* A zero-length message reads like the end of the stream; only a message carries credentials. */
static ssize_t receive_message(int fd, char *buf, size_t size, int flags, bool *is_message)
{
    union {
        struct cmsghdr align;
        char bytes[CMSG_SPACE(3 * sizeof(int))];
    } control;
    struct iovec part = { buf, size };
    struct msghdr message = {
        .msg_iov = &part,
        .msg_iovlen = 1,
        .msg_control = control.bytes,
        .msg_controllen = sizeof control.bytes,
    };
    int on = 1, tries = 0;
    ssize_t n;

    (void) setsockopt(fd, SOL_SOCKET, SO_PASSCRED, &on, sizeof on);
    do
        n = recvmsg(fd, &message, flags | MSG_DONTWAIT | MSG_CMSG_CLOEXEC | MSG_TRUNC);
    while (fin__again(n, &tries));
    *is_message = message.msg_controllen > 0;
    return n;
}

static void read_message(int fd, uint64_t max, struct fin__event *ev)
{
    bool is_message = false;
    char byte; /* MSG_TRUNC tells the length of the message, whatever fits */
    ssize_t n = receive_message(fd, &byte, 1, 0, &is_message);

    /* An empty message counts as a byte, so that the drain bound ends a flood of them too. */
    took(ev, n == 0 && is_message ? 1 : n, max);
}

/* On a Unix socket MSG_PEEK skips an out-of-band byte, which close(2) finds (manage_oob()); on
 * any socket it skips what is before SO_PEEK_OFF. */
static void peek(const struct fin__endpoint *ep, struct fin__event *ev)
{
    bool is_message = false;
    char byte;
    ssize_t n = ep->seqpacket ? receive_message(ep->fd, &byte, 1, MSG_PEEK, &is_message)
                              : read_receive(ep->fd, &byte, 1, MSG_PEEK);

    took(ev, n == 0 && is_message ? 1 : n, 0);
    if ((ev->kind == FIN__AGAIN || (n <= 0 && ep->family == AF_UNIX)) && fin__see_unread(ep) > 0)
        *ev = (struct fin__event) { .kind = FIN__BYTES };
}

static void read_stream(const struct fin__endpoint *ep, uint64_t max, struct fin__event *ev)
{
    char buf[SCRATCH];
    size_t size = max < sizeof buf ? (size_t) max : sizeof buf;

    if (ep->plain_tcp) /* tcp(7): MSG_TRUNC discards without copying */
        took(ev, read_receive(ep->fd, NULL, max < GULP ? (size_t) max : GULP, MSG_TRUNC), max);
    else
        took(ev, read_receive(ep->fd, buf, size, 0), max);
}

static void read_layer(struct fin__endpoint *ep, uint64_t max, struct fin__event *ev)
{
    uint64_t n = 0;
    int result = ep->layer->read(ep->layer->arg, max, &n);

    ep->layer_over =
        result != FIN_LAYER_DONE && result != FIN_LAYER_WANT_READ && result != FIN_LAYER_WANT_WRITE;
    ev->interest = result == FIN_LAYER_WANT_WRITE ? FIN__WRITE : FIN__READ;
    switch (result) {
    case FIN_LAYER_DONE:
        took(ev, n < (uint64_t) GULP ? (ssize_t) (n ? n : 1) : (ssize_t) GULP, max);
        break;
    case FIN_LAYER_WANT_READ:
    case FIN_LAYER_WANT_WRITE:
        ev->kind = FIN__AGAIN;
        break;
    case FIN_LAYER_ANSWERED:
        ev->kind = FIN__ANSWER;
        break;
    case FIN_LAYER_EOF:
        ev->kind = FIN__END;
        break;
    default:
        ev->kind = result < 0 ? FIN__FAILED : FIN__BROKEN;
        ev->error = result < 0 ? result : -EBADMSG;
        break;
    }
}

void fin__read(struct fin__endpoint *ep, uint64_t max, struct fin__event *ev)
{
    if (max == 0)
        peek(ep, ev);
    else if (ep->layer && !ep->layer_over)
        read_layer(ep, max, ev);
    else if (ep->seqpacket)
        read_message(ep->fd, max, ev);
    else
        read_stream(ep, max, ev);
}
