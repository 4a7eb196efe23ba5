/* SPDX-License-Identifier: MIT */

#include "support.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <net/if.h>
#include <netinet/in.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/un.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/* ---- the check around every test ---- */

static struct descriptors before;
static struct timespec wall_before, used_before; /* of the thread that runs the tests */
static bool is_busy, is_limited, is_running;
static volatile sig_atomic_t pipes_broken;

void descriptors_take(struct descriptors *set)
{
    DIR *dir = opendir("/proc/self/fd");
    struct dirent *found;
    struct stat st;

    assert_non_null(dir);
    set->count = 0;
    while ((found = readdir(dir))) {
        int number = atoi(found->d_name);

        if (found->d_name[0] == '.' || number == dirfd(dir) || fstat(number, &st) < 0)
            continue;
        assert_true(set->count < DESCRIPTORS_MAX);
        set->entry[set->count].number = number;
        set->entry[set->count].device = st.st_dev;
        set->entry[set->count++].inode = st.st_ino;
    }
    closedir(dir);
}

int descriptors_differ(const struct descriptors *a, const struct descriptors *b)
{
    size_t i;

    for (i = 0; i < a->count && i < b->count; i++) {
        int first = a->entry[i].number, second = b->entry[i].number;

        if (first != second)
            return first < second ? first : second;
        if (a->entry[i].device != b->entry[i].device || a->entry[i].inode != b->entry[i].inode)
            return first;
    }
    if (a->count == b->count)
        return -1;
    return a->count > b->count ? a->entry[i].number : b->entry[i].number;
}

static struct rlimit usual_limit;

void limit_descriptors(rlim_t count)
{
    struct rlimit now;

    assert_int_equal(getrlimit(RLIMIT_NOFILE, &usual_limit), 0);
    now = usual_limit;
    now.rlim_cur = count;
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &now), 0);
    is_limited = true;
}

void unlimit_descriptors(void)
{
    is_limited = false;
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &usual_limit), 0);
}

static void count_broken_pipe(int signal)
{
    (void) signal;
    pipes_broken++;
}

int guard_begin(void **state)
{
    struct sigaction action = { .sa_handler = count_broken_pipe };

    (void) state;
    pipes_broken = 0;
    if (sigaction(SIGPIPE, &action, NULL) < 0)
        return -1;
    descriptors_take(&before);
    is_busy = is_running = false;
    (void) clock_gettime(CLOCK_MONOTONIC, &wall_before);
    (void) clock_gettime(CLOCK_THREAD_CPUTIME_ID, &used_before);
    return 0;
}

static int64_t ms_since(clockid_t clock, const struct timespec *since)
{
    struct timespec now;

    (void) clock_gettime(clock, &now);
    return (int64_t) (now.tv_sec - since->tv_sec) * 1000 + (now.tv_nsec - since->tv_nsec) / 1000000;
}

void busy(void)
{
    is_busy = true;
}

/* A wait that is none: the thread spins. A sanitizer takes a multiple, and so does a processor that
 * is emulated (scripts/kernels). */
static bool has_spun(int64_t wall, int64_t used)
{
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
    return false && wall && used;
#else
    return !is_busy && wall >= SPIN_MS && used * 100 > wall * SPIN_PERCENT
        && !getenv("FINACK_EMULATED");
#endif
}

const char *guard_finding(void)
{
    static char text[80];
    int64_t used = ms_since(CLOCK_THREAD_CPUTIME_ID, &used_before);
    int64_t wall = ms_since(CLOCK_MONOTONIC, &wall_before);
    struct descriptors after;
    int number;

    descriptors_take(&after);
    number = descriptors_differ(&before, &after);
    if (number >= 0)
        (void) snprintf(text, sizeof text, "descriptor %d is not what it was", number);
    else if (pipes_broken)
        (void) snprintf(text, sizeof text, "SIGPIPE reached the program");
    else if (waitpid(-1, NULL, WNOHANG) >= 0)
        (void) snprintf(text, sizeof text, "a child is left");
    else if (has_spun(wall, used))
        (void) snprintf(text, sizeof text, "%" PRId64 " ms of %" PRId64 " on the processor", used,
                        wall);
    else
        return NULL;
    return text;
}

void guard_run(void **state)
{
    CMUnitTestFunction test = (CMUnitTestFunction) *state;
    void *none = NULL;

    is_running = true;
    test(&none);
    is_running = false; /* not if it failed */
}

