/* SPDX-License-Identifier: MIT */

/*
 * finack: close as a bounded process with an exact end and a receipt.
 *
 * Conventions of every function here:
 *   - the result is 0 or positive on success and a negative errno on failure;
 *   - out-parameters come last and are written on success only;
 *   - a call that takes over a descriptor and fails leaves it with the caller, unchanged;
 *   - structures that can grow begin with their size, which the caller sets (the *_INIT macros do);
 *   - no function logs, exits, raises SIGPIPE, or changes a signal handler;
 *   - no function is a cancellation point (pthreads(7)), and callbacks run with cancellation
 *     disabled: a pthread_cancel(3) takes effect after the call;
 *   - no function takes more than 8 KiB of stack, besides what callbacks and OpenSSL take.
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

/* Version of this header; fin_version() returns that of the library in use. */
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
    FIN_STAGE_UNWATCHED,    /* removed from the poller that the close itself used */
    FIN_STAGE_RELEASED,     /* close(2) returned, the descriptor is free */
    FIN_STAGE_UNREFERENCED, /* nothing anywhere refers to the description */
    FIN_STAGE_FINISHED,     /* the kernel's connection is over: TIME_WAIT, or no such socket */
    FIN_STAGE_GONE,         /* TIME_WAIT is over too, the 4-tuple is free */
};
#define FIN_STAGES 12

enum fin_outcome {
    FIN_OUTCOME_GRACEFUL,  /* all that the policy asked for was seen */
    FIN_OUTCOME_PROMPT,    /* closed without waiting for the peer */
    FIN_OUTCOME_TRUNCATED, /* the peer ended TLS without close_notify */
    FIN_OUTCOME_TIMED_OUT, /* a deadline cut it, in `phase` */
    FIN_OUTCOME_RESET, /* the connection was reset, by the peer, or by the kernel for unread input;
                              or it had ended without both FINs, whoever took its error */
    FIN_OUTCOME_ERROR, /* see `error`; ENOTCONN: it was over, and it can't be known how */
    FIN_OUTCOME_ABORTED, /* the program asked for an abort */
    FIN_OUTCOME_BOUNDED, /* more input than `drain` came, in `phase`; worse than truncated,
                            better than timed_out */
};
#define FIN_OUTCOMES 8

/* A part of the close that has a deadline of its own. */
enum fin_phase {
    FIN_PHASE_NONE,
    FIN_PHASE_FLUSH,    /* sending what was buffered above the kernel */
    FIN_PHASE_FAREWELL, /* close_notify, and under `full` its answer */
    FIN_PHASE_LINGER,   /* waiting for acked and eof; emptying a listening socket's queue */
};

/* How the stream ended for the peer. */
enum fin_end {
    FIN_END_NONE,   /* no stream ended: UDP, a pipe, never connected, or others still hold it */
    FIN_END_FIN,    /* in FIN, with every byte, and the peer's kernel has acknowledged it */
    FIN_END_RESET,  /* in RST: one was sent, or came */
    FIN_END_KERNEL, /* not known: the kernel was still at work, or could not tell */
};

enum fin_answer {
    FIN_NO,
    FIN_YES,
    FIN_UNVERIFIABLE, /* it was not, or could not be, observed */
};

enum fin_courtesy {
    FIN_COURTESY_ABORT,   /* RST now */
    FIN_COURTESY_PROMPT,  /* flush, close_notify, FIN, release */
    FIN_COURTESY_ORDERLY, /* also wait for acked and eof, draining input */
    FIN_COURTESY_FULL,    /* also wait for the peer's close_notify before FIN */
};

enum fin_scope {
    FIN_SCOPE_DEFAULT,    /* connection; for a listening socket descriptor */
    FIN_SCOPE_CONNECTION, /* end the connection, for every holder */
    FIN_SCOPE_DESCRIPTOR, /* only close this descriptor; other holders notice nothing */
};

/* For fin_policy.orphan_ms; a positive value is a time. */
#define FIN_ORPHAN_LEAVE (-1)
#define FIN_ORPHAN_RESET 0

/* No time in a policy may be longer: one day. */
#define FIN_TIME_MAX_MS 86400000

