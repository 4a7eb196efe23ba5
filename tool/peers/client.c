/* SPDX-License-Identifier: MIT */

#include "peers/client.h"

#include "common/deadline.h"
#include "peers/dial.h"
#include "peers/holder.h"

#include <errno.h>
#include <linux/sockios.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

enum {
    PATIENCE_MS = 10000,
    LOOK_AGAIN_MS = 10,
    SEND_BUFFER = 262144
};

static const char block[16384];

int client_open(struct client *c, const struct peer *peer, SSL_CTX *trust)
{
    uint64_t deadline = deadline_in_ms(PATIENCE_MS);
    socklen_t size;
    const struct sockaddr *address = peer_address(peer, &size);
    int r;

    *c = (struct client) { .fd = -1, .holder_end = -1 };
    r = dial(address, size, deadline, &c->fd);
    if (r < 0 || !trust)
        return r;
    c->ssl = SSL_new(trust);
    r = c->ssl ? dial_tls(c->ssl, c->fd, deadline) : -ENOMEM;
    if (r < 0)
        client_free(c);
    return r;
}

/* Writes at most `size` bytes of the block; -EAGAIN if the kernel takes no more. */
static int put_tcp(struct client *c, size_t size)
{
    ssize_t n = send(c->fd, block, size, MSG_NOSIGNAL);

    if (n < 0)
        return -errno;
    c->written += (uint64_t) n;
    return 0;
}

static int put_tls(struct client *c, size_t size)
{
    size_t n;

    ERR_clear_error();
    if (SSL_write_ex(c->ssl, block, size, &n) == 1) {
        c->unfinished.buf = NULL;
        c->written += n;
        return 0;
    }
    if (SSL_get_error(c->ssl, 0) != SSL_ERROR_WANT_WRITE)
        return -EPROTO;
    c->unfinished = (struct fin_ssl_write) { .buf = block, .len = size };
    return -EAGAIN;
}

static int client_put(struct client *c, size_t size)
{
    return c->ssl ? put_tls(c, size) : put_tcp(c, size);
}

/* True once the kernel has bytes to send and none of them is on its way: the window is closed. */
static bool window_full(int fd)
{
    struct tcp_info info = { 0 };
    socklen_t size = sizeof info;
    int not_sent = 0;

    if (getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &size) < 0)
        return false;
    return ioctl(fd, SIOCOUTQNSD, &not_sent) == 0 && not_sent > 0 && info.tcpi_unacked == 0;
}

/* A write that fails with the window closed since before it leaves nothing that could make room. */
static int client_fill(struct client *c)
{
    struct pollfd pfd = { .fd = c->fd, .events = POLLOUT };
    uint64_t deadline = deadline_in_ms(PATIENCE_MS);
    int r, fixed = SEND_BUFFER;
    bool full;

    setsockopt(c->fd, SOL_SOCKET, SO_SNDBUF, &fixed, sizeof fixed); /* else it grows */
    while (fin__now() < deadline) {
        full = window_full(c->fd);
        r = client_put(c, sizeof block);
        if (r != 0 && r != -EAGAIN)
            return r;
        if (r == -EAGAIN && full)
            return 0;
        if (r == -EAGAIN)
            poll_until(&pfd, 1, deadline_in_ms(LOOK_AGAIN_MS));
    }
    return -ETIMEDOUT;
}

/* Until what `unread` sends is in our kernel, so that it is there when the close begins. */
static int await_input(int fd)
{
    struct pollfd pfd = { .fd = fd, .events = POLLIN };
    int mark = PEER_UNREAD_BYTES, usual = 1;
    int r;

    if (setsockopt(fd, SOL_SOCKET, SO_RCVLOWAT, &mark, sizeof mark) < 0)
        return -errno;
    r = poll_until(&pfd, 1, deadline_in_ms(PATIENCE_MS));
    setsockopt(fd, SOL_SOCKET, SO_RCVLOWAT, &usual, sizeof usual);
    if (r < 0)
        return r;
    return r ? 0 : -ETIMEDOUT;
}

static int await_notify(struct client *c)
{
    uint64_t deadline = deadline_in_ms(PATIENCE_MS);
    char data[256];
    int r, error;

    for (;;) {
        ERR_clear_error();
        r = SSL_read(c->ssl, data, sizeof data);
        error = SSL_get_error(c->ssl, r);
        if (error == SSL_ERROR_ZERO_RETURN)
            return 0;
        if (error == SSL_ERROR_NONE)
            continue;
        r = wait_for_tls(c->fd, error, deadline);
        if (r < 0)
            return r;
    }
}

int client_prepare(struct client *c, enum peer_kind kind)
{
    int r = kind == PEER_NOTIFY_THEN_DEAF ? await_notify(c) : 0;

    if (r < 0)
        return r;
    if (kind == PEER_DEAF || kind == PEER_NOTIFY_THEN_DEAF)
        return client_fill(c);
    r = client_put(c, CLIENT_GREETING);
    if (r < 0)
        return r;
    if (kind == PEER_UNREAD)
        return await_input(c->fd);
    if (kind == PEER_HELD)
        return holder_start(c->fd, &c->holder, &c->holder_end);
    return 0;
}

int client_close(struct client *c, struct fin_kernel *kernel, const struct fin_policy *policy,
                 struct fin_receipt *receipt)
{
    const struct fin_ssl_write *unfinished = c->unfinished.buf ? &c->unfinished : NULL;
    int r;

    if (c->ssl)
        r = fin_close_ssl(kernel, c->ssl, unfinished, policy, receipt);
    else
        r = fin_close(kernel, c->fd, policy, receipt);
    if (r >= 0)
        c->fd = -1;
    return r;
}

void client_free(struct client *c)
{
    if (c->fd >= 0)
        hang_up(c->fd);
    SSL_free(c->ssl);
    holder_end(c->holder, c->holder_end);
    *c = (struct client) { .fd = -1, .holder_end = -1 };
}
