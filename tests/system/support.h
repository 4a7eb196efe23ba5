/* SPDX-License-Identifier: MIT */

/* What the tests of the close share: both ends of a connection, the peer's view of its end, and a
 * check around every test that nothing is left open. */

#ifndef SUPPORT_H
#define SUPPORT_H

#include <finack.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/types.h>

#include <cmocka.h>

/* cmocka jumps out of a failed test and runs the teardown; a peer that would wait for ever gives
 * up after this time and fails its test. */
#define GUARD_S 20

#define US 0
#define THEM 1

/* ---- the check around every test ---- */

#define DESCRIPTORS_MAX 256

struct descriptors {
    size_t count;
    struct {
        int number;
        dev_t device;
        ino_t inode;
    } entry[DESCRIPTORS_MAX];
};

/* A test that takes this long is one that waits: its thread may not use more of the processor. */
#define SPIN_MS 200
#define SPIN_PERCENT 20

/* Says that this test works all the time. */
void busy(void);

/* What is open now, in order of number. */
void descriptors_take(struct descriptors *set);

/* The number of the first difference (missing, new, or something else now), -1 for none. */
int descriptors_differ(const struct descriptors *a, const struct descriptors *b);

/* No descriptor from `count` on can be opened until unlimit_descriptors(). With 0 poll(2) fails
 * too. */
void limit_descriptors(rlim_t count);
void unlimit_descriptors(void);

/* After the test: the same descriptors, no child left, no SIGPIPE. Of a test that failed nothing is
 * asked, since cmocka would tell of that in place of the test's own message. */
int guard_begin(void **state);
int guard_end(void **state);

/* Runs the test that is the state, and notes whether it came to its end. */
void guard_run(void **state);

/* What guard_end() would find, or NULL. */
const char *guard_finding(void);

/* `begin` and `end` call guard_begin() and guard_end(). */
#define GUARDED_BY(test, begin, end)                                                               \
    {                                                                                              \
#test, guard_run, begin, end, (void *) (test)                                              \
    }
#define GUARDED(test) GUARDED_BY(test, guard_begin, guard_end)

/* Moves into a network namespace of its own, so that the machine's load (a full TIME_WAIT table,
 * ports in use) does not matter, and where a stray RST does not end TIME_WAIT (RFC 1337). Where
 * that is not allowed everything stays as it is. To be called before there are threads. */
void own_network(void);

/* Is there TIME_WAIT for certain after our FIN went first? */
bool time_wait_is_certain(void);

/* ---- both ends ---- */

enum pair_buffers {
    BUFFERS_USUAL,
    BUFFERS_SMALL, /* full soon */
};

/* A listening TCP socket on the loopback address of `family`; `protocol` as for socket(2). */
int listen_tcp(int family, int protocol, int backlog, enum pair_buffers buffers);

/* A listening Unix stream socket at an abstract address, which is written to *address. */
int listen_unix(struct sockaddr_storage *address, socklen_t *size);

/* Where a socket is bound. */
socklen_t address_of(int fd, struct sockaddr_storage *address);

/* A connected socket. */
int connect_to(int listener, int protocol, enum pair_buffers buffers);

/* fds[US], which connected, and fds[THEM], which accepted; both block. */
void tcp_pair(int family, enum pair_buffers buffers, int fds[2]);
void mptcp_pair(int fds[2]);

/* Debian's kernels before Linux 5.15 are built without it. */
bool has_mptcp(void);
/* Tells MPTCP_INFO of the peer's DATA_FIN? Since Linux 6.5. */
bool mptcp_tells_eof(void);

void unix_pair(int type, int fds[2]);

void set_nonblocking(int fd);

/* Writes until the kernel takes no more. Returns the bytes. */
size_t fill(int fd);

void give(int fd, const char *text);

/* Closes it by a RST. */
void send_reset(int fd);

void expect_text(int fd, const char *text);

/* Returns once poll(2) says so of `fd`. */
void await_event(int fd, short event);
void await_input(int fd);

/* ---- what the peer sees ---- */

struct seen {
    size_t bytes;
    int end; /* 0: EOF; else the errno of the read that ended the stream */
    bool pollerr;
    int so_error;
    int next_send; /* errno, 0: it succeeded, -1: not tried */
};

/* Reads to the end and looks. */
struct seen see_end(int fd);

/* And then sends one byte more. */
struct seen see(int fd);

/* EOF after exactly `bytes`, and no sign of a reset. */
void assert_seen_fin(struct seen seen, size_t bytes);
void assert_seen_reset(struct seen seen);

/* A peer in a thread that reads to the end and closes. */
struct answerer {
    pthread_t thread;
    int fd;
    struct seen seen;
};

void answer(struct answerer *a, int fd);
struct seen answered(struct answerer *a);

/* ---- holders ---- */

/* A child that inherits every descriptor and runs `script` with `arg`; its exit status is 0 if
 * that returns true. */
pid_t child_start(bool (*script)(void *arg), void *arg);
void child_join(pid_t pid);

/* ---- closing ---- */

/* Long enough for what is expected to happen, and short enough for a suite if it does not. Nobody
 * searches for holders, which takes as long as the machine has processes. */
struct fin_policy policy_of(enum fin_courtesy courtesy);

/* The same, for a peer that is expected to let us down. */
struct fin_policy policy_hasty(enum fin_courtesy courtesy);

/* Is the number not in use? */
bool is_free(int fd);

bool reached(const struct fin_receipt *receipt, enum fin_stage stage);
bool unverifiable(const struct fin_receipt *receipt, enum fin_stage stage);

/* Did the search for holders come to this? It is bounded: where others have very many descriptors
 * it may be cut, and has found what it found. */
bool search_is(const struct fin_receipt *receipt, enum fin_search search);

/* The partial order, and nothing both reached and unverifiable. */
void assert_sound(const struct fin_receipt *receipt);

/* fin_close() that must succeed: the number is free and the receipt sound. */
struct fin_receipt closed(struct fin_kernel *kernel, int fd, const struct fin_policy *policy);

void assert_outcome(const struct fin_receipt *receipt, enum fin_outcome outcome, enum fin_end end);

/* Closes descriptors of the test's own; -1 ends the list. */
void drop_all(int first, ...);

#endif
