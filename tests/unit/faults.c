/* SPDX-License-Identifier: MIT */

#include "faults.h"

#include <errno.h>
#include <fcntl.h>
#include <libmnl/libmnl.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

/* EBADF, EFAULT and EINVAL would be bugs of ours, but for poll(2): RLIMIT_NOFILE may be 0.
 * accept(2), close(2), epoll_ctl(2), socket(7)... */
const struct call calls[] = {
    { "close", { EINTR, EIO, ENOSPC } },
    { "shutdown", { EIO, ENOMEM, EPERM } },
    { "getsockopt", { EIO, ENOMEM, EPERM } },
    { "setsockopt", { ENOMEM, EPERM, ENOPROTOOPT } },
    { "getpeername", { ENOBUFS, EPERM } },
    { "getsockname", { ENOBUFS, EPERM } },
    { "connect", { EINTR, EBUSY, EPERM, EIO } },
    { "accept4", { EINTR, ECONNABORTED, EMFILE, ENOMEM, EPERM } },
    { "recv", { EINTR, EIO, ENOMEM, EPERM } },
    { "recvmsg", { EINTR, EIO, ENOMEM, EPERM } },
    { "ioctl", { EIO, EPERM } },
    { "epoll_create1", { EMFILE, ENFILE, ENOMEM, EPERM } },
    { "epoll_ctl", { ENOSPC, ENOMEM, EPERM } },
    { "epoll_wait", { EINTR, EPERM } },
    { "poll", { EINTR, EINVAL, ENOMEM } },
    { "ppoll", { EINTR, EINVAL, ENOMEM } },
    { "open", { ENOENT, EACCES, EMFILE, ENOMEM } },
    { "pread", { EINTR, EIO, ENOENT, EPERM } },
    { "fstat", { EIO, ENOMEM, EPERM } },
    { "mmap", { ENOMEM } },
    { "madvise", { EINVAL, ENOMEM } },
    { "mnl_socket_open2", { EMFILE, ENOMEM, EPROTONOSUPPORT, EPERM } },
    { "mnl_socket_bind", { ENOMEM, EPERM } },
    { "mnl_socket_sendto", { EINTR, ENOBUFS, EPERM } },
    { "mnl_socket_recvfrom", { EINTR, EAGAIN, ENOBUFS, EIO } },
};
const int calls_count = sizeof calls / sizeof *calls;

const struct fault lasting_answers[] = {
    { .result = 0, .lasting = true, .from = 1 },
    { .result = 1, .events = POLLIN, .lasting = true, .from = 1 },
    { .result = 1, .events = POLLERR, .lasting = true, .from = 1 },
    { .error = EAGAIN, .lasting = true, .from = 1 },
    { .error = EINTR, .lasting = true, .from = 1 },
};
const size_t lasting_count = sizeof lasting_answers / sizeof *lasting_answers;

#define CLOSED_MAX 64
#define SOON_S 5

static __thread struct {
    const struct fault *fault;
    int seen, failed;
    struct {
        int fd;
        uint64_t inode;
    } closed[CLOSED_MAX];
    int closed_count;
    int strays;
    epoll_data_t watched; /* of the last entry made, for epoll_wait(2) to answer with */
} now;

static _Atomic(const struct fault *) of_helpers;

void fault_arm(const struct fault *fault)
{
    atomic_store(&of_helpers, strcmp(fault->call, "unshare") == 0 ? fault : NULL);
    memset(&now, 0, sizeof now);
    now.fault = fault;
}

int fault_disarm(void)
{
    now.fault = NULL;
    atomic_store(&of_helpers, NULL);
    return now.failed;
}

int closes_of(int fd, uint64_t inode)
{
    int count = 0;

    for (int i = 0; i < now.closed_count; i++)
        count += now.closed[i].fd == fd && now.closed[i].inode == inode;
    return count;
}

int stray_closes(void)
{
    return now.strays;
}

static bool is_named(const char *names, const char *call)
{
    size_t length = strlen(call);
    const char *at = names;

    while ((at = strstr(at, call))) {
        if ((at == names || at[-1] == '+') && (at[length] == '\0' || at[length] == '+'))
            return true;
        at += length;
    }
    return false;
}

static bool fails(const char *call)
{
    const struct fault *f = now.fault;

    if (!f || !is_named(f->call, call))
        return false;
    now.seen++;
    if (f->lasting ? now.seen < f->from : now.seen != f->from)
        return false;
    now.failed++;
    if (f->slow_ms) {
        (void) nanosleep(&(struct timespec) { 0, f->slow_ms * 1000000l }, NULL);
        if (!f->result)
            return false;
    }
    errno = f->error ? f->error : errno;
    return true;
}

/* What a call that fails gives. */
static int answer(int failure)
{
    errno = now.fault->error;
    return now.fault->error ? failure : now.fault->result;
}