/* How to close. Times are milliseconds, 0 to FIN_TIME_MAX_MS; 0 = do not wait. */
struct fin_policy {
    size_t size;
    int courtesy;        /* enum fin_courtesy */
    int scope;           /* enum fin_scope */
    int proof;           /* the stage that completes the close: FIN_STAGE_RELEASED and later ones */
    int rebindable;      /* nonzero: SO_REUSEADDR before FIN, so that the 4-tuple can be reused
                            at once */
    int32_t flush_ms;    /* longest time without progress in sending our own buffer */
    int32_t farewell_ms; /* for close_notify, and for its answer under `full` */
    int32_t linger_ms;   /* for acked and eof; these three start anew while the kernel's send queue
                            shrinks */
    int32_t total_ms;    /* for everything up to release */
    int32_t proof_ms;    /* after release, how long to wait for the proof stage */
    int32_t orphan_ms;   /* bytes, or FIN alone, not acked when linger ends: FIN_ORPHAN_LEAVE (the
                            kernel goes on), FIN_ORPHAN_RESET, or how long the kernel may go on */
    uint64_t drain;      /* bytes of input thrown away at most */
    /* A listening socket closed with scope connection: each connection found in its queue is given
     * to `accepted`, which owns `fd` (CLOEXEC, NONBLOCK) from then on; it runs inside the close and
     * must not touch the listening socket. NULL: each is closed with courtesy prompt. */
    void (*accepted)(int fd, void *arg);
    void *accepted_arg;
    int find_holders; /* nonzero: if it is held at the end, search /proc for the holders: about
                         20 us a process of the machine, at most what is left of total_ms and
                         proof_ms, 0.1 s of processor time, and 1 s */
    int addresses; /* nonzero: the receipt has both addresses of an IP socket, as they were when the
                      close was asked for (two system calls; 144 bytes of a closer's while
                      pending) */
};

/* clang-format off */
#define FIN_POLICY_INIT                                                                            \
    { sizeof(struct fin_policy), FIN_COURTESY_ORDERLY, FIN_SCOPE_DEFAULT, FIN_STAGE_UNREFERENCED,  \
      0, 5000, 1000, 2000, 10000, 100, FIN_ORPHAN_LEAVE, 1048576, NULL, NULL, 1, 0 }
/* clang-format on */

/* Ready policies, as initialisers and, in C99, as `&(const struct fin_policy) FIN_POLICY_PROMPT`.
 * ABORT:   reset at once; for a peer that misbehaves.
 * PROMPT:  flush, farewell, FIN, and release without waiting for the peer.
 * ORDERLY: the default, FIN_POLICY_INIT: also wait for acked and eof.
 * SERVER:  for connections that a server accepted: orderly with short waits (3 s in all), and if
 *          the peer is gone the kernel goes on for at most 10 s more. A server that forks workers
 *          closes its own copy with scope descriptor instead. */
/* clang-format off */
#define FIN_POLICY_ABORT                                                                           \
    { sizeof(struct fin_policy), FIN_COURTESY_ABORT, FIN_SCOPE_DEFAULT, FIN_STAGE_UNREFERENCED,    \
      0, 5000, 1000, 2000, 10000, 100, FIN_ORPHAN_LEAVE, 1048576, NULL, NULL, 1, 0 }
#define FIN_POLICY_PROMPT                                                                          \
    { sizeof(struct fin_policy), FIN_COURTESY_PROMPT, FIN_SCOPE_DEFAULT, FIN_STAGE_UNREFERENCED,   \
      0, 5000, 1000, 2000, 10000, 100, FIN_ORPHAN_LEAVE, 1048576, NULL, NULL, 1, 0 }
#define FIN_POLICY_ORDERLY FIN_POLICY_INIT
#define FIN_POLICY_SERVER                                                                          \
    { sizeof(struct fin_policy), FIN_COURTESY_ORDERLY, FIN_SCOPE_DEFAULT, FIN_STAGE_UNREFERENCED,  \
      0, 2000, 500, 1000, 3000, 100, 10000, 262144, NULL, NULL, 1, 0 }
/* clang-format on */

/* Is this a policy that the calls below take? On failure `*field` (`field` may be NULL) is the name
 * of the first member that is wrong, or "policy" for NULL: a static string. Any thread.
 * Errors: -EINVAL  NULL, unknown size, unknown courtesy, scope, proof
 *         -ERANGE  a time that is negative or above FIN_TIME_MAX_MS */
FIN_API int fin_policy_check(const struct fin_policy *policy, const char **field);

