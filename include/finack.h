/* SPDX-License-Identifier: MIT */

/*
 * finack: close as a bounded process with an exact end and a receipt.
 *
 * Conventions of every function here:
 *   - the result is 0 or positive on success and a negative errno on failure;
 *   - out-parameters come last and are written on success only;
 *   - a call that takes over a descriptor and fails leaves it with the caller, unchanged;
 *   - structures that can grow begin with their size, which the caller sets (the *_INIT macros do);
 *   - no function logs, exits, raises SIGPIPE, or changes a signal handler.
 *
 * The words (stage, courtesy, proof, holder, ...) are defined in docs/design.md.
 */

#ifndef FINACK_H
#define FINACK_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define FIN_API __attribute__((visibility("default")))

/* Version of this header; fin_version() tells that of the library in use. */
#define FIN_VERSION "0.1.0"

/* What a close passes through. Partial order:
 *   requested <= flushed <= notified <= shut <= acked
 *   shut, unwatched <= released <= unreferenced;  released <= finished <= gone
 * eof and answered may come at any time. */
enum fin_stage {
    FIN_STAGE_REQUESTED,    /* the program asked */
    FIN_STAGE_FLUSHED,      /* every byte handed to us is in the kernel */
    FIN_STAGE_NOTIFIED,     /* our TLS close_notify is in the kernel (RFC 8446, 6.1) */
    FIN_STAGE_ANSWERED,     /* the peer's close_notify arrived */
    FIN_STAGE_SHUT,         /* FIN queued: shutdown(SHUT_WR) returned 0 */
    FIN_STAGE_ACKED,        /* the peer's kernel has all our data and our FIN */
    FIN_STAGE_EOF,          /* the peer's FIN was read */
    FIN_STAGE_UNWATCHED,    /* out of the poller that the close ran */
    FIN_STAGE_RELEASED,     /* close(2) returned, the number is free */
    FIN_STAGE_UNREFERENCED, /* nothing anywhere refers to the description */
    FIN_STAGE_FINISHED,     /* the kernel's connection is over: TIME_WAIT, or no such socket */
    FIN_STAGE_GONE,         /* TIME_WAIT is over too, the 4-tuple is free */
};
#define FIN_STAGES 12

enum fin_outcome {
    FIN_OUTCOME_GRACEFUL,  /* all that the policy asked for was seen */
    FIN_OUTCOME_PROMPT,    /* closed without waiting for the peer */
    FIN_OUTCOME_TRUNCATED, /* the peer ended TLS without close_notify */
    FIN_OUTCOME_TIMED_OUT, /* a deadline or the drain bound cut it, in `phase` */
    FIN_OUTCOME_RESET,     /* the peer, or the kernel for unread input, reset the connection */
    FIN_OUTCOME_ERROR,     /* `error` tells */
    FIN_OUTCOME_ABORTED,   /* the program asked for an abort */
};

/* A part of the close that has a deadline of its own. */
enum fin_phase {
    FIN_PHASE_NONE,
    FIN_PHASE_FLUSH,    /* sending what was buffered above the kernel */
    FIN_PHASE_FAREWELL, /* close_notify, and under `full` its answer */
    FIN_PHASE_LINGER,   /* waiting for acked and eof; emptying a listening socket's queue */
};

/* How the stream ended for the peer. */
enum fin_end {
    FIN_END_NONE,   /* no stream ended: UDP, a pipe, never connected, or others hold it still */
    FIN_END_FIN,    /* in FIN, with every byte */
    FIN_END_RESET,  /* in RST */
    FIN_END_KERNEL, /* not known at release: the kernel was still at work */
};

enum fin_answer {
    FIN_NO,
    FIN_YES,
    FIN_UNVERIFIABLE, /* it was not, or could not be, observed */
};

enum fin_courtesy {
    FIN_COURTESY_ABORT,   /* RST now */
    FIN_COURTESY_PROMPT,  /* flush, close_notify, FIN, let go */
    FIN_COURTESY_ORDERLY, /* and wait for acked and eof, draining input */
    FIN_COURTESY_FULL,    /* and wait for the TLS answer before FIN */
};

