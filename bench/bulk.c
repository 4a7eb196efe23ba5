/* SPDX-License-Identifier: MIT */

/* A program that moves much through one connection over TCP on 127.0.0.1; writer and reader have a
 * processor each, since where they happen to run makes a difference of a third.
 *
 * usage: bulk MEBIBYTES     (prints how many seconds it took) */

#include <netinet/in.h>
#include <pthread.h>
#include <sched.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define PIECE 65536

static int must(int result, const char *what)
{
    if (result >= 0)
        return result;
    perror(what);
    exit(1);
}

static void connect_pair(int ends[2])
{
    struct sockaddr_in address = { .sin_family = AF_INET };
    socklen_t size = sizeof address;
    int listener = must(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), "socket");

    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    must(bind(listener, (struct sockaddr *) &address, size), "bind");
    must(listen(listener, 1), "listen");
    must(getsockname(listener, (struct sockaddr *) &address, &size), "getsockname");
    ends[0] = must(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), "socket");
    must(connect(ends[0], (struct sockaddr *) &address, size), "connect");
    ends[1] = must(accept4(listener, NULL, NULL, SOCK_CLOEXEC), "accept4");
    close(listener);
}

/* The first or the last of those that we may use. */
static void stay_on(bool last)
{
    cpu_set_t allowed, one;
    unsigned cpu = last ? CPU_SETSIZE - 1 : 0;

    must(sched_getaffinity(0, sizeof allowed, &allowed), "sched_getaffinity");
    while (!CPU_ISSET(cpu, &allowed))
        cpu = last ? cpu - 1 : cpu + 1;
    CPU_ZERO(&one);
    CPU_SET(cpu, &one);
    must(sched_setaffinity(0, sizeof one, &one), "sched_setaffinity");
}

static void *read_all(void *arg)
{
    static char piece[PIECE];
    ssize_t n;

    stay_on(true);
    do
        n = read(*(int *) arg, piece, sizeof piece);
    while (n > 0);
    return NULL;
}

static void write_all(int fd, size_t left)
{
    static char piece[PIECE];

    while (left > 0)
        left -= (size_t) must((int) write(fd, piece, left < PIECE ? left : PIECE), "write");
    close(fd);
}

static double seconds(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double) t.tv_sec + (double) t.tv_nsec / 1e9;
}

int main(int argc, char **argv)
{
    pthread_t reader;
    double began;
    int ends[2];

    connect_pair(ends);
    began = seconds();
    pthread_create(&reader, NULL, read_all, &ends[1]);
    stay_on(false);
    write_all(ends[0], (argc > 1 ? (size_t) atoi(argv[1]) : 1024) << 20);
    pthread_join(reader, NULL);
    close(ends[1]);
    printf("%.6f\n", seconds() - began);
    return 0;
}