/* A process and its descriptor that still refers to the description (the open file). */
struct fin_holder {
    int32_t pid;
    int32_t fd;
    char command[16]; /* /proc/PID/comm, terminated; may hold any byte but NUL */
};

/* The result of a search for holders. */
enum fin_search {
    FIN_SEARCH_NONE,      /* there was no search: nothing holds it, or the policy did not ask */
    FIN_SEARCH_FOUND,     /* at least one holder */
    FIN_SEARCH_INVISIBLE, /* held, and no process shows it: in flight in SCM_RIGHTS, in a blocked
                             system call, in another pid namespace */
    FIN_SEARCH_BLIND,     /* held, none found, and some processes could not be read */
    FIN_SEARCH_CUT,       /* held, and the search ended early, mostly because the close's time was
                             over: `holders` counts those found by then, there may be more */
};

#define FIN_RECEIPT_HOLDERS 4

/* What was closed. */
enum fin_kind {
    FIN_KIND_PIPE,
    FIN_KIND_TCP,
    FIN_KIND_MPTCP, /* also if the connection fell back to TCP */
    FIN_KIND_UDP,   /* or another datagram socket of IP */
    FIN_KIND_UNIX,
};

/* What happened. A plain value: nothing in it must be freed. */
struct fin_receipt {
    size_t size; /* sizeof; smaller, without `kind` and the members after it, in programs built
                    before them */
    int outcome; /* enum fin_outcome */
    int phase;   /* enum fin_phase: where the outcome was decided, if not graceful or prompt */
    int end;     /* enum fin_end */
    int held;    /* enum fin_answer: does anything still refer to the description */
    int error;   /* 0, or a negative errno */
    uint32_t unverifiable;        /* bit 1u << stage: it was wanted, and can't be observed here */
    uint64_t requested_ns;        /* CLOCK_MONOTONIC */
    int64_t stage_ns[FIN_STAGES]; /* ns since requested, -1: not reached, or not looked for */
    uint64_t unsent;    /* bytes of our own that never reached the kernel (TLS: of the plaintext) */
    uint64_t unacked;   /* bytes in the kernel that the peer had not acknowledged at release */
    uint64_t discarded; /* bytes of input thrown away */
    uint64_t accepted;  /* connections taken from a listening socket's queue */
    int forced;       /* nonzero: cut short because the closer was full (fin_closer_options.cap) */
    int tombstone;    /* nonzero: a thread would not leave; a dead descriptor keeps the number
                         until it does (fin_handle_close()) */
    int search;       /* enum fin_search: the result of the search for holders */
    uint32_t holders; /* how many were found (not all after FIN_SEARCH_CUT); the first of them: */
    struct fin_holder holder[FIN_RECEIPT_HOLDERS];
    int kind;   /* enum fin_kind */
    int family; /* of the addresses: AF_INET or AF_INET6; 0: there are none, or the policy did
                   not ask */
    uint16_t local_port, remote_port; /* host order */
    uint8_t local[16], remote[16]; /* in network order, v4 in the first 4; all 0: not connected */
};

/* clang-format off */
#define FIN_RECEIPT_INIT                                                                           \
    { sizeof(struct fin_receipt), 0, 0, 0, 0, 0, 0, 0, { 0 }, 0, 0, 0, 0, 0, 0, 0, 0,              \
      { { 0, 0, { 0 } } }, 0, 0, 0, 0, { 0 }, { 0 } }
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
FIN_API const char *fin_search_name(int search);
FIN_API const char *fin_kind_name(int kind);

/* What closing needs from the kernel besides the descriptor itself (an epoll set to wait with, the
 * witness and its fdinfo, a netlink socket), opened once so that nothing is opened while closing.
 *
 * One thread at a time may use a handle; make one per thread or loop. It is not shared over fork:
 * in a child, calls that take the parent's handle give -ECHILD; fin_kernel_free() still works
 * there. Parts that can't be opened (no /proc, no netlink) are left out; stages that need them are
 * then unverifiable.
 *
 * Errors: -EINVAL (ret is NULL), -ENOMEM, -EMFILE, -ENFILE. */
struct fin_kernel;
FIN_API int fin_kernel_new(struct fin_kernel **ret);

/* Frees the handle and closes what it opened. NULL is fine. Returns NULL. */
FIN_API struct fin_kernel *fin_kernel_free(struct fin_kernel *kernel);

