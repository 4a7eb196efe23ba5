/* SPDX-License-Identifier: MIT */

/* usage: io_uring PORT COUNT: opens COUNT connections to 127.0.0.1:PORT, closes them all at once
 * from a loop over io_uring (liburing), shows the receipts. Exit status: 0 all graceful, 1 not all,
 * 2 trouble.
 *
 * To copy: closed(), watch(), serve(), and the submit in main(). What the program itself has in
 * flight on a socket must be cancelled, and its completion seen, before the socket is submitted:
 * the ring holds it, and no search shows that. */

#include <arpa/inet.h>
#include <errno.h>
#include <finack.h>
#include <liburing.h>
#include <poll.h>
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

/* For one completion. A poll that goes on by itself (multishot) tells edges alone, and a dispatch
 * may leave something for the next turn. */
static void watch(struct io_uring *ring, struct fin_closer *closer)
{
    struct io_uring_sqe *entry = io_uring_get_sqe(ring);

    if (!entry) /* the queue is full: io_uring_submit() makes room */
        die("io_uring_get_sqe", EBUSY);
    io_uring_prep_poll_add(entry, fin_closer_fd(closer), POLLIN);
    io_uring_sqe_set_data(entry, closer);
}

/* One turn of the loop; other completions of the program would be served here too. */
static void serve(struct io_uring *ring, struct fin_closer *closer)
{
    struct io_uring_cqe *completion;
    int result = io_uring_submit_and_wait(ring, 1);

    if (result < 0 && result != -EINTR)
        die("io_uring_submit_and_wait", -result);
    while (io_uring_peek_cqe(ring, &completion) == 0) {
        void *whose = io_uring_cqe_get_data(completion);

        result = completion->res;
        io_uring_cqe_seen(ring, completion);
        if (whose != closer)
            continue;
        if (result >= 0)
            result = fin_closer_dispatch(closer);
        if (result < 0)
            die("fin_closer_dispatch", -result);
        watch(ring, closer);
    }
}

int main(int argc, char **argv)
{
    struct tally tally = { 0, 0 };
    struct fin_policy policy = FIN_POLICY_INIT;
    struct fin_closer *closer;
    struct io_uring ring;
    int result;

    if (argc != 3) {
        fprintf(stderr, "usage: io_uring PORT COUNT\n");
        return 2;
    }
    result = io_uring_queue_init(16, &ring, 0);
    if (result < 0)
        die("io_uring_queue_init", -result);
    result = fin_closer_new(NULL, &closer);
    if (result < 0)
        die("fin_closer_new", -result);
    watch(&ring, closer);
    for (; tally.left < atoi(argv[2]); tally.left++) {
        result = fin_closer_submit(closer, dial(atoi(argv[1])), &policy, closed, &tally, NULL);
        if (result < 0) /* the descriptor is still ours: fin_close() would be the way out */
            die("fin_closer_submit", -result);
    }
    while (tally.left > 0)
        serve(&ring, closer);
    io_uring_queue_exit(&ring); /* before the closer: its descriptor is watched by the ring */
    fin_closer_free(closer);
    return tally.bad > 0;
}
