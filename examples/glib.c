/* SPDX-License-Identifier: MIT */

/* usage: glib PORT COUNT: opens COUNT connections to 127.0.0.1:PORT, closes them all at once
 * from a GLib main loop, shows the receipts. Exit status: 0 all graceful, 1 not all, 2 trouble.
 *
 * To copy: closed(), on_readable(), and from main() the submit and g_unix_fd_add(). */

#include <arpa/inet.h>
#include <errno.h>
#include <finack.h>
#include <glib-unix.h>
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

static gboolean on_readable(gint fd, GIOCondition condition, gpointer closer)
{
    int result = fin_closer_dispatch(closer);

    (void) fd;
    (void) condition;
    if (result < 0)
        die("fin_closer_dispatch", -result);
    return G_SOURCE_CONTINUE;
}

int main(int argc, char **argv)
{
    struct tally tally = { 0, 0 };
    struct fin_policy policy = FIN_POLICY_INIT;
    struct fin_closer *closer;
    int result;
    guint source;

    if (argc != 3) {
        fprintf(stderr, "usage: glib PORT COUNT\n");
        return 2;
    }
    result = fin_closer_new(NULL, &closer);
    if (result < 0)
        die("fin_closer_new", -result);
    source = g_unix_fd_add(fin_closer_fd(closer), G_IO_IN, on_readable, closer);
    for (; tally.left < atoi(argv[2]); tally.left++) {
        result = fin_closer_submit(closer, dial(atoi(argv[1])), &policy, closed, &tally, NULL);
        if (result < 0) /* the descriptor is still ours: fin_close() would be the way out */
            die("fin_closer_submit", -result);
    }
    while (tally.left > 0)
        g_main_context_iteration(NULL, TRUE);
    g_source_remove(source); /* first, then the closer: its descriptor is watched */
    fin_closer_free(closer);
    return tally.bad > 0;
}