/* Which socket this is, whatever its descriptor's number. Fill `size` first (FIN_IDENTITY_INIT). */
struct fin_identity {
    size_t size;
    uint64_t cookie;                  /* SO_COOKIE; 0 if there is none (pipes) */
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
#define FIN_IDENTITY_INIT                                                                          \
    { sizeof(struct fin_identity), 0, 0, 0, 0, 0, 0, 0, 0, 0, { 0 }, { 0 }, 0 }
/* clang-format on */

/* Says which socket or pipe `fd` is. The descriptor stays the caller's. Any thread.
 * Errors: -EINVAL (NULL, unknown size), -EBADF, -EOPNOTSUPP (neither a socket nor a pipe). */
FIN_API int fin_identify(int fd, struct fin_identity *id);

/* 1 if `fd` still is `id`, 0 if it is another file now or closed. Any thread.
 * Errors: -EINVAL. */
FIN_API int fin_is(int fd, const struct fin_identity *id);

/* What sock_diag(7) says of a socket, open or released. Fill `size` first (FIN_STATE_INIT). */
struct fin_state {
    size_t size;
    int exists;       /* enum fin_answer: does the kernel list it */
    int tcp_state;    /* a TCP_* number of netinet/tcp.h (UDP and Unix use them too), 0 if not
                      listed */
    int timer;        /* 0 none, 1 retransmit, 2 keepalive, 3 TIME_WAIT, 4 zero-window probe */
    int64_t timer_ms; /* until that timer expires */
    uint64_t inode;   /* 0: no process's descriptor owns it any more */
    uint64_t receive_queue, send_queue; /* bytes */
};

/* clang-format off */
#define FIN_STATE_INIT { sizeof(struct fin_state), 0, 0, 0, 0, 0, 0, 0 }
/* clang-format on */

/* Asks the kernel for the state of `id`. sock_diag looks a socket up by its addresses, so an answer
 * is believed only if the same query returned this socket's inode while it was open. Call it once
 * before the release, which sets id->confirmed. Without that a later call says FIN_UNVERIFIABLE;
 * also for SO_REUSEPORT, MPTCP and another network namespace.
 *
 * `kernel` may be NULL: a netlink socket is opened for the call. The handle's thread.
 * Errors: -EINVAL, -ECHILD. If the kernel can't answer for another reason, `exists` is
 * FIN_UNVERIFIABLE. */
FIN_API int fin_inspect(struct fin_kernel *kernel, struct fin_identity *id,
                        struct fin_state *state);

/* Closes `fd` under `policy`, waits until the policy's proof is seen or its time is over, and fills
 * the receipt.
 *
 * Takes: connected, connecting and never connected TCP (v4, v6, MPTCP), UDP, Unix stream, datagram
 * and seqpacket sockets, listening sockets, pipes; blocking or not. On success the descriptor is
 * released, whatever the outcome says; on failure it is the caller's, unchanged.
 *
 * `kernel` may be NULL: the call opens what it needs, and stages are unverifiable if it can't.
 * `policy` may be NULL for the defaults (FIN_POLICY_INIT), `receipt` NULL if nobody wants it; this
 * is so for all calls here that close. Bounded by total_ms + proof_ms; signals do not interrupt it.
 * No other thread may use the descriptor meanwhile, or close it: the receipt then has error -EBADF,
 * and if another file has got the number, the close acts on that file. The handle's thread; calls
 * back only policy->accepted.
 *
 * Errors: -EINVAL, -ERANGE  as fin_policy_check() for the policy; a receipt of unknown size
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
    FIN_LAYER_NONE,       /* from notify: no farewell can be sent now (a handshake) */
    FIN_LAYER_BROKEN, /* a write of the program can't be completed: the stream must end in RST */
    FIN_LAYER_DEAD,   /* from notify: no farewell can be sent or read any more (a dead session) */
};

/* A protocol between the program and the socket that has bytes of its own to send before FIN.
 * Callbacks never block and never close; all run on the closing thread. */
struct fin_layer {
    size_t size;
    void *arg;
    /* Moves what is buffered into the kernel; always sets *unsent to the bytes that are left. */
    int (*flush)(void *arg, uint64_t *unsent);
    /* Sends the farewell (TLS: close_notify). Not called again after FIN_LAYER_DONE. */
    int (*notify)(void *arg);
    /* Reads at most `max` bytes (at least 1) and throws them away; sets *n on FIN_LAYER_DONE. */
    int (*read)(void *arg, uint64_t max, uint64_t *n);
    /* How many bytes flush() would have to move, without moving any; UINT64_MAX: not known.
     * Called when nothing is flushed, under scope descriptor and courtesy abort. May be NULL:
     * not known. A layer whose size is without this member is accepted too. */
    uint64_t (*unsent)(void *arg);
};

