/* SPDX-License-Identifier: MIT */

/* A program that does little but make and close connections: client and server threads over TCP on
 * 127.0.0.1, each connection with TCP_NODELAY, in an epoll set, with a byte each way, and a forked
 * child now and then.
 *
 * usage: churn CONNECTIONS [THREADS [FORKS]]     (prints how many seconds it took) */

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

struct line {
    pthread_t server, client;
    int listener, connections, forks;
    struct sockaddr_in address;
};

static int must(int result, const char *what)
{
    if (result >= 0)
        return result;
    perror(what);
    exit(1);
}

static int listen_on(struct sockaddr_in *address)
{
    int fd = must(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), "socket");
    socklen_t size = sizeof *address;

    *address = (struct sockaddr_in) { .sin_family = AF_INET };
    address->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    must(bind(fd, (struct sockaddr *) address, size), "bind");
    must(listen(fd, 128), "listen");
    must(getsockname(fd, (struct sockaddr *) address, &size), "getsockname");
    return fd;
}

static void wait_readable(int set)
{
    struct epoll_event event;

    while (epoll_wait(set, &event, 1, -1) < 0 && errno == EINTR)
        ;
}

/* A byte there, a byte back, the client's end, the server's end. */
static void talk(int set, int fd, int client)
{
    struct epoll_event event = { .events = EPOLLIN, .data.fd = fd };
    int on = 1;
    char byte = 'x';

    must(setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on), "setsockopt");
    must(epoll_ctl(set, EPOLL_CTL_ADD, fd, &event), "epoll_ctl");
    if (client)
        must((int) send(fd, &byte, 1, MSG_NOSIGNAL), "send");
    wait_readable(set);
    must((int) recv(fd, &byte, 1, 0), "recv");
    if (client)
        must(shutdown(fd, SHUT_WR), "shutdown");
    else
        must((int) send(fd, &byte, 1, MSG_NOSIGNAL), "send");
    wait_readable(set);
    must((int) recv(fd, &byte, 1, 0), "recv");
    must(epoll_ctl(set, EPOLL_CTL_DEL, fd, &event), "epoll_ctl");
    must(close(fd), "close");
}

static void *serve(void *arg)
{
    struct line *line = arg;
    int set = must(epoll_create1(EPOLL_CLOEXEC), "epoll_create1"), i;

    for (i = 0; i < line->connections; i++)
        talk(set, must(accept4(line->listener, NULL, NULL, SOCK_CLOEXEC), "accept4"), 0);
    close(set);
    return NULL;
}

static void fork_child(void)
{
    pid_t child = must(fork(), "fork");

    if (child == 0)
        _exit(0);
    must(waitpid(child, NULL, 0), "waitpid");
}

static void *dial(void *arg)
{
    struct line *line = arg;
    int set = must(epoll_create1(EPOLL_CLOEXEC), "epoll_create1"), i, fd;

    for (i = 0; i < line->connections; i++) {
        fd = must(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), "socket");
        must(connect(fd, (struct sockaddr *) &line->address, sizeof line->address), "connect");
        if (i < line->forks)
            fork_child();
        talk(set, fd, 1);
    }
    close(set);
    return NULL;
}

static double seconds(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double) t.tv_sec + (double) t.tv_nsec / 1e9;
}

int main(int argc, char **argv)
{
    int threads = argc > 2 ? atoi(argv[2]) : 1, i;
    struct line *lines = calloc((size_t) threads, sizeof *lines);
    double began = seconds();

    for (i = 0; lines && i < threads; i++) {
        lines[i].connections = argc > 1 ? atoi(argv[1]) / threads : 1000;
        lines[i].forks = argc > 3 ? atoi(argv[3]) : 0;
        lines[i].listener = listen_on(&lines[i].address);
        pthread_create(&lines[i].server, NULL, serve, &lines[i]);
        pthread_create(&lines[i].client, NULL, dial, &lines[i]);
    }
    for (i = 0; lines && i < threads; i++) {
        pthread_join(lines[i].server, NULL);
        pthread_join(lines[i].client, NULL);
        close(lines[i].listener);
    }
    free(lines);
    printf("%.6f\n", seconds() - began);
    return 0;
}