enum fin_scope {
    FIN_SCOPE_DEFAULT,    /* connection; for a listening socket descriptor */
    FIN_SCOPE_CONNECTION, /* end the connection, for every holder */
    FIN_SCOPE_DESCRIPTOR, /* drop this reference alone; other holders notice nothing */
};

/* For fin_policy.orphan_ms; a positive value is a time. */
#define FIN_ORPHAN_LEAVE (-1)
#define FIN_ORPHAN_RESET 0

/* No time in a policy may be longer: one day. */
#define FIN_TIME_MAX_MS 86400000

/* How to close. Times are milliseconds, 0 to FIN_TIME_MAX_MS; 0 = do not wait. */
struct fin_policy {
    size_t size;
    int courtesy;   /* enum fin_courtesy */
    int scope;      /* enum fin_scope */
    int proof;      /* the stage that completes the close: FIN_STAGE_RELEASED and later ones */
    int rebindable; /* nonzero: SO_REUSEADDR before FIN, so that the 4-tuple can be reused at once */
    int32_t flush_ms;    /* longest time without progress in sending our own buffer */
    int32_t farewell_ms; /* for close_notify, and for its answer under `full` */
    int32_t linger_ms;   /* for acked and eof; starts anew while the kernel's send queue shrinks */
    int32_t total_ms;    /* for everything up to release */
    int32_t proof_ms;    /* after release, how long to wait for the proof stage */
    int32_t orphan_ms;   /* bytes not acked when linger ends: FIN_ORPHAN_LEAVE (the kernel goes on),
                            FIN_ORPHAN_RESET, or how long the kernel may go on */
    uint64_t drain;      /* bytes of input thrown away at most */
    /* A listening socket closed with scope connection: each connection found in its queue is given
     * to `accepted`, which owns `fd` (CLOEXEC, NONBLOCK) from then on; it runs inside the close and
     * must not touch the listening socket. NULL: each is closed with courtesy prompt. */
    void (*accepted)(int fd, void *arg);
    void *accepted_arg;
};

/* clang-format off */
#define FIN_POLICY_INIT                                                                            \
    { sizeof(struct fin_policy), FIN_COURTESY_ORDERLY, FIN_SCOPE_DEFAULT, FIN_STAGE_UNREFERENCED,  \
      0, 5000, 1000, 2000, 10000, 100, FIN_ORPHAN_LEAVE, 1048576, NULL, NULL }
/* clang-format on */

/* What happened. A plain value: nothing in it must be freed. */
struct fin_receipt {
    size_t size;
    int outcome; /* enum fin_outcome */
    int phase;   /* enum fin_phase: where the outcome was decided, if not graceful or prompt */
    int end;     /* enum fin_end */
    int held;    /* enum fin_answer: does anything still refer to the description */
    int error;   /* 0, or a negative errno */
    uint32_t unverifiable;        /* bit 1u << stage: wanted, but can't be observed here */
    uint64_t requested_ns;        /* CLOCK_MONOTONIC */
    int64_t stage_ns[FIN_STAGES]; /* ns since requested, -1: not reached, or not looked for */
    uint64_t unsent;    /* bytes of our own that never reached the kernel (TLS: of the plaintext) */
    uint64_t unacked;   /* bytes in the kernel that the peer had not acknowledged at release */
    uint64_t discarded; /* bytes of input thrown away */
    uint64_t accepted;  /* connections taken from a listening socket's queue */
};

/* clang-format off */
#define FIN_RECEIPT_INIT { sizeof(struct fin_receipt), 0, 0, 0, 0, 0, 0, 0, { 0 }, 0, 0, 0, 0 }
/* clang-format on */

/* The release of the library in use, as "major.minor.patch". Any thread. */
FIN_API const char *fin_version(void);

/* The name of a value as the command, JSON and docs spell it ("eof", "timed_out"); "?" for no such
 * value. Static strings. Any thread. */