/* clang-format off */
#define FIN_LAYER_INIT { sizeof(struct fin_layer), NULL, NULL, NULL, NULL, NULL }
/* clang-format on */

/* fin_close() for a connected stream that carries `layer`. finack/openssl.h has the layer for
 * OpenSSL. Errors: as fin_close(), and -EINVAL for a layer with a NULL callback, -ENOTCONN for a
 * descriptor that is no connected stream. The layer is the caller's and must live during the
 * call. */
FIN_API int fin_close_layered(struct fin_kernel *kernel, int fd, const struct fin_layer *layer,
                              const struct fin_policy *policy, struct fin_receipt *receipt);

/* Writes one line for people: outcome, phase, every stage reached with its time, what was lost. No
 * newline; cut at size - 1 and always terminated, like snprintf(3).
 * Returns the length of the whole line. Errors: -EINVAL. Any thread. */
FIN_API int fin_receipt_format(const struct fin_receipt *receipt, char *buf, size_t size);

/* The same for a program: a JSON object (RFC 8259) in one line, ASCII, with the receipt's
 * members by name, values as the *_name() functions spell them, and times in ns, null for a
 * stage that was not reached. Members are only ever added. Unprintable bytes of a command become
 * \xNN. Cut, terminated and counted as by fin_receipt_format(); 1,500 bytes are enough. Errors:
 * -EINVAL. Any thread. */
FIN_API int fin_receipt_json(const struct fin_receipt *receipt, char *buf, size_t size);

/* ---- holders and stale registrations ---- */

/* Finds the processes that have a descriptor for `id` open, this one included, in /proc. Fills at
 * most `max` entries of `list` (which may be NULL if max is 0). `*unreadable` (may be NULL) counts
 * the processes that it could not look at; it is not 0 if /proc hides some (hidepid). A thread with
 * a descriptor table of its own (unshare(CLONE_FILES)) is listed by its thread id. Both ends of a
 * pipe have one identity: the holders of both are found.
 *
 * Not found: a descriptor in flight in SCM_RIGHTS, in a blocked system call, registered with
 * io_uring, or in a process that /proc does not show (another pid namespace, hidepid).
 * One pass, about 20 us a process of the machine; opens descriptors of its own (at most 4) while it
 * runs, allocates nothing. Any thread.
 * Returns how many holders there are, which may be more than `max`.
 * Errors: -EINVAL, -ENOENT (no /proc), -EACCES (no right to read it), -EMFILE, -ENFILE, -ENOMEM. */
FIN_API int fin_holders(const struct fin_identity *id, struct fin_holder *list, size_t max,
                        uint32_t *unreadable);

/* An epoll entry whose number is another file now, or closed: epoll(7) keeps it as long as the
 * description lives, reports it under the old number, and EPOLL_CTL_DEL can't name it. */
struct fin_stale {
    int32_t pid;        /* whose epoll set it is in */
    int32_t epoll_fd;   /* the set's descriptor in that process */
    int32_t fd;         /* the number that was registered */
    uint32_t events;    /* EPOLL*; the kernel adds EPOLLERR and EPOLLHUP */
    uint64_t data;      /* epoll_event.data */
    uint64_t inode;     /* of the description that keeps the entry alive */
    int32_t holder_pid; /* a process that has it open, or 0: none was found */
    int32_t holder_fd;
};

/* Finds the stale entries of all epoll sets of process `pid` (0: this one), and for each in the
 * list a holder: another descriptor of that process if it has one, else any process's. Fills at
 * most `max` entries of `list` (which may be NULL if max is 0). finack's own sets are left out.
 *
 * A set with two descriptors is reported for both. One that several processes share (fork) is
 * compared with the descriptors of `pid`: what another process registered after the fork counts as
 * stale. Sockets are told apart by inode. Other files share one (both ends of a pipe, all eventfds,
 * timerfds, ...): if such a number was reused for a file of the same inode, only kcmp(2) shows that
 * the entry is stale, and if that is refused (seccomp) the entry counts as live.
 *
 * A set that another thread changes meanwhile may be seen half-way. Any thread.
 * Returns how many there are, which may be more than `max`.
 * Errors: -EINVAL, -ESRCH, -EACCES (may not look), -ENOENT (no /proc), -EMFILE, -ENFILE,
 * -ENOMEM. */