int guard_end(void **state)
{
    const char *finding;

    (void) state;
    if (is_limited)
        unlimit_descriptors();
    finding = is_running ? NULL : guard_finding();
    if (finding)
        print_error("after the test: %s\n", finding);
    return finding ? -1 : 0;
}

static bool certain;

bool time_wait_is_certain(void)
{
    return certain;
}

static bool keep_time_wait(void)
{
    int fd = open("/proc/sys/net/ipv4/tcp_rfc1337", O_WRONLY | O_CLOEXEC);
    bool done = fd >= 0 && write(fd, "1", 1) == 1;

    if (fd >= 0)
        (void) close(fd);
    return done;
}

void own_network(void)
{
    struct ifreq loopback = { .ifr_name = "lo", .ifr_flags = IFF_UP | IFF_RUNNING };
    int fd;

    if (unshare(CLONE_NEWNET) < 0 && unshare(CLONE_NEWUSER | CLONE_NEWNET) < 0)
        return;
    fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || ioctl(fd, SIOCSIFFLAGS, &loopback) < 0)
        abort();
    (void) close(fd);
    certain = keep_time_wait();
}

/* ---- both ends ---- */

static void limit(int fd, enum pair_buffers buffers)
{
    struct timeval guard = { .tv_sec = GUARD_S };
    int size = 16384;

    if (buffers == BUFFERS_SMALL) {
        assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &size, sizeof size), 0);
        assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &size, sizeof size), 0);
    }
    assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &guard, sizeof guard), 0);
}

static int open_socket(int family, int type, int protocol, enum pair_buffers buffers)
{
    int fd = socket(family, type | SOCK_CLOEXEC, protocol);

    assert_true(fd >= 0);
    limit(fd, buffers);
    return fd;
}

int listen_tcp(int family, int protocol, int backlog, enum pair_buffers buffers)
{
    struct sockaddr_storage address = { .ss_family = (sa_family_t) family };
    int fd = open_socket(family, SOCK_STREAM, protocol, buffers);
    struct sockaddr_in *in = (struct sockaddr_in *) &address;
    struct sockaddr_in6 *in6 = (struct sockaddr_in6 *) &address;

    if (family == AF_INET)
        in->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    else
        in6->sin6_addr = in6addr_loopback;
    assert_int_equal(
        bind(fd, (struct sockaddr *) &address, family == AF_INET ? sizeof *in : sizeof *in6), 0);
    assert_int_equal(listen(fd, backlog), 0);
    return fd;
}

socklen_t address_of(int fd, struct sockaddr_storage *address)
{
    socklen_t size = sizeof *address;

    memset(address, 0, sizeof *address);
    assert_int_equal(getsockname(fd, (struct sockaddr *) address, &size), 0);
    return size;
}

int listen_unix(struct sockaddr_storage *address, socklen_t *size)
{
    sa_family_t family = AF_UNIX;
    int fd = open_socket(AF_UNIX, SOCK_STREAM, 0, BUFFERS_USUAL);

    /* unix(7), "Autobind": the kernel picks an abstract address. */
    assert_int_equal(bind(fd, (struct sockaddr *) &family, sizeof family), 0);
    assert_int_equal(listen(fd, 1024), 0);
    *size = address_of(fd, address);
    return fd;
}

int connect_to(int listener, int protocol, enum pair_buffers buffers)
{
    struct sockaddr_storage address;
    socklen_t size = address_of(listener, &address);
    int fd = open_socket(address.ss_family, SOCK_STREAM, protocol, buffers);

    assert_int_equal(connect(fd, (struct sockaddr *) &address, size), 0);
    return fd;
}

static void connect_pair(int family, int protocol, enum pair_buffers buffers, int fds[2])
{
    int listener = listen_tcp(family, protocol, 1, buffers);

    fds[US] = connect_to(listener, protocol, buffers);
    fds[THEM] = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
    assert_true(fds[THEM] >= 0);
    limit(fds[THEM], buffers);
    assert_int_equal(close(listener), 0);
}

void tcp_pair(int family, enum pair_buffers buffers, int fds[2])
{
    connect_pair(family, 0, buffers, fds);
}

void mptcp_pair(int fds[2])
{
    connect_pair(AF_INET, IPPROTO_MPTCP, BUFFERS_USUAL, fds);
}

