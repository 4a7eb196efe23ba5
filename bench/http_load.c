/* SPDX-License-Identifier: MIT */

/* Load for an HTTP server on 127.0.0.1: some connections at a time, a request on each when the
 * answer to the one before is there; or a connection for each request.
 *
 * usage: http_load PORT CONNECTIONS REQUESTS keep|close
 *
 * All answers must have the length of the first, be 200 and, with close, end in FIN. */

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#define TIME_LIMIT_S 60
#define ANSWER_MAX 4096
#define EVENTS 64
#define HEADERS "GET / HTTP/1.1\r\nHost: localhost\r\n"

struct line {
    int fd;
    size_t count; /* bytes of an answer that have come */
    char answer[ANSWER_MAX];
};

struct load {
    struct sockaddr_in to;
    int set;
    bool keep;
    size_t length; /* of an answer, from the first on */
    unsigned long asked, answered, requests;
};

static void must(bool fine, const char *what)
{
    if (fine)
        return;
    (void) fprintf(stderr, "http_load: %s: %s\n", what,
                   errno ? strerror(errno) : "not as expected");
    exit(1);
}

static void dial(const struct load *load, struct line *line)
{
    struct epoll_event event = { .events = EPOLLIN, .data.ptr = line };
    int on = 1;

    line->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    must(line->fd >= 0, "socket");
    (void) setsockopt(line->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    must(connect(line->fd, (const struct sockaddr *) &load->to, sizeof load->to) == 0, "connect");
    must(epoll_ctl(load->set, EPOLL_CTL_ADD, line->fd, &event) == 0, "epoll_ctl");
}

static void ask(struct load *load, struct line *line)
{
    static const char keep[] = HEADERS "\r\n", end[] = HEADERS "Connection: close\r\n\r\n";
    const char *request = load->keep ? keep : end;

    must(send(line->fd, request, strlen(request), MSG_NOSIGNAL) == (ssize_t) strlen(request),
         "send");
    line->count = 0;
    load->asked++;
}

/* The length of what `line` holds, once its headers are whole; they name that of the body. */
static size_t answer_length(struct line *line)
{
    static const char name[] = "content-length: ";
    char *body, *field;

    line->answer[line->count] = '\0';
    body = strstr(line->answer, "\r\n\r\n");
    if (!body)
        return 0;
    field = strcasestr(line->answer, name);
    must(field, "the answer has no Content-Length");
    return (size_t) (body + 4 - line->answer) + strtoul(field + strlen(name), NULL, 10);
}

static void next(struct load *load, struct line *line)
{
    load->answered++;
    if (!load->keep) {
        (void) close(line->fd);
        line->fd = -1;
    }
    if (load->asked == load->requests)
        return;
    if (line->fd < 0)
        dial(load, line);
    ask(load, line);
}

static void take(struct load *load, struct line *line)
{
    ssize_t got = recv(line->fd, line->answer + line->count, ANSWER_MAX - 1 - line->count, 0);

    must(got >= 0, "recv");
    line->count += (size_t) got;
    if (load->length == 0)
        load->length = answer_length(line);
    if (load->keep)
        must(got > 0, "a connection ended");
    else if (got > 0)
        return;
    if (load->length && line->count >= load->length) {
        must(line->count == load->length, "the length of an answer");
        must(strncmp(line->answer, "HTTP/1.1 200 ", 13) == 0, "the status");
        next(load, line);
        return;
    }
    must(load->keep, "an answer was cut");
}

static void run(struct load *load, struct line *lines, unsigned long count)
{
    struct epoll_event events[EVENTS];

    for (unsigned long i = 0; i < count && load->asked < load->requests; i++) {
        dial(load, &lines[i]);
        ask(load, &lines[i]);
    }
    while (load->answered < load->requests) {
        int ready = epoll_wait(load->set, events, EVENTS, -1);

        must(ready >= 0 || errno == EINTR, "epoll_wait");
        for (int i = 0; i < ready; i++)
            take(load, events[i].data.ptr);
    }
}

int main(int argc, char **argv)
{
    struct load load = { .to = { .sin_family = AF_INET } };
    unsigned long count;
    struct line *lines;

    if (argc != 5) {
        (void) fprintf(stderr, "usage: %s PORT CONNECTIONS REQUESTS keep|close\n", argv[0]);
        return 2;
    }
    (void) alarm(TIME_LIMIT_S);
    load.to.sin_port = htons((uint16_t) strtoul(argv[1], NULL, 10));
    load.to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    count = strtoul(argv[2], NULL, 10);
    load.requests = strtoul(argv[3], NULL, 10);
    load.keep = strcmp(argv[4], "keep") == 0;
    load.set = epoll_create1(EPOLL_CLOEXEC);
    lines = calloc(count, sizeof *lines);
    must(load.set >= 0 && lines, "memory");
    run(&load, lines, count);
    free(lines);
    return 0;
}
