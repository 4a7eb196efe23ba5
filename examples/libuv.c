/* SPDX-License-Identifier: MIT */

/* usage: libuv PORT COUNT: opens COUNT connections to 127.0.0.1:PORT, closes them all at once
 * from a libuv loop, shows the receipts. Exit status: 0 all graceful, 1 not all, 2 trouble.
 *
 * To copy: closed(), on_readable(), watch(), and the submit in main(). */

#include <arpa/inet.h>
#include <errno.h>
#include <finack.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <uv.h>

struct tally {
    int left, bad;
};

static void die(const char *what, const char *why)
{
    fprintf(stderr, "%s: %s\n", what, why);
    exit(2);
}

static int dial(int port)
{
    struct sockaddr_in to = { AF_INET, htons((uint16_t) port), { htonl(INADDR_LOOPBACK) }, { 0 } };
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    if (fd < 0 || connect(fd, (struct sockaddr *) &to, sizeof to) < 0)
        die("connect", strerror(errno));
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

static void on_readable(uv_poll_t *poll, int status, int events)
{
    int result = status < 0 ? status : fin_closer_dispatch(poll->data);

    (void) events;
    if (result < 0)
        die("fin_closer_dispatch", uv_strerror(result));
}

static void watch(uv_loop_t *loop, uv_poll_t *poll, struct fin_closer *closer)
{
    int result = uv_poll_init(loop, poll, fin_closer_fd(closer));

    poll->data = closer;
    if (result == 0)
        result = uv_poll_start(poll, UV_READABLE, on_readable);
    if (result < 0)
        die("uv_poll", uv_strerror(result));
}

int main(int argc, char **argv)
{
    struct tally tally = { 0, 0 };
    struct fin_policy policy = FIN_POLICY_INIT;
    uv_loop_t *loop = uv_default_loop();
    struct fin_closer *closer;
    uv_poll_t poll;
    int result;

    if (argc != 3) {
        fprintf(stderr, "usage: libuv PORT COUNT\n");
        return 2;
    }
    result = fin_closer_new(NULL, &closer);
    if (!loop || result < 0)
        die("fin_closer_new", strerror(-result));
    watch(loop, &poll, closer);
    for (; tally.left < atoi(argv[2]); tally.left++) {
        result = fin_closer_submit(closer, dial(atoi(argv[1])), &policy, closed, &tally, NULL);
        if (result < 0) /* the descriptor is still ours: fin_close() would be the way out */
            die("fin_closer_submit", strerror(-result));
    }
    while (tally.left > 0)
        uv_run(loop, UV_RUN_ONCE);
    uv_close((uv_handle_t *) &poll, NULL); /* first, then the closer: its descriptor is watched */
    uv_run(loop, UV_RUN_DEFAULT);
    fin_closer_free(closer);
    uv_loop_close(loop);
    return tally.bad > 0;
}
