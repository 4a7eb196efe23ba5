/* SPDX-License-Identifier: MIT */

/* usage: close_cpp PORT: asks a web server of this machine for a page, and closes. */

#include <arpa/inet.h>
#include <cstdlib>
#include <finack.hpp>
#include <iostream>
#include <sys/socket.h>

static finack::socket dial(int port)
{
    finack::socket connection(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    sockaddr_in to = {};

    to.sin_family = AF_INET;
    to.sin_port = htons(static_cast<uint16_t>(port));
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (connect(connection.get(), reinterpret_cast<sockaddr *>(&to), sizeof to) < 0)
        throw std::system_error(errno, std::generic_category(), "connect");
    return connection; /* moved; whatever way a function is left, the socket is closed */
}

int main(int argc, char **argv)
{
    try {
        finack::socket connection = dial(argc > 1 ? std::atoi(argv[1]) : 8080);

        send(connection.get(), "GET / HTTP/1.0\r\n\r\n", 18, MSG_NOSIGNAL);
        connection.policy().linger_ms = 5000;

        const fin_receipt receipt = connection.close();
        std::cout << finack::to_string(receipt) << '\n';
        return receipt.outcome != FIN_OUTCOME_GRACEFUL;
    } catch (const std::system_error &error) {
        std::cerr << error.what() << '\n';
        return 2;
    }
}
