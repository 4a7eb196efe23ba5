/* SPDX-License-Identifier: MIT */

/* A process that changes what its descriptor means all the time, while its connection is to be
 * ended. */

#include "sockets/ending.h"
#include "support.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/wait.h>

#define ROUNDS 10000
#define NUMBER 100

/* In the child: NUMBER is the one, then the other, as fast as can be. */
static void swap_for_ever(int named, int other, int ready)
{
    char byte = 1;

    (void) dup2(named, NUMBER);
    if (write(ready, &byte, 1) != 1)
        _exit(1);
    for (;;) {
        (void) dup2(other, NUMBER);
        (void) dup2(named, NUMBER);
    }
}

static pid_t start_swapper(int named, int other)
{
    int ready[2];
    char byte;
    pid_t child;

    assert_int_equal(pipe(ready), 0);
    child = fork();
    assert_true(child >= 0);
    if (child == 0)
        swap_for_ever(named, other, ready[1]);
    assert_int_equal(read(ready[0], &byte, 1), 1);
    close(ready[0]);
    close(ready[1]);
    return child;
}

static uint64_t cookie_of(int fd)
{
    uint64_t cookie = 0;
    socklen_t size = sizeof cookie;

    assert_int_equal(getsockopt(fd, SOL_SOCKET, SO_COOKIE, &cookie, &size), 0);
    return cookie;
}

/* What is got hold of is the socket that was named, or nothing. */
static void no_other_socket_is_touched(void **state)
{
    int named[2], other[2];
    unsigned hit = 0, missed = 0;
    struct fin_receipt receipt = FIN_RECEIPT_INIT;
    struct ending e = { .copy = -1 };
    char byte = 0;
    pid_t child;

    (void) state;
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, named), 0);
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, other), 0);
    child = start_swapper(named[0], other[0]);
    for (int i = 0; i < ROUNDS || !hit || !missed; i++) {
        int result = ending_open(&e, child, NUMBER, cookie_of(named[0]));

        assert_true(result == 0 || result == -ESTALE);
        hit += result == 0;
        missed += result != 0;
        if (result == 0) {
            assert_true(cookie_of(e.copy) == cookie_of(named[0]));
            ending_drop(&e);
        }
    }
    while (ending_open(&e, child, NUMBER, cookie_of(named[0])) != 0)
        ;
    assert_int_equal(ending_finish(&e, false, &receipt), 0);
    assert_int_equal(recv(named[1], &byte, 1, MSG_DONTWAIT), 0); /* its peer reads EOF */
    assert_int_equal(send(other[0], "x", 1, MSG_NOSIGNAL), 1);
    assert_int_equal(recv(other[1], &byte, 1, MSG_DONTWAIT), 1);
    kill(child, SIGKILL);
    waitpid(child, NULL, 0);
    for (int i = 0; i < 2; i++) {
        close(named[i]);
        close(other[i]);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        GUARDED(no_other_socket_is_touched),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
