/* SPDX-License-Identifier: MIT */

#include "trace/receipt.h"

#include "sockets/socket.h"

#include "kernel/proc.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <sys/socket.h>

/* close(2) with unread input makes RST of FIN, and so does SO_LINGER of no time. */
static int end_of_tcp(const struct thing *socket)
{
    switch (socket->tcp_state) {
    case TCP_LISTEN:
    case TCP_SYN_SENT:
        return FIN_END_NONE;
    case TCP_CLOSE: /* reset, or over with both FINs, or never connected */
        return socket->connected ? FIN_END_KERNEL : FIN_END_NONE;
    default:
        if (socket->unread > 0 || socket->reset)
            return FIN_END_RESET;
        return socket->unacked > 0 ? FIN_END_KERNEL : FIN_END_FIN;
    }
}

int receipt_end(const struct thing *socket)
{
    bool stream = socket->type == SOCK_STREAM || socket->type == SOCK_SEQPACKET;

    if (!stream || socket->listening || socket->refs > 0)
        return FIN_END_NONE;
    if (!socket->looked)
        return socket->connected ? FIN_END_KERNEL : FIN_END_NONE;
    if (socket->family != AF_UNIX && socket->protocol == IPPROTO_TCP)
        return end_of_tcp(socket);
    if (!socket->connected)
        return FIN_END_NONE;
    return socket->unread > 0 ? FIN_END_RESET : FIN_END_FIN;
}

int receipt_held(const struct thing *socket)
{
    if (socket->refs > 0)
        return FIN_YES;
    if (socket->witnessed)
        return FIN_YES;
    return socket->proof == PROOF_WITNESS ? FIN_NO : FIN_UNVERIFIABLE;
}

const char *receipt_state(const struct thing *socket)
{
    return socket->now > 0 ? socket_state_name(socket->now) : NULL;
}

static void add_holder(struct thing *socket, const struct fin__folder *fds, int32_t pid, int32_t fd)
{
    struct holders *holders = socket->holders;
    struct fin_holder *holder;

    if (!holders)
        holders = socket->holders = calloc(1, sizeof *holders);
    if (!holders || holders->count >= sizeof holders->at / sizeof *holders->at)
        return;
    holder = &holders->at[holders->count++];
    holder->pid = pid;
    holder->fd = fd;
    fin__command_read(fds, holder->command);
}

static int find_holders(struct fin__folder *fds, int32_t pid, void *arg)
{
    struct book *book = arg;
    struct fin__link link;
    struct thing *socket;
    int32_t fd;
    int result;

    while ((result = fin__folder_next(fds, &fd)) > 0) {
        result = fin__link_read(fds, fd, &link);
        if (result == -EACCES || result == -EPERM)
            return result;
        if (result < 0 || link.kind != FIN__LINK_SOCKET)
            continue;
        socket = book_find(book, link.inode);
        if (socket && receipt_held(socket) == FIN_YES)
            add_holder(socket, fds, pid, fd);
    }
    return result;
}

void receipts_find_holders(struct book *book)
{
    uint32_t unreadable = 0;

    (void) fin__proc_walk(find_holders, book, UINT64_MAX, &unreadable);
}
