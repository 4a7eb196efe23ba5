/* SPDX-License-Identifier: MIT */

/* The BIO between a TLS session and a socket that is being closed: it never blocks, whatever the
 * descriptor's flags say, never raises SIGPIPE and never closes the number. */

#ifndef FIN_TLS_BIO_H
#define FIN_TLS_BIO_H

#include <openssl/bio.h>
#include <stdbool.h>
#include <stdint.h>

struct fin__wire {
    int fd;         /* -1: dead, every call fails without a system call */
    int error;      /* errno of the last failure, since the last fin__wire_begin() */
    bool eof;       /* the peer's FIN was read, since the last fin__wire_begin() */
    bool muted;     /* what is written is thrown away */
    uint64_t sends; /* attempts to write */
    uint64_t bytes; /* ciphertext in the kernel */
};

/* Makes a BIO over `fd`, which stays the caller's. Errors: -ENOMEM. */
int fin__wire_new(int fd, BIO **ret);

/* The state of a BIO that fin__wire_new() made; it lives as long as the BIO. */
struct fin__wire *fin__wire_of(BIO *bio);

/* Forgets how the last call ended. */
void fin__wire_begin(BIO *bio);

#endif
