/* SPDX-License-Identifier: MIT */

#include "inside.h"

#include "base/alloc.h"
#include "base/clock.h"
#include "base/descriptor.h"
#include "close/sight.h"
#include "kernel/proc.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/tcp.h>
#include <netinet/in.h>
#include <poll.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

/* Of processor time: more than the interrupts, and what the kernel does at their ends for anybody,
 * may take from a thread at a time (2 ms); and more than one that sends may spend on what is
 * queued. A busy thread that has the interpreter's lock keeps it for 5 ms anyhow. */
#define PAST_NS (5 * FIN__NS_PER_MS)
#define PAST_QUEUE_NS (25 * FIN__NS_PER_MS)
#define PAUSE_NS (50 * 1000ull)
#define PAUSE_MAX_NS (5 * FIN__NS_PER_MS)

enum place {
    OUT,
    UNKNOWN,
    RECEIVING,
    SENDING,
    STRANDED
};

/* Those whose first argument is a socket. */
static const struct {
    long number;
    enum place place;
    int bytes; /* the argument that is the number of bytes to send, 0: none is */
} calls[] = {
    { SYS_read, RECEIVING, 0 },    { SYS_readv, RECEIVING, 0 },    { SYS_recvfrom, RECEIVING, 0 },
    { SYS_recvmsg, RECEIVING, 0 }, { SYS_recvmmsg, RECEIVING, 0 }, { SYS_accept, RECEIVING, 0 },
    { SYS_accept4, RECEIVING, 0 }, { SYS_write, SENDING, 2 },      { SYS_writev, SENDING, 0 },
    { SYS_sendto, SENDING, 2 },    { SYS_sendmsg, SENDING, 0 },    { SYS_sendmmsg, SENDING, 0 },
    { SYS_sendfile, SENDING, 3 },  { SYS_connect, SENDING, 0 },
};

#ifdef SYS_poll
#define IS_POLL(number) ((number) == SYS_poll || (number) == SYS_ppoll)
#else
#define IS_POLL(number) ((number) == SYS_ppoll)
#endif

/* ---- one thread ---- */

struct call {
    long number;
    unsigned long args[4];
};

/* "45 0x3 0x7f23 0x1 ...", "running", or "-1 0x7ff 0x7f2" for a thread that is stopped elsewhere.
 * Returns 1, 0 for the latter two, or a negative errno. */
static int read_call(int32_t id, struct call *call)
{
    char path[48], text[200];
    ssize_t n;
    int fd;

    (void) snprintf(path, sizeof path, "/proc/self/task/%d/syscall", id);
    fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return -errno;
    n = read(fd, text, sizeof text - 1);
    if (n < 0)
        n = -errno;
    fin__drop(&fd);
    if (n < 0)
        return (int) n;
    text[n] = '\0';
    n = sscanf(text, "%ld %lx %lx %lx %lx", &call->number, &call->args[0], &call->args[1],
               &call->args[2], &call->args[3]);
    return n == 5 && call->number >= 0;
}

/* By a system call, since the thread may end and its stack vanish. */
static enum place judge_poll(const struct call *call, int fd)
{
    struct pollfd entry;
    struct iovec here = { &entry, sizeof entry };
    struct iovec there = { (void *) call->args[0],
                           sizeof entry }; // NOLINT(performance-no-int-to-ptr)

    if (call->args[1] != 1
        || process_vm_readv(getpid(), &here, 1, &there, 1, 0) != (ssize_t) sizeof entry
        || entry.fd != fd)
        return OUT;
    return entry.events & POLLOUT ? STRANDED : RECEIVING;
}

static enum place judge(const struct call *call, int fd, uint64_t *bytes)
{
    *bytes = 0;
    if (IS_POLL(call->number))
        return judge_poll(call, fd);
    for (size_t i = 0; i < sizeof calls / sizeof *calls; i++) {
        if (call->number != calls[i].number || (int) call->args[0] != fd)
            continue;
        *bytes = calls[i].bytes ? call->args[calls[i].bytes] : 0;
        return calls[i].place;
    }
    return OUT;
}

/* The clock of any thread of this process: what clock_getcpuclockid(3) is for processes. */
static uint64_t cpu_time(int32_t id)
{
    struct timespec time;

    if (clock_gettime((clockid_t) (~(unsigned) id << 3 | 6), &time) < 0)
        return UINT64_MAX; /* it has ended */
    return (uint64_t) time.tv_sec * FIN__NS_PER_S + (uint64_t) time.tv_nsec;
}