#define WRAP(type, name, parameters, arguments, failure)                                           \
    type __real_##name parameters;                                                                 \
    type __wrap_##name parameters;                                                                 \
    type __wrap_##name parameters                                                                  \
    {                                                                                              \
        return fails(#name) ? (type) answer(failure) : __real_##name arguments;                    \
    }

#define WRAP_POINTER(type, name, parameters, arguments)                                            \
    type __real_##name parameters;                                                                 \
    type __wrap_##name parameters;                                                                 \
    type __wrap_##name parameters                                                                  \
    {                                                                                              \
        return fails(#name) ? NULL : __real_##name arguments;                                      \
    }

/* clang-format off */
WRAP(int, shutdown, (int fd, int how), (fd, how), -1)
WRAP(int, getsockopt, (int fd, int level, int name, void *value, socklen_t *size),
     (fd, level, name, value, size), -1)
WRAP(int, setsockopt, (int fd, int level, int name, const void *value, socklen_t size),
     (fd, level, name, value, size), -1)
WRAP(int, getpeername, (int fd, struct sockaddr *to, socklen_t *size), (fd, to, size), -1)
WRAP(int, getsockname, (int fd, struct sockaddr *to, socklen_t *size), (fd, to, size), -1)
WRAP(int, connect, (int fd, const struct sockaddr *to, socklen_t size), (fd, to, size), -1)
WRAP(int, accept4, (int fd, struct sockaddr *from, socklen_t *size, int flags),
     (fd, from, size, flags), -1)
WRAP(ssize_t, recv, (int fd, void *buf, size_t size, int flags), (fd, buf, size, flags), -1)
WRAP(ssize_t, recvmsg, (int fd, struct msghdr *message, int flags), (fd, message, flags), -1)
WRAP(ssize_t, readlinkat, (int folder, const char *path, char *buf, size_t size),
     (folder, path, buf, size), -1)
WRAP(int, access, (const char *path, int mode), (path, mode), -1)
WRAP(int, eventfd, (unsigned count, int flags), (count, flags), -1)
WRAP(int, epoll_create1, (int flags), (flags), -1)
WRAP(ssize_t, read, (int fd, void *buf, size_t size), (fd, buf, size), -1)
WRAP(ssize_t, send, (int fd, const void *buf, size_t size, int flags), (fd, buf, size, flags), -1)
WRAP(int, madvise, (void *start, size_t size, int advice), (start, size, advice), -1)
WRAP_POINTER(struct mnl_socket *, mnl_socket_open2, (int bus, int flags), (bus, flags))
WRAP(int, mnl_socket_bind, (struct mnl_socket *s, unsigned groups, pid_t pid), (s, groups, pid), -1)
WRAP(ssize_t, mnl_socket_sendto, (const struct mnl_socket *s, const void *buf, size_t size),
     (s, buf, size), -1)
WRAP(ssize_t, mnl_socket_recvfrom, (const struct mnl_socket *s, void *buf, size_t size),
     (s, buf, size), -1)
/* clang-format on */

/* These go by two names, with _FILE_OFFSET_BITS=64 and without. */
#define WRAP_BOTH(type, call, name, parameters, arguments, failure)                                \
    type __real_##name parameters;                                                                 \
    type __wrap_##name parameters;                                                                 \
    type __wrap_##name parameters                                                                  \
    {                                                                                              \
        return fails(call) ? failure : __real_##name arguments;                                    \
    }

/* clang-format off */
WRAP_BOTH(ssize_t, "pread", pread, (int fd, void *buf, size_t size, off_t at),
          (fd, buf, size, at), -1)
WRAP_BOTH(ssize_t, "pread", pread64, (int fd, void *buf, size_t size, off_t at),
          (fd, buf, size, at), -1)
WRAP_BOTH(int, "fstat", fstat, (int fd, struct stat *st), (fd, st), -1)
WRAP_BOTH(int, "fstat", fstat64, (int fd, struct stat *st), (fd, st), -1)
WRAP_BOTH(void *, "mmap", mmap, (void *at, size_t size, int prot, int flags, int fd, off_t offset),
          (at, size, prot, flags, fd, offset), MAP_FAILED)
WRAP_BOTH(void *, "mmap", mmap64,
          (void *at, size_t size, int prot, int flags, int fd, off_t offset),
          (at, size, prot, flags, fd, offset), MAP_FAILED)
/* clang-format on */

int __real_epoll_ctl(int set, int op, int fd, struct epoll_event *event);
int __wrap_epoll_ctl(int set, int op, int fd, struct epoll_event *event);
int __real_epoll_wait(int set, struct epoll_event *events, int max, int timeout);
int __wrap_epoll_wait(int set, struct epoll_event *events, int max, int timeout);
int __real_poll(struct pollfd *fds, nfds_t count, int timeout);
int __wrap_poll(struct pollfd *fds, nfds_t count, int timeout);
int __real_ppoll(struct pollfd *fds, nfds_t count, const struct timespec *timeout,
                 const sigset_t *mask);
int __wrap_ppoll(struct pollfd *fds, nfds_t count, const struct timespec *timeout,
                 const sigset_t *mask);

int __wrap_epoll_ctl(int set, int op, int fd, struct epoll_event *event)
{
    if (op == EPOLL_CTL_ADD)
        now.watched = event->data;
    return fails("epoll_ctl") ? answer(-1) : __real_epoll_ctl(set, op, fd, event);
}

int __wrap_epoll_wait(int set, struct epoll_event *events, int max, int timeout)
{
    if (!fails("epoll_wait"))
        return __real_epoll_wait(set, events, max, timeout);
    *events = (struct epoll_event) { .events = (uint32_t) now.fault->events, .data = now.watched };
    return answer(-1);
}

/* The last descriptor is the one that matters: before it is what wakes the call. */
static int answer_poll(struct pollfd *fds, nfds_t count)
{
    for (nfds_t i = 0; i < count; i++)
        fds[i].revents = 0;
    if (count > 0 && now.fault->error == 0 && now.fault->result > 0)
        fds[count - 1].revents = now.fault->events;
    return answer(-1);
}

int __wrap_poll(struct pollfd *fds, nfds_t count, int timeout)
{
    return fails("poll") ? answer_poll(fds, count) : __real_poll(fds, count, timeout);
}

int __wrap_ppoll(struct pollfd *fds, nfds_t count, const struct timespec *timeout,
                 const sigset_t *mask)
{
    return fails("ppoll") ? answer_poll(fds, count) : __real_ppoll(fds, count, timeout, mask);
}

/* open(2) is variadic; the library creates no file, so that there is no mode. */
int __real_open(const char *path, int flags, ...);
int __real_open64(const char *path, int flags, ...);
int __wrap_open(const char *path, int flags, ...);
int __wrap_open64(const char *path, int flags, ...);

int __wrap_open(const char *path, int flags, ...)
{
    return fails("open") ? -1 : __real_open(path, flags);
}

int __wrap_open64(const char *path, int flags, ...)
{
    return fails("open") ? -1 : __real_open64(path, flags);
}

int __real_openat(int folder, const char *path, int flags, ...);
int __real_openat64(int folder, const char *path, int flags, ...);
int __wrap_openat(int folder, const char *path, int flags, ...);
int __wrap_openat64(int folder, const char *path, int flags, ...);

int __wrap_openat(int folder, const char *path, int flags, ...)
{
    return fails("openat") ? -1 : __real_openat(folder, path, flags);
}

int __wrap_openat64(int folder, const char *path, int flags, ...)
{
    return fails("openat") ? -1 : __real_openat64(folder, path, flags);
}

int __real_unshare(int flags);
int __wrap_unshare(int flags);

/* Made by a thread of the library's own, which meets no fault otherwise. */
int __wrap_unshare(int flags)
{
    const struct fault *f = atomic_load(&of_helpers);

    if (!f)
        return __real_unshare(flags);
    errno = f->error;
    return -1;
}

typedef void *thread_fn(void *arg);
int __real_pthread_create(pthread_t *thread, const pthread_attr_t *attributes, thread_fn *run,
                          void *arg);
int __wrap_pthread_create(pthread_t *thread, const pthread_attr_t *attributes, thread_fn *run,
                          void *arg);

int __wrap_pthread_create(pthread_t *thread, const pthread_attr_t *attributes, thread_fn *run,
                          void *arg)
{
    if (fails("pthread_create"))
        return now.fault->error;
    return __real_pthread_create(thread, attributes, run, arg);
}

int __real_ioctl(int fd, unsigned long request, void *arg);
int __wrap_ioctl(int fd, unsigned long request, void *arg);

int __wrap_ioctl(int fd, unsigned long request, void *arg)
{
    return fails("ioctl") ? -1 : __real_ioctl(fd, request, arg);
}

int __real_close(int fd);
int __wrap_close(int fd);

static void note_close(int fd)
{
    struct stat st;

    if (!now.fault)
        return;
    if (__real_fstat(fd, &st) < 0) {
        now.strays++;
    } else if (now.closed_count < CLOSED_MAX) {
        now.closed[now.closed_count].fd = fd;
        now.closed[now.closed_count++].inode = st.st_ino;
    }
}

/* Linux frees the number before anything can fail: so does this. */
int __wrap_close(int fd)
{
    int result;

    note_close(fd);
    result = __real_close(fd);
    return fails("close") ? -1 : result;
}

bool is_late(const struct timespec *since)
{
    struct timespec end;

    (void) clock_gettime(CLOCK_MONOTONIC, &end);
    return end.tv_sec - since->tv_sec > SOON_S;
}
