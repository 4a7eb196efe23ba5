/* SPDX-License-Identifier: MIT */

#include "close/read.h"

#include <errno.h>
#include <sys/socket.h>

#define SCRATCH 16384
#define GULP (1u << 20) /* what one call may discard where nothing is copied */

static void took(struct fin__event *ev, ssize_t n, uint64_t max)
{
    ev->interest = FIN__READ;
    if (n > 0) {
        ev->kind = FIN__BYTES;
        ev->bytes = (uint64_t) n < max ? (uint64_t) n : max;
    } else if (n == 0) {
        ev->kind = FIN__END;
    } else if (errno == EAGAIN) {
        ev->kind = FIN__AGAIN;
    } else {
        ev->kind = FIN__FAILED;
        ev->error = -errno;
    }
}

static ssize_t receive(int fd, void *buf, size_t size, int flags)
{
    ssize_t n;

    do
        n = recv(fd, buf, size, flags | MSG_DONTWAIT);
    while (n < 0 && errno == EINTR);
    return n;
}

static void peek(int fd, struct fin__event *ev)
{
    char byte;

    took(ev, receive(fd, &byte, 1, MSG_PEEK), 0);
}

/* A zero-length message reads like the end of the stream; only a message carries credentials. */
static ssize_t receive_message(int fd, char *buf, size_t size, bool *is_message)
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
    int on = 1;
    ssize_t n;

    (void) setsockopt(fd, SOL_SOCKET, SO_PASSCRED, &on, sizeof on);
    do
        n = recvmsg(fd, &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
    while (n < 0 && errno == EINTR);
    *is_message = message.msg_controllen > 0;
    return n;
}

static void read_message(int fd, uint64_t max, struct fin__event *ev)
{
    char buf[SCRATCH];
    bool is_message = false;
    ssize_t n = receive_message(fd, buf, sizeof buf, &is_message);

    /* An empty message counts as a byte, so that the drain bound ends a flood of them too. */
    took(ev, n == 0 && is_message ? 1 : n, max);
}

static void read_stream(const struct fin__endpoint *ep, uint64_t max, struct fin__event *ev)
{
    char buf[SCRATCH];
    size_t size = max < sizeof buf ? (size_t) max : sizeof buf;

    if (ep->plain_tcp) /* tcp(7): MSG_TRUNC discards without copying */
        took(ev, receive(ep->fd, NULL, max < GULP ? (size_t) max : GULP, MSG_TRUNC), max);
    else
        took(ev, receive(ep->fd, buf, size, 0), max);
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
        peek(ep->fd, ev);
    else if (ep->layer && !ep->layer_over)
        read_layer(ep, max, ev);
    else if (ep->seqpacket)
        read_message(ep->fd, max, ev);
    else
        read_stream(ep, max, ev);
}
