/* SPDX-License-Identifier: MIT */

#include "peers/dial.h"

#include "common/deadline.h"

#include <errno.h>
#include <finack.h>
#include <openssl/err.h>

static int await_connection(int fd, uint64_t deadline)
{
    struct pollfd pfd = { .fd = fd, .events = POLLOUT };
    socklen_t size = sizeof(int);
    int error = 0;
    int r = poll_until(&pfd, 1, deadline);

    if (r <= 0)
        return r < 0 ? r : -ETIMEDOUT;
    if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &size) < 0)
        return -errno;
    return -error;
}

static int start_connection(int fd, const struct sockaddr *address, socklen_t size,
                            uint64_t deadline)
{
    if (connect(fd, address, size) == 0)
        return 0;
    if (errno != EINPROGRESS && errno != EINTR)
        return -errno;
    return await_connection(fd, deadline);
}

int dial(const struct sockaddr *address, socklen_t size, uint64_t deadline, int *ret_fd)
{
    int fd = socket(address->sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    int r;

    if (fd < 0)
        return -errno;
    r = start_connection(fd, address, size, deadline);
    if (r < 0)
        hang_up(fd);
    else
        *ret_fd = fd;
    return r;
}

int wait_for_tls(int fd, int error, uint64_t deadline)
{
    struct pollfd pfd = { .fd = fd };
    int r;

    if (error == SSL_ERROR_WANT_READ)
        pfd.events = POLLIN;
    else if (error == SSL_ERROR_WANT_WRITE)
        pfd.events = POLLOUT;
    else
        return error == SSL_ERROR_SYSCALL ? -ECONNRESET : -EPROTO;
    r = poll_until(&pfd, 1, deadline);
    if (r < 0)
        return r;
    return r ? 0 : -ETIMEDOUT;
}

int dial_tls(SSL *ssl, int fd, uint64_t deadline)
{
    int result, r;

    if (!SSL_set_fd(ssl, fd))
        return -ENOMEM;
    for (;;) {
        ERR_clear_error();
        result = SSL_connect(ssl);
        if (result == 1)
            return 0;
        r = wait_for_tls(fd, SSL_get_error(ssl, result), deadline);
        if (r < 0)
            return r;
    }
}

void hang_up(int fd)
{
    struct fin_policy policy = FIN_POLICY_INIT;
    struct fin_receipt receipt = FIN_RECEIPT_INIT;

    policy.courtesy = FIN_COURTESY_ABORT;
    policy.proof = FIN_STAGE_RELEASED;
    fin_close(NULL, fd, &policy, &receipt);
}
