/* SPDX-License-Identifier: MIT */

/* Embedded peers: small servers, each for one connection on a loopback port, that behave as real
 * peers do at the end of a connection, and tell afterwards what they saw of it. */

#ifndef TOOL_PEERS_H
#define TOOL_PEERS_H

#include <openssl/ssl.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>

enum peer_kind {
    PEER_CLEAN,      /* answers: reads to the end, says close_notify, closes */
    PEER_SLOW,       /* the same 300 ms later */
    PEER_MUTE,       /* reads, never closes */
    PEER_DEAF,       /* stops reading at once; reads what is there once it is asked to finish */
    PEER_CHATTY,     /* sends for ever */
    PEER_UNREAD,     /* sends PEER_UNREAD_BYTES at once, and one byte more after the end */
    PEER_RESETTING,  /* answers FIN by RST */
    PEER_HELD,       /* as clean; our own side forks a holder (client.h) */
    PEER_TRUNCATING, /* TLS: answers by FIN without close_notify */
    PEER_NOTIFY_THEN_DEAF, /* TLS: says close_notify first, and then is deaf */
};
#define PEER_KINDS 10

#define PEER_UNREAD_BYTES 16384

/* No peer lives longer, whatever happens. */
#define PEER_LIFE_MS 30000

/* What the peer saw. */
struct peer_view {
    uint64_t bytes; /* of the program's that it received */
    bool connected; /* somebody came, and the TLS handshake succeeded */
    bool notified;  /* close_notify was read */
    bool eof;       /* FIN was read */
    bool pollerr;   /* poll(2) gave POLLERR afterwards */
    bool reset;     /* any sign of RST: in a read, a send, POLLERR or SO_ERROR */
    int read_error; /* errno of the read that ended the stream, or 0 */
    int so_error;   /* SO_ERROR afterwards */
    int next_send;  /* errno of its next send after the end, 0: it succeeded, -1: not tried
                       (mute, deaf, chatty, unread and notify-then-deaf try) */
};

struct peer;

/* "notify-then-deaf"; "?" for no such kind. */
const char *peer_kind_name(enum peer_kind kind);

/* True for kinds that exist over TLS only. */
bool peer_needs_tls(enum peer_kind kind);

/* Starts one on an ephemeral port of the loopback address of `family` (AF_INET or AF_INET6), in a
 * thread of its own. `server`: NULL for TCP; must outlive the peer (credentials.h makes one).
 * Errors: -EINVAL (a kind that needs TLS without it), -EAFNOSUPPORT, -ENOMEM, those of socket(2),
 * bind(2), pthread_create(3). */
int peer_start(enum peer_kind kind, SSL_CTX *server, int family, struct peer **ret);

/* Where it listens. Lives as long as the peer. */
const struct sockaddr *peer_address(const struct peer *peer, socklen_t *ret_size);

/* Asks the peer to come to its end, waits for it, tells what it saw, and frees it. A stream that is
 * not over for the peer yet gets `grace_ms` to be; 0: whatever has arrived by now counts. */
void peer_finish(struct peer *peer, int grace_ms, struct peer_view *view);

#endif
