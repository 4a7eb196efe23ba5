/* SPDX-License-Identifier: MIT */

/* usage: close PORT: asks the web server at 127.0.0.1:PORT for a page, closes, shows the
 * receipt. */

#include <arpa/inet.h>
#include <finack.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>

int main(int argc, char **argv)
{
    uint16_t port = (uint16_t) (argc > 1 ? atoi(argv[1]) : 8080);
    struct sockaddr_in to = { AF_INET, htons(port), { htonl(INADDR_LOOPBACK) }, { 0 } };
    struct fin_policy policy = FIN_POLICY_INIT;
    struct fin_receipt receipt = FIN_RECEIPT_INIT;
    char line[400];
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    policy.addresses = 1; /* the receipt names both ends */
    if (connect(fd, (struct sockaddr *) &to, sizeof to) < 0)
        return 2;
    send(fd, "GET / HTTP/1.0\r\n\r\n", 18, MSG_NOSIGNAL);
    if (fin_close(NULL, fd, &policy, &receipt) < 0)
        return 2;
    fin_receipt_format(&receipt, line, sizeof line);
    puts(line);
    return receipt.outcome != FIN_OUTCOME_GRACEFUL;
}
