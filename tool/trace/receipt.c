/* SPDX-License-Identifier: MIT */

#include "trace/receipt.h"

#include "sockets/socket.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
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

unsigned receipt_holders(const struct thing *socket, struct fin_holder holders[RECEIPT_HOLDERS])
{
    int count;

    if (receipt_held(socket) != FIN_YES || !socket->known)
        return 0;
    count = fin_holders(&socket->identity, holders, RECEIPT_HOLDERS, NULL);
    if (count < 0)
        return 0;
    return count < RECEIPT_HOLDERS ? (unsigned) count : RECEIPT_HOLDERS;
}
