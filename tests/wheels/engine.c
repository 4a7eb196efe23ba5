/* SPDX-License-Identifier: MIT */

/* For a C library that no interpreter here is made for: the engine alone, over TCP. */

#include <arpa/inet.h>
#include <finack.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static int connected(int ends[2])
{
    struct sockaddr_in at = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    socklen_t size = sizeof at;
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    if (listener < 0 || bind(listener, (struct sockaddr *) &at, sizeof at) < 0
        || listen(listener, 1) < 0 || getsockname(listener, (struct sockaddr *) &at, &size) < 0)
        return -1;
    ends[0] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (ends[0] < 0 || connect(ends[0], (struct sockaddr *) &at, sizeof at) < 0)
        return -1;
    ends[1] = accept(listener, NULL, NULL);
    return close(listener) < 0 ? -1 : ends[1];
}

int main(int argc, char **argv)
{
    struct fin_policy policy = FIN_POLICY_INIT;
    struct fin_receipt receipt = FIN_RECEIPT_INIT;
    bool exact = argc < 2 || strcmp(argv[1], "emulated") != 0;
    char text[900], data[8];
    int ends[2], result;

    if (connected(ends) < 0 || send(ends[0], "hello", 5, 0) != 5 || shutdown(ends[1], SHUT_WR) < 0)
        return 2;
    result = fin_close(NULL, ends[0], &policy, &receipt);
    if (result < 0 || recv(ends[1], data, sizeof data, MSG_WAITALL) != 5)
        return 2;
    fin_receipt_format(&receipt, text, sizeof text);
    puts(text);
    return exact && receipt.outcome != FIN_OUTCOME_GRACEFUL ? 1 : 0;
}
