/* SPDX-License-Identifier: MIT */

/* Who is it, is it still, and what does the kernel say. */

#include "support.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sched.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static struct fin_identity identify(int fd)
{
    struct fin_identity id = FIN_IDENTITY_INIT;

    assert_int_equal(fin_identify(fd, &id), 0);
    return id;
}

static struct fin_state inspect(struct fin_identity *id)
{
    struct fin_state st = FIN_STATE_INIT;

    assert_int_equal(fin_inspect(NULL, id, &st), 0);
    return st;
}

/* ---- identity ---- */

static void test_fields(void **state)
{
    struct fin_identity us, them;
    struct stat st;
    int fds[2];

    (void) state;
    tcp_pair(AF_INET6, BUFFERS_USUAL, fds);
    us = identify(fds[US]);
    them = identify(fds[THEM]);
    assert_int_equal(fstat(fds[US], &st), 0);
    assert_int_equal(us.device, st.st_dev);
    assert_int_equal(us.inode, st.st_ino);
    assert_true(us.cookie != 0 && us.cookie != them.cookie);
    assert_int_equal(us.family, AF_INET6);
    assert_int_equal(us.type, SOCK_STREAM);
    assert_int_equal(us.protocol, IPPROTO_TCP);
    assert_int_equal(us.interface, 0);
    assert_int_equal(us.confirmed, 0);
    assert_memory_equal(us.local, &in6addr_loopback, 16);
    assert_memory_equal(us.remote, them.local, 16);
    assert_true(us.local_port != 0);
    assert_int_equal(us.local_port, them.remote_port);
    assert_int_equal(us.remote_port, them.local_port);
    drop_all(fds[US], fds[THEM], -1);
}

static void test_pipe_fields(void **state)
{
    struct fin_identity id;
    struct stat st;
    int fds[2];

    (void) state;
    assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
    id = identify(fds[0]);
    assert_int_equal(fstat(fds[0], &st), 0);
    assert_int_equal(id.inode, st.st_ino);
    assert_int_equal(id.cookie, 0);
    assert_int_equal(id.family, 0);
    assert_int_equal(fin_is(fds[0], &id), 1);
    drop_all(fds[0], fds[1], -1);
}

static void test_number_is_no_identity(void **state)
{
    struct fin_identity id;
    int fds[2], others[2], copy;

    (void) state;
    unix_pair(SOCK_STREAM, fds);
    id = identify(fds[US]);
    copy = fcntl(fds[US], F_DUPFD_CLOEXEC, 100);
    assert_int_equal(fin_is(fds[US], &id), 1);
    assert_int_equal(fin_is(copy, &id), 1); /* a dup is the same socket */
    assert_int_equal(fin_is(fds[THEM], &id), 0);
    drop_all(fds[US], -1);
    assert_int_equal(fin_is(fds[US], &id), 0);
    unix_pair(SOCK_STREAM, others);
    assert_int_equal(others[US], fds[US]);
    assert_int_equal(fin_is(others[US], &id), 0); /* the number means something else now */
    assert_int_equal(fin_is(-1, &id), 0);
    id = identify(others[US]);
    id.cookie++; /* an inode number may come again, a cookie does not */
    assert_int_equal(fin_is(others[US], &id), 0);
    drop_all(copy, fds[THEM], others[US], others[THEM], -1);
}

/* ---- what the kernel says ---- */

static void test_inspect_tcp(void **state)
{
    (void) state;
    for (int family = AF_INET; family <= AF_INET6; family += AF_INET6 - AF_INET) {
        struct fin_identity us, them;
        struct fin_state st;
        int fds[2];

        tcp_pair(family, BUFFERS_USUAL, fds);
        us = identify(fds[US]);
        them = identify(fds[THEM]);
        give(fds[THEM], "ten bytes!");
        await_input(fds[US]);
        st = inspect(&us);
        assert_int_equal(st.exists, FIN_YES);
        assert_int_equal(st.tcp_state, TCP_ESTABLISHED);
        assert_int_equal(st.inode, us.inode);
        assert_int_equal(st.receive_queue, 10);
        assert_int_equal(us.confirmed, 1);
        assert_int_equal(inspect(&them).exists, FIN_YES);
        expect_text(fds[US], "ten bytes!");

        assert_int_equal(shutdown(fds[US], SHUT_WR), 0);
        await_input(fds[THEM]);
        assert_int_equal(inspect(&them).tcp_state, TCP_CLOSE_WAIT);
        drop_all(fds[THEM], -1);
        await_input(fds[US]);
        drop_all(fds[US], -1);
        st = inspect(&us); /* our FIN went first */
        if (st.exists == FIN_NO && !time_wait_is_certain())
            continue;
        assert_int_equal(st.exists, FIN_YES);
        assert_int_equal(st.tcp_state, TCP_TIME_WAIT);
        assert_int_equal(st.timer, 3);
        assert_true(st.timer_ms > 0 && st.timer_ms <= 60000);
        assert_int_equal(st.inode, 0);
        assert_int_equal(inspect(&them).exists, FIN_NO);
    }
}