FIN_API int fin_epoll_audit(int pid, struct fin_stale *list, size_t max);

/* Removes a stale entry of this process, as fin_epoll_audit() reported it; holder_pid and holder_fd
 * don't matter. It needs another descriptor of the same description (a survivor): this process's,
 * or another's by pidfd_getfd(2), which takes the right to trace that process. A helper thread with
 * a descriptor table of its own puts it at the old number there, and deletes the entry. None of the
 * program's descriptors is touched, and a live entry under the same number stays.
 *
 * The entry goes for every process that shares the set. While the helper runs it refers to every
 * description of the program: another thread's close may take effect that much later. It takes less
 * than 1 ms, and a search of /proc if this process has no survivor. Any thread.
 * Errors: -EINVAL (also: another process's set), -ENOENT (the entry is gone, or is not stale),
 * -ESRCH (no survivor found), -EPERM (the survivor's process may not be touched, or unshare(2) is
 * forbidden), -EAGAIN (no thread), -EACCES, -EMFILE, -ENFILE, -ENOMEM. */
FIN_API int fin_epoll_heal(const struct fin_stale *stale);

/* ---- a socket that many threads use ---- */

/* A guard around a socket, which counts the threads inside a call: its close wakes them, waits for
 * them to leave, then closes. No call touches the descriptor after that. All functions but free may
 * be called from any thread at any time; the only callback is policy->accepted. Sockets only.
 *
 * Besides the socket each reference keeps one descriptor, and the process one more for all of
 * them, so that a close needs no new one. In a forked child a handle is a copy, as the socket
 * is, with none of the parent's threads inside; the child closes it with scope descriptor, which
 * the parent does not notice. A handle that another thread of the parent was closing at the fork
 * is closed in the child already, and the first call there closes the child's copy of the
 * socket. */
struct fin_handle;

/* Takes `fd` over. On failure it is the caller's, unchanged.
 * Errors: -EINVAL, -EBADF, -EOPNOTSUPP (not a socket, or of a kind that fin_close() does not take),
 * -ENOMEM, -EMFILE, -ENFILE (it needs an eventfd), -EPERM, -EACCES. */
FIN_API int fin_handle_new(int fd, struct fin_handle **ret);

/* A second reference to the same socket, as several file objects over one socket have. The socket
 * closes when the last reference is closed, at that moment; each must be freed.
 * Errors: -EINVAL, -ECANCELED (this reference is closed), -ENOMEM, -EMFILE, -ENFILE. */
FIN_API int fin_handle_dup_ref(struct fin_handle *handle, struct fin_handle **ret);

/* For fin_handle_send(): the peer may get only a part if a close interrupts the call. send(2)
 * has no such flag. */
#define FIN_SEND_PART 0x40000000

/* recv(2), send(2), accept4(2) that wait at most `timeout_ms` (-1: for ever) for the socket or
 * for a close of this reference; they block only in that wait, whatever O_NONBLOCK says, and not
 * at all with MSG_DONTWAIT. Signals do not interrupt them. MSG_NOSIGNAL is implied, and
 * MSG_WAITALL has no effect. send sends all bytes unless it fails; if it fails after some bytes,
 * it returns their number. If a close of the reference interrupts it after a part was sent, the
 * stream is not whole: the close of the last reference then ends it in RST (a Unix stream can't
 * be reset), with error -ECANCELED and the rest in `unsent`. With FIN_SEND_PART among the flags
 * it ends as usual. accept's result is CLOEXEC; accept sets O_NONBLOCK on the listening socket,
 * since another thread or process could take the connection that it waited for. If RLIMIT_NOFILE
 * is 0, poll(2) fails: then they try again after pauses of up to 64 ms. Return bytes (recv: 0 at
 * EOF) or a descriptor. Errors: -EINVAL, -ECANCELED (the reference is or gets closed),
 * -ETIMEDOUT, and those of the call. */
FIN_API int64_t fin_handle_recv(struct fin_handle *handle, void *buf, size_t size, int flags,
                                int timeout_ms);
