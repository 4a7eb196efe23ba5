/* SPDX-License-Identifier: MIT */

/* What a receipt says was closed: the kind of socket, and both addresses if they were asked for. */

#include "closer_support.h"

#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

typedef struct fin_receipt close_fn(int fd, const struct fin_policy *policy);

static struct fin_receipt at_once(int fd, const struct fin_policy *policy)
{
    return closed(NULL, fd, policy);
}

static struct fin_receipt by_closer(int fd, const struct fin_policy *policy)
{
    struct fin_closer *closer = closer_of(0);
    struct fin_receipt receipt = closed_by(closer, fd, policy);

    fin_closer_free(closer);
    return receipt;
}

static close_fn *const ways[] = { at_once, by_closer };

static uint16_t port_of(int fd)
{
    struct sockaddr_storage address;

    address_of(fd, &address); /* the port is at the same place in both versions */
    return ntohs(((struct sockaddr_in *) &address)->sin_port);
}

static struct fin_policy asking(int courtesy)
{
    struct fin_policy policy = policy_of(courtesy);

    policy.addresses = 1;
    return policy;
}

static void assert_ends_in(const struct fin_receipt *receipt, const char *format, ...)
{
    char line[600], json[1600], expected[200];
    const char *end;
    va_list args;

    va_start(args, format);
    vsnprintf(expected, sizeof expected, format, args);
    va_end(args);
    fin_receipt_format(receipt, line, sizeof line);
    end = strrchr(line, ';');
    assert_string_equal(end ? end : "", expected);
    assert_true(fin_receipt_json(receipt, json, sizeof json) < 1500);
    assert_non_null(strstr(json, fin_kind_name(receipt->kind)));
}

/* Also after a reset, when the socket itself does not know its peer any more. */
static void test_tcp(void **state)
{
    static const int courtesies[] = { FIN_COURTESY_ABORT, FIN_COURTESY_PROMPT };

    (void) state;
    for (int i = 0; i < 4; i++) {
        struct fin_policy policy = asking(courtesies[i / 2]);
        struct fin_receipt r;
        uint16_t ours, theirs;
        int fds[2];

        tcp_pair(AF_INET, BUFFERS_USUAL, fds);
        ours = port_of(fds[US]);
        theirs = port_of(fds[THEM]);
        r = ways[i % 2](fds[US], &policy);
        assert_int_equal(r.kind, FIN_KIND_TCP);
        assert_ends_in(&r, "; tcp 127.0.0.1:%u -> 127.0.0.1:%u", ours, theirs);
        close(fds[THEM]);
    }
}

static void test_tcp_version_6(void **state)
{
    struct fin_policy policy = asking(FIN_COURTESY_PROMPT);

    (void) state;
    for (int i = 0; i < 2; i++) {
        struct fin_receipt r;
        uint16_t ours;
        int fds[2];

        tcp_pair(AF_INET6, BUFFERS_USUAL, fds);
        ours = port_of(fds[US]);
        r = ways[i](fds[US], &policy);
        assert_int_equal(r.family, AF_INET6);
        assert_int_equal(r.local_port, ours);
        assert_ends_in(&r, "; tcp [::1]:%u -> [::1]:%u", ours, port_of(fds[THEM]));
        close(fds[THEM]);
    }
}

/* The addresses come with the identity that following a connection takes, too. */
static void test_followed(void **state)
{
    struct fin_policy policy = asking(FIN_COURTESY_ABORT);

    (void) state;
    policy.proof = FIN_STAGE_FINISHED;
    for (int i = 0; i < 2; i++) {
        struct fin_receipt r;
        uint16_t ours;
        int fds[2];

        tcp_pair(AF_INET, BUFFERS_USUAL, fds);
        ours = port_of(fds[US]);
        r = ways[i](fds[US], &policy);
        assert_ends_in(&r, "; tcp 127.0.0.1:%u -> 127.0.0.1:%u", ours, port_of(fds[THEM]));
        assert_true(reached(&r, FIN_STAGE_FINISHED));
        close(fds[THEM]);
    }
}

static void test_listener(void **state)
{
    struct fin_policy policy = asking(FIN_COURTESY_PROMPT);

    (void) state;
    for (int i = 0; i < 2; i++) {
        int fd = listen_tcp(AF_INET, 0, 1, BUFFERS_USUAL);
        uint16_t port = port_of(fd);
        struct fin_receipt r = ways[i](fd, &policy);

        assert_ends_in(&r, "; tcp 127.0.0.1:%u", port);
    }
}

static void test_udp(void **state)
{
    struct fin_policy policy = asking(FIN_COURTESY_PROMPT);

    (void) state;
    for (int i = 0; i < 2; i++) {
        struct sockaddr_in to = { AF_INET, htons(9), { htonl(INADDR_LOOPBACK) }, { 0 } };
        int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
        uint16_t port;
        struct fin_receipt r;

        assert_int_equal(connect(fd, (struct sockaddr *) &to, sizeof to), 0);
        port = port_of(fd);
        r = ways[i](fd, &policy);
        assert_int_equal(r.kind, FIN_KIND_UDP);
        assert_ends_in(&r, "; udp 127.0.0.1:%u -> 127.0.0.1:9", port);
    }
}

static void test_without_addresses(void **state)
{
    struct fin_policy policy = asking(FIN_COURTESY_PROMPT);

    (void) state;
    for (int i = 0; i < 2; i++) {
        struct fin_receipt r;
        int fds[2], ends[2];

        unix_pair(SOCK_STREAM, fds);
        r = ways[i](fds[US], &policy);
        assert_int_equal(r.kind, FIN_KIND_UNIX);
        assert_ends_in(&r, "");
        close(fds[THEM]);
        assert_int_equal(pipe(ends), 0);
        r = ways[i](ends[0], &policy);
        assert_int_equal(r.kind, FIN_KIND_PIPE);
        assert_ends_in(&r, "");
        close(ends[1]);
    }
}

/* A receipt that is used again keeps nothing of the close before. */
static void test_not_asked_for(void **state)
{
    struct fin_policy policy = policy_of(FIN_COURTESY_PROMPT);

    (void) state;
    for (int i = 0; i < 2; i++) {
        struct fin_receipt r = FIN_RECEIPT_INIT;
        int fds[2];

        tcp_pair(AF_INET, BUFFERS_USUAL, fds);
        r.family = AF_INET;
        r.local_port = 1;
        if (i == 0)
            assert_int_equal(fin_close(NULL, fds[US], &policy, &r), 0);
        else
            r = by_closer(fds[US], &policy);
        assert_int_equal(r.kind, FIN_KIND_TCP);
        assert_ends_in(&r, "");
        close(fds[THEM]);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        GUARDED(test_tcp),           GUARDED(test_tcp_version_6), GUARDED(test_followed),
        GUARDED(test_listener),      GUARDED(test_udp),           GUARDED(test_without_addresses),
        GUARDED(test_not_asked_for),
    };

    own_network();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