static void test_inspect_listener(void **state)
{
    int fd = listen_tcp(AF_INET, 0, 8, BUFFERS_USUAL);
    struct fin_identity id = identify(fd);

    (void) state;
    assert_int_equal(inspect(&id).tcp_state, TCP_LISTEN);
    drop_all(fd, -1);
    assert_int_equal(inspect(&id).exists, FIN_NO);
}

static void test_inspect_udp(void **state)
{
    (void) state;
    for (int family = AF_INET; family <= AF_INET6; family += AF_INET6 - AF_INET) {
        struct sockaddr_storage address = { .ss_family = (sa_family_t) family };
        int fd = socket(family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
        struct fin_identity id;

        assert_int_equal(bind(fd, (struct sockaddr *) &address, sizeof address), 0);
        id = identify(fd);
        assert_int_equal(inspect(&id).exists, FIN_YES);
        assert_int_equal(inspect(&id).inode, id.inode);
        drop_all(fd, -1);
        assert_int_equal(inspect(&id).exists, FIN_NO);
    }
}

static void test_inspect_unix(void **state)
{
    static const int types[] = { SOCK_STREAM, SOCK_SEQPACKET, SOCK_DGRAM };

    (void) state;
    for (size_t i = 0; i < 3; i++) {
        struct fin_identity id;
        int fds[2];

        unix_pair(types[i], fds);
        id = identify(fds[US]);
        assert_int_equal(inspect(&id).exists, FIN_YES);
        assert_int_equal(inspect(&id).inode, id.inode);
        drop_all(fds[US], -1);
        assert_int_equal(inspect(&id).exists, FIN_NO);
        drop_all(fds[THEM], -1);
    }
}

/* Asked for the first time after release: nothing counts, whatever the kernel says. */
static void test_not_confirmed(void **state)
{
    struct fin_identity id;
    struct fin_state st;
    int fds[2];

    (void) state;
    tcp_pair(AF_INET, BUFFERS_USUAL, fds);
    id = identify(fds[US]);
    drop_all(fds[US], fds[THEM], -1);
    st = inspect(&id);
    assert_int_equal(st.exists, FIN_UNVERIFIABLE);
    assert_int_equal(st.tcp_state, 0);
    assert_int_equal(id.confirmed, 0);
}

static void test_not_in_a_table(void **state)
{
    struct fin_identity id;
    int fds[2], fd;

    (void) state;
    if (has_mptcp()) {
        mptcp_pair(fds);
        id = identify(fds[US]);
        assert_int_equal(id.protocol, IPPROTO_MPTCP);
        assert_int_equal(inspect(&id).exists, FIN_UNVERIFIABLE);
        drop_all(fds[US], fds[THEM], -1);
    }
    assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
    id = identify(fds[0]);
    assert_int_equal(inspect(&id).exists, FIN_UNVERIFIABLE);
    drop_all(fds[0], fds[1], -1);
    fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    id = identify(fd); /* not bound: in no table */
    assert_int_equal(inspect(&id).exists, FIN_UNVERIFIABLE);
    drop_all(fd, -1);
}

/* ---- another network namespace ---- */

struct elsewhere {
    int fd;
    struct fin_identity id;
};

/* Neither the look-up here nor the one there may be taken for the other. */
static bool look_from_elsewhere(void *arg)
{
    struct elsewhere *e = arg;
    struct fin_state st = FIN_STATE_INIT;
    struct fin_policy policy = policy_of(FIN_COURTESY_PROMPT);
    struct fin_receipt r = FIN_RECEIPT_INIT;

    if (unshare(CLONE_NEWNET) < 0 && unshare(CLONE_NEWUSER | CLONE_NEWNET) < 0)
        return errno == EPERM || errno == ENOSPC || errno == EACCES; /* not allowed here */
    if (fin_inspect(NULL, &e->id, &st) != 0 || st.exists != FIN_UNVERIFIABLE || e->id.confirmed)
        return false;
    policy.proof = FIN_STAGE_FINISHED;
    policy.proof_ms = 0;
    policy.scope = FIN_SCOPE_DESCRIPTOR;
    if (fin_close(NULL, e->fd, &policy, &r) != 0)
        return false;
    return unverifiable(&r, FIN_STAGE_FINISHED);
}

static void test_other_namespace(void **state)
{
    struct elsewhere e;
    int fds[2];

    (void) state;
    tcp_pair(AF_INET, BUFFERS_USUAL, fds);
    e = (struct elsewhere) { .fd = fds[US], .id = identify(fds[US]) };
    child_join(child_start(look_from_elsewhere, &e));
    assert_int_equal(inspect(&e.id).exists, FIN_YES);
    drop_all(fds[US], fds[THEM], -1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        GUARDED(test_fields),
        GUARDED(test_pipe_fields),
        GUARDED(test_number_is_no_identity),
        GUARDED(test_inspect_tcp),
        GUARDED(test_inspect_listener),
        GUARDED(test_inspect_udp),
        GUARDED(test_inspect_unix),
        GUARDED(test_not_confirmed),
        GUARDED(test_not_in_a_table),
        GUARDED(test_other_namespace),
    };

    own_network();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