FIN_API int64_t fin_handle_send(struct fin_handle *handle, const void *buf, size_t size, int flags,
                                int timeout_ms);
FIN_API int fin_handle_accept(struct fin_handle *handle, int timeout_ms);

/* Put these around calls of your own: enter returns the descriptor, valid until leave, which
 * must be called on the same reference. If the last reference is closed meanwhile,
 * shutdown(SHUT_RDWR) wakes such calls: the drain and a listening socket's queue are then lost
 * (stage eof is unverifiable). The number may then belong to a tombstone, a dead descriptor:
 * calls on it fail, and read(2) returns 0. Errors: -EINVAL, -ECANCELED (the reference is
 * closed): leave must not be called then. */
FIN_API int fin_handle_enter(struct fin_handle *handle);
FIN_API void fin_handle_leave(struct fin_handle *handle);

/* Closes this reference, and wakes the recv, send and accept on it. If it is the last one, closes
 * the socket under `policy`: wakes the threads inside and waits for them (at most policy->total_ms,
 * which goes on counting for the rest), then closes as fin_close(). If they don't leave, a
 * tombstone (a dead descriptor, by dup2(2)) takes the descriptor's place until the last of them has
 * left. If that can't be made, for example because RLIMIT_NOFILE is below the number by now, the
 * descriptor itself stays until then: outcome `error`, -EMFILE, without stage released. With scope
 * descriptor (the default for a listening socket) nothing is shut, so threads between enter and
 * leave are neither woken nor waited for; they get the tombstone at once. This includes a thread
 * that calls close between its own enter and leave. If several threads close one reference at the
 * same time, one closes it and the others get -ECANCELED.
 * Returns 0 if the socket was closed (receipt filled), 1 if other references are left (receipt
 * untouched). Errors: -EINVAL, -ERANGE, -ECHILD, -ECANCELED (closed already): nothing was done;
 * and -EBADF, -EPERM, -EACCES: closed, but the descriptor was another file or could not be
 * looked at, so that there is no receipt. */
FIN_API int fin_handle_close(struct fin_handle *handle, struct fin_kernel *kernel,
                             const struct fin_policy *policy, struct fin_receipt *receipt);

/* Frees a reference, and closes it with courtesy prompt if it is open. No other thread may be
 * about to use this reference; a thread that is inside may still leave. NULL is fine. Returns
 * NULL. */
FIN_API struct fin_handle *fin_handle_free(struct fin_handle *handle);

/* ---- many closes at once ---- */

/* Closes many sockets from inside an event loop, without blocking it. The closer has one pollable
 * descriptor; when it is readable, fin_closer_dispatch() does what is due and runs completions.
 * Submitting, aborting and counting may be done from any thread; dispatch, drain and free from one
 * thread at a time. Not shared over fork: in a child every call but free gives -ECHILD, and free
 * there leaves the parent's closes alone. */
struct fin_closer;

struct fin_closer_options {
    size_t size;
    uint32_t cap; /* closes in progress at most; over it the oldest is forced. 0: no cap */
};

/* clang-format off */
#define FIN_CLOSER_OPTIONS_INIT { sizeof(struct fin_closer_options), 0 }
/* clang-format on */

/* Called once for each close, from dispatch, drain or free. It may call anything, fin_closer_free()
 * included. The receipt is valid during the call. */
typedef void (*fin_closed_fn)(const struct fin_receipt *receipt, void *arg);

/* `options` may be NULL. Errors: -EINVAL, -ENOMEM, -EMFILE, -ENFILE. */
FIN_API int fin_closer_new(const struct fin_closer_options *options, struct fin_closer **ret);

/* The descriptor to watch for input (level-triggered). It stays the closer's. Errors: -EINVAL,
 * -ECHILD. */
FIN_API int fin_closer_fd(const struct fin_closer *closer);

/* CLOCK_MONOTONIC ns of the next deadline, or UINT64_MAX; for loops that compute their own
 * timeout. The closer's descriptor becomes readable at that time by itself. What was submitted
 * since the last dispatch is not counted yet. Dispatching thread. */
FIN_API uint64_t fin_closer_next_deadline(const struct fin_closer *closer);