int fin__handed(int fd, uint64_t *bytes)
{
    struct tcp_info info = { 0 };
    socklen_t size = sizeof info;

    if (getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &size) < 0)
        return -errno;
    if (size < offsetof(struct tcp_info, tcpi_bytes_retrans) + sizeof info.tcpi_bytes_retrans)
        return -EOPNOTSUPP;
    *bytes = info.tcpi_bytes_sent - info.tcpi_bytes_retrans + info.tcpi_notsent_bytes;
    return 0;
}

uint64_t fin__taken(int fd)
{
    uint64_t bytes = 0;
    int64_t queued;

    if (fin__handed(fd, &bytes) == 0)
        return bytes;
    queued = fin__outstanding(fd);
    return queued < 0 ? 0 : (uint64_t) queued;
}

/* A Unix socket has no counter that only grows: what is read and what is sent may cancel out. */
static bool has_queue(int fd)
{
    int domain = 0;
    socklen_t size = sizeof domain;

    (void) getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &size);
    return domain == AF_UNIX || fin__outstanding(fd) > 0;
}

/* What was sent is read last: both may change while this thread does not run. */
static bool is_past(const struct fin__inside *in, const struct fin__thread *thread)
{
    uint64_t used = cpu_time(thread->id) - thread->cpu;

    if (used < PAST_NS || fin__taken(in->fd) != in->handed)
        return false;
    return used >= PAST_QUEUE_NS || !has_queue(in->fd);
}

static enum place place_of(const struct fin__inside *in, const struct fin__thread *thread,
                           uint64_t *bytes)
{
    struct call call = { 0 };
    int result = read_call(thread->id, &call);

    if (result < 0)
        return OUT;
    if (result > 0)
        return judge(&call, in->fd, bytes);
    return is_past(in, thread) ? OUT : UNKNOWN;
}

/* ---- all of them ---- */

static void list_others(struct fin__inside *in, struct fin__folder *tasks, size_t max)
{
    int32_t self = (int32_t) syscall(SYS_gettid), id;

    while (in->count < max && fin__folder_next(tasks, &id) > 0)
        if (id != self)
            in->threads[in->count++] = (struct fin__thread) { id, false, cpu_time(id) };
}

void fin__inside_begin(struct fin__inside *in, int fd)
{
    struct fin__folder tasks;
    struct stat st;
    size_t max;

    *in = (struct fin__inside) { .fd = fd };
    /* Two links are the folder's own. */
    if (stat("/proc/self/task", &st) < 0 || st.st_nlink < 4)
        return;
    if (fin__folder_open(&tasks, AT_FDCWD, "/proc/self/task") < 0)
        return;
    max = st.st_nlink + 16; /* threads are being made */
    in->threads = fin__alloc(max * sizeof *in->threads);
    in->handed = fin__taken(fd);
    if (in->threads)
        list_others(in, &tasks, max);
    fin__folder_close(&tasks);
    fin__inside_look(in);
}

void fin__inside_end(struct fin__inside *in)
{
    fin__free(in->threads);
    in->threads = NULL;
    in->count = 0;
}

static void count(struct fin__inside *in, struct fin__thread *thread)
{
    uint64_t bytes = 0;

    switch (place_of(in, thread, &bytes)) {
    case OUT:
        thread->out = true;
        break;
    case UNKNOWN:
        in->unknown++;
        break;
    case RECEIVING:
        in->receiving++;
        break;
    case STRANDED:
        in->stranded++;
        __attribute__((fallthrough));
    case SENDING:
        in->sending++;
        in->unsent += bytes ? bytes : 1;
        break;
    }
}

void fin__inside_look(struct fin__inside *in)
{
    uint64_t now = in->count ? fin__taken(in->fd) : 0;
    bool sent = now != in->handed;

    in->handed = now;
    in->receiving = in->sending = in->stranded = in->unknown = 0;
    in->unsent = 0;
    for (size_t i = 0; in->threads && i < in->count; i++) {
        struct fin__thread *thread = &in->threads[i];

        if (sent && !thread->out)
            thread->cpu = cpu_time(thread->id);
        if (!thread->out)
            count(in, thread);
    }
}

void fin__inside_pause(uint64_t *pause)
{
    struct timespec span;

    *pause = *pause ? *pause * 2 : PAUSE_NS;
    if (*pause > PAUSE_MAX_NS)
        *pause = PAUSE_MAX_NS;
    span = (struct timespec) { 0, (long) *pause };
    (void) nanosleep(&span, NULL);
}

void fin__inside_settle(struct fin__inside *in, uint64_t span)
{
    uint64_t end = fin__now() + span, pause = 0;

    fin__inside_look(in);
    while (in->unknown && fin__now() < end) {
        fin__inside_pause(&pause);
        fin__inside_look(in);
    }
}
