/* SPDX-License-Identifier: MIT */

/* Does one thing with sockets, to be traced.  usage: traced THING */

#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

/* Longer than what the trace takes for a close that is not worth a word. */
#define LONG_MS 500

static int must(int result)
{
    if (result < 0) {
        perror("traced");
        exit(99);
    }
    return result;
}

/* Their names are looked for in stacks. */
__attribute__((noinline)) static int make_one(void)
{
    int fd = must(socket(AF_INET, SOCK_STREAM, 0));

    __asm__ volatile("" ::: "memory");
    return fd;
}

__attribute__((noinline)) static int close_one(int fd)
{
    int result = must(close(fd));

    __asm__ volatile("" ::: "memory");
    return result;
}

static void linger(void)
{
    poll(NULL, 0, LONG_MS);
}

static void wait_for(pid_t child)
{
    int status;

    must(waitpid(child, &status, 0));
    if (status)
        exit(98);
}

static int plain(void)
{
    return close_one(make_one());
}

static int copies(void)
{
    int a = make_one(), b = must(dup(a)), c = must(fcntl(a, F_DUPFD_CLOEXEC, 100));

    must(dup2(a, 200));
    must(dup3(a, b, O_CLOEXEC)); /* closes b on the way */
    close_one(a);
    close_one(b);
    close_one(c);
    return close_one(200);
}

static int left_open(void)
{
    make_one();
    return 0;
}

static int killed(void)
{
    make_one();
    return raise(SIGKILL);
}

/* A child that inherits it and does not close it. */
static int held_by_child(void)
{
    int fd = make_one();
    pid_t child = must(fork());

    if (child == 0) {
        linger();
        _exit(0);
    }
    close_one(fd);
    wait_for(child);
    return 0;
}

/* Closing is the child's business: nobody is left behind. */
static int handed_to_child(void)
{
    int fd = make_one();
    pid_t child = must(fork());

    if (child == 0) {
        linger();
        _exit(close_one(fd));
    }
    close_one(fd);
    wait_for(child);
    return 0;
}

static int left_in_epoll(void)
{
    int set = must(epoll_create1(EPOLL_CLOEXEC)), fd = make_one();
    struct epoll_event event = { .events = EPOLLIN };
    pid_t child;

    must(epoll_ctl(set, EPOLL_CTL_ADD, fd, &event));
    must(epoll_ctl(set, EPOLL_CTL_ADD, fd, &event) < 0 ? 0 : -1);
    child = must(fork());
    if (child == 0) {
        linger();
        _exit(close_one(fd));
    }
    close_one(fd);
    wait_for(child);
    return 0;
}

static int unregistered(void)
{
    int set = must(epoll_create1(EPOLL_CLOEXEC)), fd = make_one();
    struct epoll_event event = { .events = EPOLLIN };

    must(epoll_ctl(set, EPOLL_CTL_ADD, fd, &event));
    must(epoll_ctl(set, EPOLL_CTL_MOD, fd, &event));
    must(epoll_ctl(set, EPOLL_CTL_DEL, fd, NULL));
    close_one(fd);
    return close(set);
}

static int runs_true(void)
{
    return execlp("true", "true", NULL);
}

