/* SPDX-License-Identifier: MIT */

/* What the threads of a process wait for, and how much of that is noted. */

#include "sockets/waiting.h"
#include "support.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

#define POLLED 100

/* A process that waits in poll(2) for that descriptor, so many times, once it does. */
static pid_t poller(int fd)
{
    struct pollfd entry[POLLED];
    struct waiting waiting;
    pid_t pid = fork();
    bool polls = false;

    if (pid == 0) {
        for (int i = 0; i < POLLED; i++)
            entry[i] = (struct pollfd) { .fd = fd };
        for (;;)
            (void) poll(entry, POLLED, -1);
    }
    assert_true(pid > 0);
    for (int i = 0; i < 1000000 && !polls; i++) {
        waiting_read(&waiting, pid, WAITING_ROOM);
        polls = waiting.fds.count == POLLED;
        waiting_free(&waiting);
    }
    assert_true(polls);
    return pid;
}

/* Each of many processes may poll a million descriptors: what there is room for is known, and of
 * the rest it is said that it is not. */
static void test_room(void **state)
{
    struct waiting waiting;
    int ends[2];
    pid_t pid;

    (void) state;
    assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
    pid = poller(ends[0]);
    waiting_read(&waiting, pid, POLLED);
    assert_int_equal(waiting.fds.count, POLLED);
    assert_false(waiting.unknown);
    assert_true(waiting_has(&waiting, ends[0]));
    waiting_free(&waiting);
    waiting_read(&waiting, pid, POLLED - 1);
    assert_int_equal(waiting.fds.count, 0);
    assert_true(waiting.unknown);
    waiting_free(&waiting);
    assert_int_equal(kill(pid, SIGKILL), 0);
    assert_int_equal(waitpid(pid, NULL, 0), pid);
    drop_all(ends[0], ends[1], -1);
}

int main(void)
{
    const struct CMUnitTest tests[] = { GUARDED(test_room) };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