FIN_API const char *fin_stage_name(int stage);
FIN_API const char *fin_outcome_name(int outcome);
FIN_API const char *fin_phase_name(int phase);
FIN_API const char *fin_end_name(int end);
FIN_API const char *fin_answer_name(int answer);
FIN_API const char *fin_courtesy_name(int courtesy);
FIN_API const char *fin_scope_name(int scope);

/* What closing needs from the kernel besides the descriptor itself (an epoll set to wait with, the
 * witness and its fdinfo, a netlink socket), opened once so that nothing is opened while closing.
 *
 * One thread at a time may use a handle; make one per thread or loop. It is not shared over fork:
 * in a child, calls that take the parent's handle give -ECHILD; fin_kernel_free() still works there.
 * Parts that can't be had (no /proc, no netlink) are left out, and what they would have told is
 * then unverifiable.
 *
 * Errors: -EINVAL (ret is NULL), -ENOMEM, -EMFILE, -ENFILE. */
struct fin_kernel;
FIN_API int fin_kernel_new(struct fin_kernel **ret);

/* Frees the handle and closes what it opened. NULL is fine. Returns NULL. */
FIN_API struct fin_kernel *fin_kernel_free(struct fin_kernel *kernel);

/* Which socket this is, whatever number it has. Fill `size` first (FIN_IDENTITY_INIT). */
struct fin_identity {
    size_t size;
    uint64_t cookie;                  /* SO_COOKIE; 0 for what has none (pipes) */
    uint64_t device;                  /* st_dev */
    uint64_t inode;                   /* st_ino */
    int family;                       /* AF_*, or 0 for a pipe */
    int type;                         /* SOCK_* */
    int protocol;                     /* IPPROTO_* */
    uint32_t interface;               /* SO_BINDTOIFINDEX, or 0 */
    uint16_t local_port, remote_port; /* host order; inet only */
    uint8_t local[16], remote[16];    /* addresses in network order; inet only, v4 in the first 4 */
    int confirmed; /* nonzero once fin_inspect() found this very inode while the socket was open */
};

/* clang-format off */
#define FIN_IDENTITY_INIT { sizeof(struct fin_identity), 0, 0, 0, 0, 0, 0, 0, 0, 0, { 0 }, { 0 }, 0 }
/* clang-format on */

/* Tells who `fd` is. The descriptor stays the caller's. Any thread.
 * Errors: -EINVAL (NULL, unknown size), -EBADF, -EOPNOTSUPP (neither a socket nor a pipe). */
FIN_API int fin_identify(int fd, struct fin_identity *id);

/* 1 if `fd` is `id` still, 0 if the number means something else now or nothing. Any thread.
 * Errors: -EINVAL. */
FIN_API int fin_is(int fd, const struct fin_identity *id);

/* What sock_diag(7) says of a socket, open or released. Fill `size` first (FIN_STATE_INIT). */
struct fin_state {
    size_t size;
    int exists;    /* enum fin_answer: does the kernel list it */
    int tcp_state; /* a TCP_* number of netinet/tcp.h (UDP and Unix use them too), 0 if not listed */
    int timer;     /* 0 none, 1 retransmit, 2 keepalive, 3 TIME_WAIT, 4 zero-window probe */
    int64_t timer_ms;                   /* until that timer expires */
    uint64_t inode;                     /* 0: no process's descriptor owns it any more */
    uint64_t receive_queue, send_queue; /* bytes */
};

/* clang-format off */
#define FIN_STATE_INIT { sizeof(struct fin_state), 0, 0, 0, 0, 0, 0, 0 }
/* clang-format on */

/* Asks the kernel for the state of `id`. The answer counts only if the same question, asked while
 * the socket was open, returned its inode: call it once before the release (that sets
 * id->confirmed); a later call on an identity that was not confirmed says FIN_UNVERIFIABLE, as for
 * SO_REUSEPORT, MPTCP, another network namespace (sock_diag's look-up goes by addresses).
 *
 * `kernel` may be NULL: a netlink socket is opened for the call. The handle's thread.
 * Errors: -EINVAL, -ECHILD. Whatever keeps the kernel from answering is FIN_UNVERIFIABLE instead. */
