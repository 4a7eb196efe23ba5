/* SPDX-License-Identifier: MIT */

/* usage: epoll PORT COUNT: opens COUNT connections to 127.0.0.1:PORT, closes them all at once
 * from a plain epoll loop, shows the receipts. Exit status: 0 all graceful, 1 not all, 2 trouble.
 *
 * To copy: closed(), watch(), serve(), and the submit in main(). */

#include <arpa/inet.h>
#include <errno.h>
#include <finack.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

struct tally {
    int left, bad;
};

static void die(const char *what, int error)
{
    fprintf(stderr, "%s: %s\n", what, strerror(error));
    exit(2);
}

static int dial(int port)
{
    struct sockaddr_in to = { AF_INET, htons((uint16_t) port), { htonl(INADDR_LOOPBACK) }, { 0 } };
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    if (fd < 0 || connect(fd, (struct sockaddr *) &to, sizeof to) < 0)
        die("connect", errno);
    return fd;
}

static void closed(const struct fin_receipt *receipt, void *arg)
{
    struct tally *tally = arg;
    char line[400];

    fin_receipt_format(receipt, line, sizeof line);
    puts(line);
    tally->bad += receipt->outcome != FIN_OUTCOME_GRACEFUL;
    tally->left--;
}

static void watch(int set, struct fin_closer *closer)
{
    struct epoll_event entry = { .events = EPOLLIN, .data.ptr = closer };

    if (epoll_ctl(set, EPOLL_CTL_ADD, fin_closer_fd(closer), &entry) < 0)
        die("epoll_ctl", errno);
}

/* One turn of the loop; other descriptors of the program would be served here too. */
static void serve(int set, struct fin_closer *closer)
{
    struct epoll_event events[16];
    int n = epoll_wait(set, events, 16, -1), result = 0;

    if (n < 0 && errno != EINTR)
        die("epoll_wait", errno);
    for (int i = 0; i < n; i++)
        if (events[i].data.ptr == closer)
            result = fin_closer_dispatch(closer);
    if (result < 0)
        die("fin_closer_dispatch", -result);
}

int main(int argc, char **argv)
{
    struct tally tally = { 0, 0 };
    struct fin_policy policy = FIN_POLICY_INIT;
    struct fin_closer *closer;
    int set, result;

    if (argc != 3) {
        fprintf(stderr, "usage: epoll PORT COUNT\n");
        return 2;
    }
    set = epoll_create1(EPOLL_CLOEXEC);
    result = fin_closer_new(NULL, &closer);
    if (set < 0 || result < 0)
        die("epoll_create1, fin_closer_new", result < 0 ? -result : errno);
    watch(set, closer);
    for (; tally.left < atoi(argv[2]); tally.left++) {
        result = fin_closer_submit(closer, dial(atoi(argv[1])), &policy, closed, &tally, NULL);
        if (result < 0) /* the descriptor is still ours: fin_close() would be the way out */
            die("fin_closer_submit", -result);
    }
    while (tally.left > 0)
        serve(set, closer);
    fin_closer_free(closer);
    close(set);
    return tally.bad > 0;
}
