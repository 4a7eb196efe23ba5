/* SPDX-License-Identifier: MIT */

/* Two ends of a TLS connection in one process: ours, and a real OpenSSL peer in a thread. */

#ifndef TLS_PAIR_H
#define TLS_PAIR_H

#include <openssl/ssl.h>
#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>

enum pair_kind {
    PAIR_TCP,
    PAIR_UNIX,
};

/* How a stream ended for whoever read it. */
enum seen_end {
    SEEN_NOTHING,
    SEEN_CLOSE_NOTIFY,
    SEEN_EOF,
    SEEN_RESET,
    SEEN_TLS_ERROR,
    SEEN_OTHER,
};

struct pair {
    SSL *ours,
        *theirs; /* blocking sockets under socket BIOs with BIO_CLOSE; the peer is the server */
    int fd, peer_fd;
    pthread_t thread;
    void (*script)(struct pair *pair);
    /* What the peer saw; to be read after pair_join(). */
    size_t bytes;
    bool intact;           /* the bytes were those of pair_fill() */
    enum seen_end tls_end; /* what SSL_read() of the peer said */
    enum seen_end raw_end; /* what recv() said then */
    int so_error;
};

/* Connects, without a handshake. `version` is TLS1_2_VERSION or TLS1_3_VERSION. */
void pair_connect(struct pair *pair, enum pair_kind kind, int version);

/* Connects and completes the handshake. */
void pair_open(struct pair *pair, enum pair_kind kind, int version);

/* Makes the server our end. */
void pair_swap(struct pair *pair);

/* Runs `script` as the peer. */
void pair_run(struct pair *pair, void (*script)(struct pair *pair));
void pair_join(struct pair *pair);

/* Frees both ends, whatever is open still. Ours is closed already if `closed`. */
void pair_close(struct pair *pair, bool closed);

/* For scripts. */
void peer_read_all(struct pair *pair);
void peer_read_all_and_answer(struct pair *pair);
void peer_read_all_and_truncate(struct pair *pair); /* FIN instead of an answer */

/* The byte at `offset` of the stream that pair_fill() writes. */
unsigned char pair_byte(size_t offset);

/* Our end writes until the kernel takes no more, in writes of `chunk` bytes. The arguments of the
 * write that did not finish are left in *buf (malloc'd: free `base`) and *len.
 * Returns the bytes that were written before it. */
size_t pair_fill(struct pair *pair, size_t chunk, unsigned char **base, const void **buf,
                 size_t *len);

void set_nonblocking(int fd, bool on);
int descriptors_open(void);

int tls_setup(void **state);
int tls_teardown(void **state);

#endif