FIN_API int fin_inspect(struct fin_kernel *kernel, struct fin_identity *id,
                        struct fin_state *state);

/* Closes `fd` under `policy`, waits until the policy's proof or deadline, and fills the receipt.
 *
 * Takes: connected, connecting and never connected TCP (v4, v6, MPTCP), UDP, Unix stream, datagram
 * and seqpacket sockets, listening sockets, pipes; blocking or not. On success the descriptor is
 * released, whatever the outcome says; on failure it is the caller's, unchanged.
 *
 * `kernel` may be NULL: what the close needs is opened for the call, and what can't be opened makes
 * stages unverifiable. Bounded by total_ms + proof_ms; a signal changes nothing. No other thread may
 * use the number meanwhile. The handle's thread; calls back only policy->accepted.
 *
 * Errors: -EINVAL   NULL policy or receipt, unknown size, unknown courtesy, scope, proof
 *         -ERANGE   a time that is negative or above FIN_TIME_MAX_MS
 *         -EBADF    not an open descriptor
 *         -EOPNOTSUPP  neither a supported socket nor a pipe
 *         -ECHILD   the handle belongs to the process that forked this one
 *         -EPERM, -EACCES  a security filter forbids looking at the socket */
FIN_API int fin_close(struct fin_kernel *kernel, int fd, const struct fin_policy *policy,
                      struct fin_receipt *receipt);

/* What a callback of a layer above the socket (TLS) reports. A negative errno is an error. */
enum fin_layer_result {
    FIN_LAYER_DONE,       /* it is in the kernel; from read: bytes were read */
    FIN_LAYER_WANT_READ,  /* call again when the socket is readable */
    FIN_LAYER_WANT_WRITE, /* call again when the socket is writable */
    FIN_LAYER_ANSWERED,   /* from read: the peer's farewell was read; read is not called again */
    FIN_LAYER_EOF,        /* from read: the peer's FIN, and no farewell before it */
    FIN_LAYER_NONE,   /* from notify: no farewell can be sent now (a handshake, a dead session) */
    FIN_LAYER_BROKEN, /* bytes of the program's can't be completed: the stream must end in RST */
};

/* A protocol between the program and the socket that has bytes of its own to send before FIN.
 * Callbacks never block and never close; all run on the closing thread. */
struct fin_layer {
    size_t size;
    void *arg;
    /* Moves what is buffered into the kernel; sets *unsent to the bytes that are left, always. */
    int (*flush)(void *arg, uint64_t *unsent);
    /* Sends the farewell (TLS: close_notify). Not called again after FIN_LAYER_DONE. */
    int (*notify)(void *arg);
    /* Reads at most `max` bytes (at least 1) and throws them away; sets *n on FIN_LAYER_DONE. */
    int (*read)(void *arg, uint64_t max, uint64_t *n);
};

/* clang-format off */
#define FIN_LAYER_INIT { sizeof(struct fin_layer), NULL, NULL, NULL, NULL }
/* clang-format on */

/* fin_close() for a connected stream that carries `layer`. finack/openssl.h has it ready for
 * OpenSSL. Errors as fin_close(), and -EINVAL for a layer with a NULL callback, -ENOTCONN for a
 * descriptor that is no connected stream. The layer is the caller's and must live through the call. */
FIN_API int fin_close_layered(struct fin_kernel *kernel, int fd, const struct fin_layer *layer,
                              const struct fin_policy *policy, struct fin_receipt *receipt);

/* Writes one line for a person: outcome, phase, every stage reached with its time, what was lost.
 * No newline; cut at size - 1 and always terminated, like snprintf(3).
 * Returns the length of the whole line. Errors: -EINVAL. Any thread. */
FIN_API int fin_receipt_format(const struct fin_receipt *receipt, char *buf, size_t size);

#ifdef __cplusplus
}
#endif

#endif