bool has_mptcp(void)
{
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, IPPROTO_MPTCP);

    if (fd >= 0)
        assert_int_equal(close(fd), 0);
    else
        assert_int_equal(errno, EPROTONOSUPPORT);
    return fd >= 0;
}

bool mptcp_tells_eof(void)
{
    struct utsname kernel;
    int major, minor;

    assert_int_equal(uname(&kernel), 0);
    assert_int_equal(sscanf(kernel.release, "%d.%d", &major, &minor), 2);
    return major > 6 || (major == 6 && minor >= 5);
}

void unix_pair(int type, int fds[2])
{
    assert_int_equal(socketpair(AF_UNIX, type | SOCK_CLOEXEC, 0, fds), 0);
    limit(fds[US], BUFFERS_USUAL);
    limit(fds[THEM], BUFFERS_USUAL);
}

void set_nonblocking(int fd)
{
    assert_int_equal(fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK), 0);
}

size_t fill(int fd)
{
    static const char block[65536];
    size_t total = 0;
    ssize_t n;

    /* The window of a fresh connection still grows while the peer's kernel takes bytes in. */
    for (;;) {
        struct pollfd entry = { .fd = fd, .events = POLLOUT };

        while ((n = send(fd, block, sizeof block, MSG_DONTWAIT | MSG_NOSIGNAL)) > 0)
            total += (size_t) n;
        assert_int_equal(errno, EAGAIN);
        if (poll(&entry, 1, 10) == 0)
            return total;
    }
}

void give(int fd, const char *text)
{
    assert_int_equal(send(fd, text, strlen(text), MSG_NOSIGNAL), strlen(text));
}

void expect_text(int fd, const char *text)
{
    char buf[256];
    size_t length = strlen(text);

    assert_true(length < sizeof buf);
    assert_int_equal(recv(fd, buf, length, MSG_WAITALL), length);
    assert_memory_equal(buf, text, length);
}

void await_event(int fd, short event)
{
    struct pollfd entry = { .fd = fd, .events = event };

    assert_int_equal(poll(&entry, 1, GUARD_S * 1000), 1);
}

void await_input(int fd)
{
    await_event(fd, POLLIN);
}

void send_reset(int fd)
{
    struct linger now = { 1, 0 };

    assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_LINGER, &now, sizeof now), 0);
    drop_all(fd, -1);
}

/* ---- what the peer sees ---- */

struct seen see_end(int fd)
{
    char buf[16384];
    struct pollfd entry = { .fd = fd };
    struct seen seen = { .next_send = -1 };
    socklen_t size = sizeof seen.so_error;
    ssize_t n;

    while ((n = recv(fd, buf, sizeof buf, 0)) < 0 ? errno == EINTR : n > 0)
        seen.bytes += n > 0 ? (size_t) n : 0;
    seen.end = n < 0 ? errno : 0;
    (void) poll(&entry, 1, 0);
    seen.pollerr = entry.revents & POLLERR;
    (void) getsockopt(fd, SOL_SOCKET, SO_ERROR, &seen.so_error, &size);
    return seen;
}

struct seen see(int fd)
{
    struct seen seen = see_end(fd);

    seen.next_send = send(fd, "!", 1, MSG_NOSIGNAL | MSG_DONTWAIT) < 0 ? errno : 0;
    return seen;
}

void assert_seen_fin(struct seen seen, size_t bytes)
{
    assert_int_equal(seen.end, 0);
    assert_int_equal(seen.bytes, bytes);
    assert_false(seen.pollerr);
    assert_int_equal(seen.so_error, 0);
}

void assert_seen_reset(struct seen seen)
{
    assert_int_equal(seen.end, ECONNRESET);
    assert_int_equal(seen.next_send, EPIPE);
}

static void *answer_main(void *arg)
{
    struct answerer *a = arg;

    a->seen = see_end(a->fd);
    (void) close(a->fd);
    return NULL;
}

void answer(struct answerer *a, int fd)
{
    a->fd = fd;
    assert_int_equal(pthread_create(&a->thread, NULL, answer_main, a), 0);
}

struct seen answered(struct answerer *a)
{
    assert_int_equal(pthread_join(a->thread, NULL), 0);
    return a->seen;
}

/* ---- holders ---- */

pid_t child_start(bool (*script)(void *arg), void *arg)
{
    pid_t pid = fork();

    assert_true(pid >= 0);
    if (pid == 0)
        _exit(script(arg) ? 0 : 1);
    return pid;
}