static int through_exec(void)
{
    make_one();
    must(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    return runs_true();
}

static int by_vfork(void)
{
    int fd = make_one();
    pid_t child = vfork(); // NOLINT

    if (child == 0) {
        execlp("true", "true", NULL);
        _exit(95);
    }
    wait_for(must(child));
    return close_one(fd);
}

/* ---- threads ---- */

static void *exec_here(void *arg)
{
    (void) arg;
    exit(runs_true());
}

static int exec_in_thread(void)
{
    pthread_t thread;

    must(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    must(-pthread_create(&thread, NULL, exec_here, NULL));
    pause();
    return 97;
}

static void *close_later(void *arg)
{
    linger();
    close_one(*(int *) arg);
    return NULL;
}

static int leader_ends(void)
{
    static int fd;
    pthread_t thread;

    fd = make_one();
    must(-pthread_create(&thread, NULL, close_later, &fd));
    pthread_exit(NULL);
}

static void *close_own(void *arg)
{
    must(unshare(CLONE_FILES));
    close_one(*(int *) arg);
    return NULL;
}

static int own_table(void)
{
    int fd = make_one();
    pthread_t thread;

    must(-pthread_create(&thread, NULL, close_own, &fd));
    pthread_join(thread, NULL);
    return close_one(fd);
}

#define THREADS 4
static pthread_barrier_t barrier;

static void *make_wait_close(void *arg)
{
    int fd = make_one();

    pthread_barrier_wait(&barrier);
    pthread_barrier_wait(&barrier);
    close_one(fd);
    plain();
    return arg;
}

static int threads(void)
{
    pthread_t thread[THREADS];
    int i;

    pthread_barrier_init(&barrier, NULL, THREADS + 1);
    for (i = 0; i < THREADS; i++)
        must(-pthread_create(&thread[i], NULL, make_wait_close, NULL));
    pthread_barrier_wait(&barrier);
    puts("ready");
    fflush(stdout);
    getchar();
    pthread_barrier_wait(&barrier);
    for (i = 0; i < THREADS; i++)
        pthread_join(thread[i], NULL);
    return 0;
}

/* ---- the rarer ways ---- */

static atomic_bool enough;

static void *keep_busy(void *arg)
{
    while (!atomic_load(&enough))
        must(close(must(dup(*(int *) arg))));
    return NULL;
}

static void *make_close(void *arg)
{
    must(close(make_one()));
    return arg;
}

/* Who was born last is reported first: the parent is heard of when its child has long ended. */
static int births(void)
{
    enum {
        BUSY = 6,
        BIRTHS = 12
    };
    pthread_t busy[BUSY], thread;
    int fd = make_one();

    for (int i = 0; i < BUSY; i++)
        must(-pthread_create(&busy[i], NULL, keep_busy, &fd));
    for (int i = 0; i < BIRTHS; i++) {
        must(-pthread_create(&thread, NULL, make_close, NULL));
        pthread_join(thread, NULL);
    }
    atomic_store(&enough, true);
    for (int i = 0; i < BUSY; i++)
        pthread_join(busy[i], NULL);
    return close(fd);
}

static int range(void)
{
    int a = make_one(), b = make_one();

    must(a + 1 == b ? 0 : -1);
    return must((int) syscall(SYS_close_range, a, b, 0));
}

static void pass(int over, int fd)
{
    char byte = 0;
    _Alignas(struct cmsghdr) char room[CMSG_SPACE(sizeof fd)] = { 0 };
    struct iovec data = { &byte, 1 };
    struct msghdr message = { .msg_iov = &data, .msg_iovlen = 1 };
    struct cmsghdr *header = (struct cmsghdr *) room;

    message.msg_control = room;
    message.msg_controllen = sizeof room;
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(sizeof fd);
    memcpy(CMSG_DATA(header), &fd, sizeof fd);
    must((int) sendmsg(over, &message, 0));
}

static int take(int over)
{
    _Alignas(struct cmsghdr) char room[CMSG_SPACE(sizeof(int))] = { 0 };
    char byte;
    struct iovec data = { &byte, 1 };
    struct msghdr message = { .msg_iov = &data, .msg_iovlen = 1 };
    int fd;

    message.msg_control = room;
    message.msg_controllen = sizeof room;
    must((int) recvmsg(over, &message, 0));
    memcpy(&fd, CMSG_DATA((struct cmsghdr *) room), sizeof fd);
    return fd;
}

/* Closed while it is in flight: nobody has it, and it lives. */
static int in_flight(void)
{
    int pair[2], fd;

    must(socketpair(AF_UNIX, SOCK_STREAM, 0, pair));
    fd = make_one();
    pass(pair[0], fd);
    close_one(fd);
    linger();
    close_one(take(pair[1]));
    close_one(pair[0]);
    return close_one(pair[1]);
}

/* A sandbox of its own, on top of the trace's. */
static int own_filter(void)
{
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_socket, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EACCES),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = { 4, code };
    int fd = make_one();

    must(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
    must(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program));
    must(socket(AF_INET, SOCK_STREAM, 0) < 0 && errno == EACCES ? 0 : -1);
    return close_one(fd);
}

static int ring(void)
{
    (void) syscall(SYS_io_uring_setup, 0, NULL);
    return 0;
}

static volatile sig_atomic_t signals;

static void count(int signal)
{
    (void) signal;
    signals++;
}

static int signalled(void)
{
    struct sigaction action = { .sa_handler = count };
    int fd = make_one(), i;

    must(sigaction(SIGUSR1, &action, NULL));
    for (i = 0; i < 100; i++)
        must(raise(SIGUSR1));
    must(signals == 100 ? 0 : -1);
    return close_one(fd);
}

static int strange_name(void)
{
    must(prctl(PR_SET_NAME, "\033[31m\n\"<b>"));
    linger(); /* names are asked for anew only now and then */
    return plain();
}

/* For each line read: a socket is made and closed; "sockets work" is the answer. */
static int on_demand(void)
{
    char line[16];
    int fd = make_one();

    puts("ready");
    fflush(stdout);
    while (fgets(line, sizeof line, stdin)) {
        pid_t child = must(fork());

        if (child == 0)
            _exit(plain());
        wait_for(child);
        plain();
        puts("sockets work");
        fflush(stdout);
    }
    return close_one(fd);
}

#ifdef __x86_64__
/* read(2) as i386 numbers it, which is close(2) to x86-64. */
static long read_i386(int fd, void *low, long size)
{
    long result;

    __asm__ volatile("int $0x80"
                     : "=a"(result)
                     : "a"(3), "b"(fd), "c"(low), "d"(size)
                     : "memory", "r8", "r9", "r10", "r11");
    return result;
}

/* The kernel answers ENOSYS where it has no x32. */
static void shutdown_x32(int fd)
{
    (void) syscall(0x40000000 | SYS_shutdown, fd, SHUT_RDWR);
}
#else
static long read_i386(int fd, void *low, long size)
{
    return read(fd, low, (size_t) size);
}

static void shutdown_x32(int fd)
{
    (void) fd;
}
#endif

/* A filter that refuses close(2): it says so, and closes nothing. */
static int refused_close(void)
{
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_close, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = { 4, code };

    puts("ready");
    fflush(stdout);
    if (getchar() != 'x')
        return 97;
    must(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
    must(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program));
    return close(make_one()) < 0 && errno == EPERM ? 0 : 94;
}

static int foreign_calls(void)
{
    char *low = mmap((void *) 0x10000000, 4096, PROT_READ | PROT_WRITE, // NOLINT
                     MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    int pair[2];

    if (low == MAP_FAILED || (uintptr_t) low >> 32)
        return 98;
    puts("ready");
    fflush(stdout);
    if (getchar() != 'x')
        return 97;
    must(socketpair(AF_UNIX, SOCK_STREAM, 0, pair));
    must((int) write(pair[1], "hello", 5));
    if (read_i386(pair[0], low, 5) != 5 || memcmp(low, "hello", 5) != 0)
        return 95;
    shutdown_x32(pair[0]);
    linger();
    close_one(pair[0]);
    close_one(pair[1]);
    return 0;
}

static const struct {
    const char *name;
    int (*run)(void);
} things[] = {
    { "plain", plain },
    { "copies", copies },
    { "left_open", left_open },
    { "killed", killed },
    { "held_by_child", held_by_child },
    { "handed_to_child", handed_to_child },
    { "left_in_epoll", left_in_epoll },
    { "unregistered", unregistered },
    { "through_exec", through_exec },
    { "by_vfork", by_vfork },
    { "exec_in_thread", exec_in_thread },
    { "leader_ends", leader_ends },
    { "own_table", own_table },
    { "threads", threads },
    { "births", births },
    { "range", range },
    { "in_flight", in_flight },
    { "own_filter", own_filter },
    { "ring", ring },
    { "signalled", signalled },
    { "strange_name", strange_name },
    { "on_demand", on_demand },
    { "foreign_calls", foreign_calls },
    { "refused_close", refused_close },
};

int main(int argc, char **argv)
{
    size_t i;

    for (i = 0; argc > 1 && i < sizeof things / sizeof *things; i++)
        if (strcmp(argv[1], things[i].name) == 0)
            return things[i].run();
    return 96;
}