/* Asks for a close. On success the descriptor is the closer's, `closed` will be called, and `*op`
 * (may be NULL) names the close for fin_closer_abort(). All that can fail for lack of memory or
 * descriptors fails here: afterwards the close allocates nothing. `policy` is copied; `closed` may
 * be NULL. A proof of finished or gone opens a netlink socket during the call; if it can't, those
 * stages are unverifiable. A child forked meanwhile has a copy of the descriptor: the socket shows
 * as held.
 * Errors: as fin_close(), and -ENOMEM, -ENOSPC (epoll's limit of watches), -EEXIST (a close of
 * that descriptor is pending already), -ECANCELED (the closer is being freed); -EBADF also if
 * the closer's own descriptor was closed by somebody else. */
FIN_API int fin_closer_submit(struct fin_closer *closer, int fd, const struct fin_policy *policy,
                              fin_closed_fn closed, void *arg, uint64_t *op);

/* The same for a stream that carries a layer, which must live until the completion. */
FIN_API int fin_closer_submit_layered(struct fin_closer *closer, int fd,
                                      const struct fin_layer *layer,
                                      const struct fin_policy *policy, fin_closed_fn closed,
                                      void *arg, uint64_t *op);

/* Does a bounded amount of work and runs the completions that are due; closes that end in the same
 * dispatch complete in the order in which they were submitted. Never blocks. Returns the number of
 * completions run.
 * Errors: -EINVAL, -ECHILD, -EBUSY (called from a completion), -EBADF: the closer's own
 * descriptor was closed by somebody else. Its closes are then forced, over several dispatches,
 * and it takes no more. */
FIN_API int fin_closer_dispatch(struct fin_closer *closer);

/* Ends one close at once: RST for a stream. Its completion still runs, from dispatch; if something
 * holds the description, after the wait for the proof. A close that is released already keeps its
 * outcome and completes without that wait. Any thread. Errors:
 * -EINVAL, -ECHILD, -ENOENT: completed already. */
FIN_API int fin_closer_abort(struct fin_closer *closer, uint64_t op);

/* Dispatches and waits until nothing is pending or `timeout_ms` has passed; what is then left is
 * aborted. Returns the number of those stragglers; each of their completions has been called,
 * with outcome aborted, or its own if it was released already. If completions keep submitting,
 * it does not end. Errors: -EINVAL, -ERANGE, -ECHILD, -EBUSY. */
FIN_API int fin_closer_drain(struct fin_closer *closer, int32_t timeout_ms);

struct fin_closer_counters {
    size_t size;
    uint64_t submitted, completed, forced;
    uint64_t pending;
    uint64_t outcomes[FIN_OUTCOMES]; /* completed, by enum fin_outcome */
};

/* clang-format off */
#define FIN_CLOSER_COUNTERS_INIT { sizeof(struct fin_closer_counters), 0, 0, 0, 0, { 0 } }
/* clang-format on */

/* What the closer has done so far. Any thread. Errors: -EINVAL, -ECHILD. */
FIN_API int fin_closer_count(struct fin_closer *closer, struct fin_closer_counters *counters);

/* Closes `fd` on a thread of the library's own, for programs without a loop. The first such call
 * makes the thread and its closer, and fin_close_later_drain() ends them; signals are blocked in
 * the thread. `closed` (may be NULL) is called on that thread, or on the one that drains. On
 * success the descriptor is the library's, on failure the caller's, unchanged. When the process
 * ends, pending closes end as after a plain close(2): drain first. A forked child has no such
 * thread: pending closes are the parent's alone, and show as held while the child has its copies.
 * Any thread. The library must stay loaded meanwhile.
 * Errors: as fin_closer_new() and fin_closer_submit(), and -EAGAIN (no thread could be made).
 * After -EBADF for the closer's own descriptor call fin_close_later_drain(); the next call makes
 * a new closer. */
FIN_API int fin_close_later(int fd, const struct fin_policy *policy, fin_closed_fn closed,
                            void *arg);

/* Waits until all of these closes are complete, aborts what is left after `timeout_ms`, and ends
 * the thread; a later fin_close_later() starts it anew. Returns the number of stragglers, as
 * fin_closer_drain() does. Any thread but a completion.
 * Errors: -ERANGE, -EBUSY (called from a completion on the library's thread). */
FIN_API int fin_close_later_drain(int32_t timeout_ms);

/* Aborts what is pending, runs the completions, frees the closer. NULL is fine. Returns NULL. */
FIN_API struct fin_closer *fin_closer_free(struct fin_closer *closer);

#ifdef __cplusplus
}
#endif

#endif