void child_join(pid_t pid)
{
    int status = -1;

    while (waitpid(pid, &status, 0) < 0)
        assert_int_equal(errno, EINTR);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
}

/* ---- closing ---- */

struct fin_policy policy_of(enum fin_courtesy courtesy)
{
    struct fin_policy policy = FIN_POLICY_INIT;

    policy.courtesy = (int) courtesy;
    policy.proof_ms = 5000;
    policy.find_holders = 0;
    return policy;
}

struct fin_policy policy_hasty(enum fin_courtesy courtesy)
{
    struct fin_policy policy = policy_of(courtesy);

    policy.flush_ms = policy.farewell_ms = policy.linger_ms = 30;
    policy.proof_ms = 30;
    return policy;
}

bool is_free(int fd)
{
    return fcntl(fd, F_GETFD) < 0 && errno == EBADF;
}

bool reached(const struct fin_receipt *receipt, enum fin_stage stage)
{
    return receipt->stage_ns[stage] >= 0;
}

bool unverifiable(const struct fin_receipt *receipt, enum fin_stage stage)
{
    return receipt->unverifiable & (1u << stage);
}

bool search_is(const struct fin_receipt *receipt, enum fin_search search)
{
    return receipt->search == (int) search
        || (receipt->search == FIN_SEARCH_CUT
            && (receipt->holders > 0) == (search == FIN_SEARCH_FOUND));
}

static void assert_before(const struct fin_receipt *r, enum fin_stage first, enum fin_stage second)
{
    if (reached(r, first) && reached(r, second))
        assert_true(r->stage_ns[first] <= r->stage_ns[second]);
}

static void assert_needs(const struct fin_receipt *r, enum fin_stage first, enum fin_stage second)
{
    assert_true(reached(r, first) || !reached(r, second));
    assert_before(r, first, second);
}

void assert_sound(const struct fin_receipt *receipt)
{
    assert_int_equal(receipt->size, sizeof *receipt);
    assert_int_equal(receipt->stage_ns[FIN_STAGE_REQUESTED], 0);
    assert_before(receipt, FIN_STAGE_FLUSHED, FIN_STAGE_NOTIFIED);
    assert_before(receipt, FIN_STAGE_NOTIFIED, FIN_STAGE_SHUT);
    assert_before(receipt, FIN_STAGE_FLUSHED, FIN_STAGE_SHUT);
    assert_before(receipt, FIN_STAGE_SHUT, FIN_STAGE_ACKED);
    assert_before(receipt, FIN_STAGE_SHUT, FIN_STAGE_RELEASED);
    assert_needs(receipt, FIN_STAGE_UNWATCHED, FIN_STAGE_RELEASED);
    assert_needs(receipt, FIN_STAGE_RELEASED, FIN_STAGE_UNREFERENCED);
    assert_needs(receipt, FIN_STAGE_RELEASED, FIN_STAGE_FINISHED);
    assert_needs(receipt, FIN_STAGE_FINISHED, FIN_STAGE_GONE);
    for (enum fin_stage stage = 0; stage < FIN_STAGES; stage++)
        assert_false(reached(receipt, stage) && unverifiable(receipt, stage));
    assert_true(reached(receipt, FIN_STAGE_UNREFERENCED) == (receipt->held == FIN_NO));
}

struct fin_receipt closed(struct fin_kernel *kernel, int fd, const struct fin_policy *policy)
{
    struct fin_receipt receipt = FIN_RECEIPT_INIT;

    assert_int_equal(fin_close(kernel, fd, policy, &receipt), 0);
    assert_true(is_free(fd));
    assert_sound(&receipt);
    assert_true(reached(&receipt, FIN_STAGE_RELEASED));
    return receipt;
}

void assert_outcome(const struct fin_receipt *receipt, enum fin_outcome outcome, enum fin_end end)
{
    char line[512];

    if (receipt->outcome != (int) outcome || receipt->end != (int) end) {
        (void) fin_receipt_format(receipt, line, sizeof line);
        print_error("%s\n", line);
    }
    assert_string_equal(fin_outcome_name(receipt->outcome), fin_outcome_name((int) outcome));
    assert_string_equal(fin_end_name(receipt->end), fin_end_name((int) end));
}

void drop_all(int first, ...)
{
    va_list rest;

    va_start(rest, first);
    for (int fd = first; fd >= 0; fd = va_arg(rest, int))
        assert_int_equal(close(fd), 0);
    va_end(rest);
}
