/* SPDX-License-Identifier: MIT */

#include "kernel/identity.h"

#include "base/cancel.h"
#include "kernel/kernel.h"

#include <errno.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>

uint64_t fin__cookie(int fd)
{
    uint64_t cookie = 0;
    socklen_t size = sizeof cookie;

    return getsockopt(fd, SOL_SOCKET, SO_COOKIE, &cookie, &size) < 0 ? 0 : cookie;
}

static int option(int fd, int name)
{
    int value = 0;
    socklen_t size = sizeof value;

    return getsockopt(fd, SOL_SOCKET, name, &value, &size) < 0 ? 0 : value;
}

static void read_address(const struct sockaddr_storage *from, uint8_t address[16], uint16_t *port)
{
    if (from->ss_family == AF_INET) {
        const struct sockaddr_in *in = (const struct sockaddr_in *) from;

        memcpy(address, &in->sin_addr, sizeof in->sin_addr);
        *port = ntohs(in->sin_port);
    } else if (from->ss_family == AF_INET6) {
        const struct sockaddr_in6 *in6 = (const struct sockaddr_in6 *) from;

        memcpy(address, &in6->sin6_addr, sizeof in6->sin6_addr);
        *port = ntohs(in6->sin6_port);
    }
}

void fin__addresses(int fd, struct fin_identity *id)
{
    struct sockaddr_storage address = { 0 };
    socklen_t size = sizeof address;

    if (getsockname(fd, (struct sockaddr *) &address, &size) < 0)
        return;
    id->family = address.ss_family;
    read_address(&address, id->local, &id->local_port);
    size = sizeof address;
    if (getpeername(fd, (struct sockaddr *) &address, &size) == 0)
        read_address(&address, id->remote, &id->remote_port);
}

void fin__receipt_addresses(struct fin_receipt *receipt, const struct fin_identity *id)
{
    receipt->family = id->family;
    receipt->local_port = id->local_port;
    receipt->remote_port = id->remote_port;
    memcpy(receipt->local, id->local, sizeof receipt->local);
    memcpy(receipt->remote, id->remote, sizeof receipt->remote);
}

static void identify_socket(int fd, struct fin_identity *id)
{
    id->cookie = fin__cookie(fd);
    fin__addresses(fd, id);
    id->family = option(fd, SO_DOMAIN);
    id->type = option(fd, SO_TYPE);
    id->protocol = option(fd, SO_PROTOCOL);
    id->interface = (uint32_t) option(fd, SO_BINDTOIFINDEX);
}

int fin_identify(int fd, struct fin_identity *id)
{
    struct fin_identity found = FIN_IDENTITY_INIT;
    struct stat st;

    if (!id || id->size != sizeof *id)
        return -EINVAL;
    if (fstat(fd, &st) < 0)
        return -errno;
    if (!S_ISSOCK(st.st_mode) && !S_ISFIFO(st.st_mode))
        return -EOPNOTSUPP;
    found.device = st.st_dev;
    found.inode = st.st_ino;
    if (S_ISSOCK(st.st_mode))
        identify_socket(fd, &found);
    *id = found;
    return 0;
}

int fin_is(int fd, const struct fin_identity *id)
{
    struct stat st;

    if (!id || id->size != sizeof *id)
        return -EINVAL;
    if (fstat(fd, &st) < 0)
        return 0;
    return st.st_dev == id->device && st.st_ino == id->inode && fin__cookie(fd) == id->cookie;
}

/* Believe the answer only if the same query found this socket while it was open. ESTALE: another
 * socket has these addresses now (sock_diag_check_cookie()). */
static void judge(struct fin_identity *id, struct fin_state *state, int result)
{
    if (result == 0 && state->inode == id->inode)
        id->confirmed = 1;
    if (!id->confirmed || (result < 0 && result != -ENOENT && result != -ESTALE))
        *state = (struct fin_state) { .size = sizeof *state, .exists = FIN_UNVERIFIABLE };
    else
        state->exists = result == 0 ? FIN_YES : FIN_NO;
}

int fin_inspect(struct fin_kernel *kernel, struct fin_identity *id, struct fin_state *state)
{
    FIN__UNCANCELLED;
    struct fin_kernel own;
    struct fin_state found = FIN_STATE_INIT;
    int result;

    if (!id || id->size != sizeof *id || !state || state->size != sizeof *state)
        return -EINVAL;
    if (kernel && fin__kernel_check(kernel) < 0)
        return -ECHILD;
    fin__kernel_begin(&own);
    if (!kernel)
        kernel = &own;
    result = fin__kernel_need_diag(kernel);
    if (result == 0)
        result = fin__diag_ask(&kernel->diag, id, &found);
    fin__kernel_end(&own);
    judge(id, &found, result);
    *state = found;
    return 0;
}
