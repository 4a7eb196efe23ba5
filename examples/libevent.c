/* SPDX-License-Identifier: MIT */

/* usage: libevent PORT COUNT: opens COUNT connections to 127.0.0.1:PORT, closes them all at once
 * from a libevent loop, shows the receipts. Exit status: 0 all graceful, 1 not all, 2 trouble.
 *
 * To copy: closed(), on_readable(), watch(), and the submit in main(). */

#include <arpa/inet.h>
#include <errno.h>
#include <event2/event.h>
#include <finack.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

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

static void on_readable(evutil_socket_t fd, short events, void *arg)
{
    int result = fin_closer_dispatch(arg);

    (void) fd;
    (void) events;
    if (result < 0)
        die("fin_closer_dispatch", -result);
}

static struct event *watch(struct event_base *base, struct fin_closer *closer)
{
    struct event *event =
        event_new(base, fin_closer_fd(closer), EV_READ | EV_PERSIST, on_readable, closer);

    if (!event || event_add(event, NULL) < 0)
        die("event_add", errno);
    return event;
}

int main(int argc, char **argv)
{
    struct tally tally = { 0, 0 };
    struct fin_policy policy = FIN_POLICY_INIT;
    struct event_base *base;
    struct fin_closer *closer;
    struct event *event;
    int result;

    if (argc != 3) {
        fprintf(stderr, "usage: libevent PORT COUNT\n");
        return 2;
    }
    base = event_base_new();
    result = fin_closer_new(NULL, &closer);
    if (!base || result < 0)
        die("event_base_new, fin_closer_new", result < 0 ? -result : ENOMEM);
    event = watch(base, closer);
    for (; tally.left < atoi(argv[2]); tally.left++) {
        result = fin_closer_submit(closer, dial(atoi(argv[1])), &policy, closed, &tally, NULL);
        if (result < 0) /* the descriptor is still ours: fin_close() would be the way out */
            die("fin_closer_submit", -result);
    }
    while (tally.left > 0)
        if (event_base_loop(base, EVLOOP_ONCE) < 0)
            die("event_base_loop", errno);
    event_free(event); /* first, then the closer: its descriptor is watched */
    fin_closer_free(closer);
    event_base_free(base);
    return tally.bad > 0;
}
