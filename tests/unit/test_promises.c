/* SPDX-License-Identifier: MIT */

/* The errnos of finack.h. */

#include "promises.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

/* ---- closing ---- */

CALL(check_null, fin_policy_check(NULL, NULL))
CALL(check_policy, fin_policy_check(&lab->policy, NULL))
CALL(kernel_null, fin_kernel_new(NULL))
CALL(identify_null, fin_identify(lab->us, NULL))
CALL(identify_free, fin_identify(-1, &lab->id))
CALL(identify_set, fin_identify(fin_closer_fd(lab->closer), &lab->id))
CALL(is_null, fin_is(lab->us, NULL))
CALL(inspect_null, fin_inspect(NULL, &lab->id, NULL))
CALL(format_null, fin_receipt_format(NULL, NULL, 0))
CALL(json_null, fin_receipt_json(NULL, NULL, 0))
CALL(close_us, fin_close(lab->kernel, lab->us, &lab->policy, &lab->receipt))
CALL(close_free, fin_close(NULL, -1, &lab->policy, &lab->receipt))
CALL(close_set, fin_close(NULL, fin_closer_fd(lab->closer), &lab->policy, &lab->receipt))
IN_CHILD(close_in_child, close_us)

static int64_t bad_time(struct lab *lab, int64_t (*call)(struct lab *lab))
{
    lab->policy.linger_ms = -1;
    return call(lab);
}

static int64_t bad_courtesy(struct lab *lab, int64_t (*call)(struct lab *lab))
{
    lab->policy.courtesy = 99;
    return call(lab);
}

CALL(check_time, bad_time(lab, check_policy))
CALL(close_time, bad_time(lab, close_us))
CALL(close_courtesy, bad_courtesy(lab, close_us))

static int64_t kernel_new(struct lab *lab)
{
    struct fin_kernel *kernel = NULL;
    int result;

    arm(lab);
    result = fin_kernel_new(&kernel);
    disarm();
    return result;
}

static int64_t inspect(struct lab *lab)
{
    struct fin_state state = FIN_STATE_INIT;

    return fin_inspect(lab->kernel, &lab->id, &state);
}

IN_CHILD(inspect_in_child, inspect)

static int64_t close_forbidden(struct lab *lab)
{
    int64_t result;

    arm(lab);
    result = close_us(lab);
    disarm();
    return result;
}

static int no_flush(void *arg, uint64_t *unsent)
{
    (void) arg;
    (void) unsent;
    return -EINVAL;
}

static int no_notify(void *arg)
{
    (void) arg;
    return -EINVAL;
}

static int no_read(void *arg, uint64_t max, uint64_t *n)
{
    (void) arg;
    (void) max;
    (void) n;
    return -EINVAL;
}

static int64_t layered_null(struct lab *lab)
{
    struct fin_layer layer = FIN_LAYER_INIT;

    layer.flush = no_flush;
    layer.notify = no_notify;
    return fin_close_layered(NULL, lab->us, &layer, &lab->policy, &lab->receipt);
}

static int64_t layered_unconnected(struct lab *lab)
{
    struct fin_layer layer = FIN_LAYER_INIT;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), result;

    layer.flush = no_flush;
    layer.notify = no_notify;
    layer.read = no_read;
    result = fin_close_layered(NULL, fd, &layer, &lab->policy, &lab->receipt);
    drop_all(fd, -1);
    return result;
}

/* ---- who holds ---- */

CALL(holders_null, fin_holders(NULL, NULL, 0, NULL))
CALL(audit_negative, fin_epoll_audit(-1, NULL, 0))
CALL(heal_null, fin_epoll_heal(NULL))

static int64_t holders(struct lab *lab)
{
    int result;

    arm(lab);
    result = fin_holders(&lab->id, NULL, 0, NULL);
    disarm();
    return result;
}

static void make_stale(struct lab *lab)
{
    struct epoll_event event = { .events = EPOLLIN, .data.u64 = 7 };
    int fds[2];

    unix_pair(SOCK_STREAM, fds);
    lab->set = epoll_create1(EPOLL_CLOEXEC);
    lab->survivor = fcntl(fds[US], F_DUPFD_CLOEXEC, 0);
    assert_int_equal(epoll_ctl(lab->set, EPOLL_CTL_ADD, fds[US], &event), 0);
    drop_all(fds[US], fds[THEM], -1);
    assert_int_equal(fin_epoll_audit(0, &lab->stale, 1), 1);
}

static int64_t audit(struct lab *lab)
{
    struct fin_stale stale;
    int result;

    make_stale(lab);
    arm(lab);
    result = fin_epoll_audit(0, &stale, 1);
    disarm();
    return result;
}

static int64_t audit_nobody(struct lab *lab)
{
    pid_t pid = fork();

    (void) lab;
    if (pid == 0)
        _exit(0);
    assert_int_equal(waitpid(pid, NULL, 0), pid);
    return fin_epoll_audit(pid, NULL, 0);
}

static int64_t heal(struct lab *lab)
{
    int result;

    make_stale(lab);
    arm(lab);
    result = fin_epoll_heal(&lab->stale);
    disarm();
    return result;
}

static int64_t heal_nothing(struct lab *lab)
{
    make_stale(lab);
    lab->stale.data++;
    return fin_epoll_heal(&lab->stale);
}

/* The survivor is in flight: a message in a socket. */
static int64_t heal_without_survivor(struct lab *lab)
{
    union {
        struct cmsghdr header;
        char bytes[CMSG_SPACE(sizeof(int))];
    } control = { .header = { CMSG_LEN(sizeof(int)), SOL_SOCKET, SCM_RIGHTS } };
    struct iovec part = { "!", 1 };
    struct msghdr message = { .msg_iov = &part,
                              .msg_iovlen = 1,
                              .msg_control = &control,
                              .msg_controllen = sizeof control.bytes };
    int fds[2], result;

    make_stale(lab);
    unix_pair(SOCK_STREAM, fds);
    memcpy(CMSG_DATA(&control.header), &lab->survivor, sizeof(int));
    assert_int_equal(sendmsg(fds[US], &message, 0), 1);
    drop_all(lab->survivor, -1);
    lab->survivor = -1;
    result = fin_epoll_heal(&lab->stale);
    drop_all(fds[US], fds[THEM], -1);
    return result;
}

/* ---- handles ---- */

CALL(handle_null, fin_handle_new(lab->us, NULL))
CALL(dup_ref_null, fin_handle_dup_ref(NULL, NULL))
CALL(recv_null, fin_handle_recv(NULL, NULL, 0, 0, 0))
CALL(send_null, fin_handle_send(NULL, NULL, 0, 0, 0))
CALL(accept_null, fin_handle_accept(NULL, 0))
CALL(enter_null, fin_handle_enter(NULL))
CALL(handle_close_null, fin_handle_close(NULL, NULL, &lab->policy, &lab->receipt))
CALL(handle_close, fin_handle_close(lab->handle, lab->kernel, &lab->policy, &lab->receipt))
CALL(handle_close_time, bad_time(lab, handle_close))
CALL(enter, fin_handle_enter(lab->handle))
IN_CHILD(handle_close_in_child, handle_close)

static int64_t handle_new_of(struct lab *lab, int fd)
{
    struct fin_handle *handle = NULL;
    int result;

    arm(lab);
    result = fin_handle_new(fd, &handle);
    disarm();
    return result;
}

CALL(handle_new, handle_new_of(lab, lab->us))
CALL(handle_new_free, handle_new_of(lab, -1))

static int64_t handle_new_pipe(struct lab *lab)
{
    int fds[2];
    int64_t result;

    assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
    result = handle_new_of(lab, fds[0]);
    drop_all(fds[0], fds[1], -1);
    return result;
}

static int64_t dup_ref(struct lab *lab)
{
    struct fin_handle *copy = NULL;
    int result;

    arm(lab);
    result = fin_handle_dup_ref(lab->handle, &copy);
    disarm();
    return result;
}

static int64_t receive(struct lab *lab)
{
    char byte;

    return fin_handle_recv(lab->handle, &byte, 1, 0, 5);
}

static int64_t send_all(struct lab *lab)
{
    (void) fill(lab->other);
    return fin_handle_send(lab->handle, "!", 1, 0, 5);
}

static int64_t accept_one(struct lab *lab)
{
    struct fin_handle *listening = NULL;
    int fd = listen_tcp(AF_INET, 0, 1, BUFFERS_USUAL), result;

    (void) lab;
    assert_int_equal(fin_handle_new(fd, &listening), 0);
    result = fin_handle_accept(listening, 5);
    (void) fin_handle_free(listening);
    return result;
}

static int64_t once_closed(struct lab *lab, int64_t (*call)(struct lab *lab))
{
    assert_int_equal(handle_close(lab), 0);
    return call(lab);
}

CALL(accept_handle, fin_handle_accept(lab->handle, 5))
CALL(send_handle, fin_handle_send(lab->handle, "!", 1, 0, 5))
CALL(dup_ref_closed, once_closed(lab, dup_ref))
CALL(receive_closed, once_closed(lab, receive))
CALL(send_closed, once_closed(lab, send_handle))
CALL(accept_closed, once_closed(lab, accept_handle))
CALL(enter_closed, once_closed(lab, enter))
CALL(handle_close_closed, once_closed(lab, handle_close))

static int64_t handle_close_stray(struct lab *lab)
{
    drop_all(lab->other, -1);
    return handle_close(lab);
}

static int64_t handle_close_forbidden(struct lab *lab)
{
    int64_t result;

    arm(lab);
    result = handle_close(lab);
    disarm();
    return result;
}

/* ---- a closer ---- */

static void ignore(const struct fin_receipt *receipt, void *arg)
{
    (void) receipt;
    (void) arg;
}

static int64_t submit_and_keep(struct lab *lab, fin_closed_fn told)
{
    int result = fin_closer_submit(lab->closer, lab->us, &lab->policy, told, lab, NULL);

    if (result == 0)
        lab->us = -1;
    return result;
}

CALL(closer_null, fin_closer_new(NULL, NULL))
CALL(fd_null, fin_closer_fd(NULL))
CALL(fd_of_closer, fin_closer_fd(lab->closer))
CALL(dispatch_null, fin_closer_dispatch(NULL))
CALL(dispatch, fin_closer_dispatch(lab->closer))
CALL(abort_null, fin_closer_abort(NULL, 0))
CALL(abort_nothing, fin_closer_abort(lab->closer, 12345))
CALL(drain_null, fin_closer_drain(NULL, 0))
CALL(drain_negative, fin_closer_drain(lab->closer, -1))
CALL(drain, fin_closer_drain(lab->closer, 0))
CALL(count_null, fin_closer_count(lab->closer, NULL))
IN_CHILD(fd_in_child, fd_of_closer)
IN_CHILD(dispatch_in_child, dispatch)
IN_CHILD(abort_in_child, abort_nothing)
IN_CHILD(drain_in_child, drain)

static int64_t count_closes(struct lab *lab)
{
    struct fin_closer_counters counters = FIN_CLOSER_COUNTERS_INIT;
    int result = fin_closer_count(lab->closer, &counters);

    return result ? result : fin_closer_count(lab->closer, &counters); /* its size is there still */
}

IN_CHILD(count_in_child, count_closes)

static int64_t closer_new(struct lab *lab)
{
    struct fin_closer *closer = NULL;
    int result;

    assert_int_equal(count_closes(lab), 0);
    arm(lab);
    result = fin_closer_new(NULL, &closer);
    disarm();
    return result;
}

static int64_t submit(struct lab *lab)
{
    int64_t result;

    arm(lab);
    result = submit_and_keep(lab, ignore);
    disarm();
    return result;
}

static int64_t dispatch_stray(struct lab *lab)
{
    drop_all(fin_closer_fd(lab->closer), -1);
    return fin_closer_dispatch(lab->closer);
}

static int64_t submit_stray(struct lab *lab)
{
    drop_all(fin_closer_fd(lab->closer), -1);
    return submit_and_keep(lab, ignore);
}

static int64_t submit_twice(struct lab *lab)
{
    int fd = lab->us;
    int64_t result;

    assert_int_equal(submit_and_keep(lab, ignore), 0);
    result = fin_closer_submit(lab->closer, fd, &lab->policy, NULL, NULL, NULL);
    assert_int_equal(fin_closer_drain(lab->closer, 500), 0);
    return result;
}

static void dispatch_inside(const struct fin_receipt *receipt, void *arg)
{
    struct lab *lab = arg;

    (void) receipt;
    lab->result = fin_closer_dispatch(lab->closer);
}

static void drain_inside(const struct fin_receipt *receipt, void *arg)
{
    struct lab *lab = arg;

    (void) receipt;
    lab->result = fin_closer_drain(lab->closer, 0);
}

static void submit_inside(const struct fin_receipt *receipt, void *arg)
{
    struct lab *lab = arg;

    (void) receipt;
    lab->result = fin_closer_submit(lab->closer, lab->far, &lab->policy, NULL, NULL, NULL);
}

static int64_t from_completion(struct lab *lab, fin_closed_fn told)
{
    assert_int_equal(submit_and_keep(lab, told), 0);
    assert_int_equal(fin_closer_drain(lab->closer, 500), 0);
    return lab->result;
}

CALL(dispatch_in_completion, from_completion(lab, dispatch_inside))
CALL(drain_in_completion, from_completion(lab, drain_inside))

static int64_t submit_while_freed(struct lab *lab)
{
    assert_int_equal(submit_and_keep(lab, submit_inside), 0);
    lab->closer = fin_closer_free(lab->closer);
    return lab->result;
}

/* ---- later ---- */

CALL(later_drain_negative, fin_close_later_drain(-1))

static int64_t later_stray(struct lab *lab)
{
    int result = fin_close_later(-1, &lab->policy, NULL, NULL);

    (void) lab;
    assert_int_equal(fin_close_later_drain(500), 0);
    return result;
}

static int64_t later(struct lab *lab)
{
    int result;

    arm(lab);
    result = fin_close_later(lab->us, &lab->policy, NULL, NULL);
    disarm();
    return result;
}

struct told {
    int line[2];
    int64_t result;
};

static void drain_later_inside(const struct fin_receipt *receipt, void *arg)
{
    struct told *told = arg;

    (void) receipt;
    told->result = fin_close_later_drain(0);
    (void) !write(told->line[1], "!", 1);
}

static int64_t later_drain_in_completion(struct lab *lab)
{
    struct told told;
    char byte;

    assert_int_equal(pipe2(told.line, O_CLOEXEC), 0);
    assert_int_equal(fin_close_later(lab->us, &lab->policy, drain_later_inside, &told), 0);
    lab->us = -1;
    assert_int_equal(read(told.line[0], &byte, 1), 1);
    assert_int_equal(fin_close_later_drain(500), 0);
    drop_all(told.line[0], told.line[1], -1);
    return told.result;
}

/* ---- the table ---- */

#define PROC "openat+open"

static const struct row rows[] = {
    { "fin_policy_check", EINVAL, check_null, NULL },
    { "fin_policy_check", ERANGE, check_time, NULL },
    { "fin_kernel_new", EINVAL, kernel_null, NULL },
    { "fin_kernel_new", ENOMEM, kernel_new, MEMORY },
    { "fin_kernel_new", EMFILE, kernel_new, "epoll_create1" },
    { "fin_kernel_new", ENFILE, kernel_new, "epoll_create1" },
    { "fin_identify", EINVAL, identify_null, NULL },
    { "fin_identify", EBADF, identify_free, NULL },
    { "fin_identify", EOPNOTSUPP, identify_set, NULL },
    { "fin_is", EINVAL, is_null, NULL },
    { "fin_inspect", EINVAL, inspect_null, NULL },
    { "fin_inspect", ECHILD, inspect_in_child, NULL },
    { "fin_close", EINVAL, close_courtesy, NULL },
    { "fin_close", ERANGE, close_time, NULL },
    { "fin_close", EBADF, close_free, NULL },
    { "fin_close", EOPNOTSUPP, close_set, NULL },
    { "fin_close", ECHILD, close_in_child, NULL },
    { "fin_close", EPERM, close_forbidden, "getsockopt" },
    { "fin_close", EACCES, close_forbidden, "getsockopt" },
    { "fin_close_layered", EINVAL, layered_null, NULL },
    { "fin_close_layered", ENOTCONN, layered_unconnected, NULL },
    { "fin_receipt_format", EINVAL, format_null, NULL },
    { "fin_receipt_json", EINVAL, json_null, NULL },
    { "fin_holders", EINVAL, holders_null, NULL },
    { "fin_holders", ENOENT, holders, PROC },
    { "fin_holders", EACCES, holders, PROC },
    { "fin_holders", EMFILE, holders, PROC },
    { "fin_holders", ENFILE, holders, PROC },
    { "fin_holders", ENOMEM, holders, PROC },
    { "fin_epoll_audit", EINVAL, audit_negative, NULL },
    { "fin_epoll_audit", ESRCH, audit_nobody, NULL },
    { "fin_epoll_audit", EACCES, audit, PROC },
    { "fin_epoll_audit", ENOENT, audit, PROC "+access" },
    { "fin_epoll_audit", EMFILE, audit, PROC },
    { "fin_epoll_audit", ENFILE, audit, PROC },
    { "fin_epoll_audit", ENOMEM, audit, MEMORY },
    { "fin_epoll_heal", EINVAL, heal_null, NULL },
    { "fin_epoll_heal", ENOENT, heal_nothing, NULL },
    { "fin_epoll_heal", ESRCH, heal_without_survivor, NULL },
    { "fin_epoll_heal", EPERM, heal, "unshare" },
    { "fin_epoll_heal", EAGAIN, heal, "pthread_create" },
    { "fin_epoll_heal", EACCES, heal, PROC },
    { "fin_epoll_heal", EMFILE, heal, PROC },
    { "fin_epoll_heal", ENFILE, heal, PROC },
    { "fin_epoll_heal", ENOMEM, heal, MEMORY },
    { "fin_handle_new", EINVAL, handle_null, NULL },
    { "fin_handle_new", EBADF, handle_new_free, NULL },
    { "fin_handle_new", EOPNOTSUPP, handle_new_pipe, NULL },
    { "fin_handle_new", ENOMEM, handle_new, MEMORY },
    { "fin_handle_new", EMFILE, handle_new, "eventfd" },
    { "fin_handle_new", ENFILE, handle_new, "eventfd" },
    { "fin_handle_new", EPERM, handle_new, "getsockopt" },
    { "fin_handle_new", EACCES, handle_new, "getsockopt" },
    { "fin_handle_dup_ref", EINVAL, dup_ref_null, NULL },
    { "fin_handle_dup_ref", ECANCELED, dup_ref_closed, NULL },
    { "fin_handle_dup_ref", ENOMEM, dup_ref, MEMORY },
    { "fin_handle_dup_ref", EMFILE, dup_ref, "eventfd" },
    { "fin_handle_dup_ref", ENFILE, dup_ref, "eventfd" },
    { "fin_handle_recv", EINVAL, recv_null, NULL },
    { "fin_handle_recv", ECANCELED, receive_closed, NULL },
    { "fin_handle_recv", ETIMEDOUT, receive, NULL },
    { "fin_handle_send", EINVAL, send_null, NULL },
    { "fin_handle_send", ECANCELED, send_closed, NULL },
    { "fin_handle_send", ETIMEDOUT, send_all, NULL },
    { "fin_handle_accept", EINVAL, accept_null, NULL },
    { "fin_handle_accept", ECANCELED, accept_closed, NULL },
    { "fin_handle_accept", ETIMEDOUT, accept_one, NULL },
    { "fin_handle_enter", EINVAL, enter_null, NULL },
    { "fin_handle_enter", ECANCELED, enter_closed, NULL },
    { "fin_handle_close", EINVAL, handle_close_null, NULL },
    { "fin_handle_close", ERANGE, handle_close_time, NULL },
    { "fin_handle_close", ECHILD, handle_close_in_child, NULL },
    { "fin_handle_close", ECANCELED, handle_close_closed, NULL },
    { "fin_handle_close", EBADF, handle_close_stray, NULL },
    { "fin_handle_close", EPERM, handle_close_forbidden, "getsockopt" },
    { "fin_handle_close", EACCES, handle_close_forbidden, "getsockopt" },
    { "fin_closer_new", EINVAL, closer_null, NULL },
    { "fin_closer_new", ENOMEM, closer_new, MEMORY },
    { "fin_closer_new", EMFILE, closer_new, "epoll_create1" },
    { "fin_closer_new", ENFILE, closer_new, "epoll_create1" },
    { "fin_closer_fd", EINVAL, fd_null, NULL },
    { "fin_closer_fd", ECHILD, fd_in_child, NULL },
    { "fin_closer_submit", ENOMEM, submit, MEMORY },
    { "fin_closer_submit", ENOSPC, submit, "epoll_ctl" },
    { "fin_closer_submit", EEXIST, submit_twice, NULL },
    { "fin_closer_submit", ECANCELED, submit_while_freed, NULL },
    { "fin_closer_submit", EBADF, submit_stray, NULL },
    { "fin_closer_dispatch", EINVAL, dispatch_null, NULL },
    { "fin_closer_dispatch", ECHILD, dispatch_in_child, NULL },
    { "fin_closer_dispatch", EBUSY, dispatch_in_completion, NULL },
    { "fin_closer_dispatch", EBADF, dispatch_stray, NULL },
    { "fin_closer_abort", EINVAL, abort_null, NULL },
    { "fin_closer_abort", ECHILD, abort_in_child, NULL },
    { "fin_closer_abort", ENOENT, abort_nothing, NULL },
    { "fin_closer_drain", EINVAL, drain_null, NULL },
    { "fin_closer_drain", ERANGE, drain_negative, NULL },
    { "fin_closer_drain", ECHILD, drain_in_child, NULL },
    { "fin_closer_drain", EBUSY, drain_in_completion, NULL },
    { "fin_closer_count", EINVAL, count_null, NULL },
    { "fin_closer_count", ECHILD, count_in_child, NULL },
    { "fin_close_later", EAGAIN, later, "pthread_create" },
    { "fin_close_later", EBADF, later_stray, NULL },
    { "fin_close_later_drain", ERANGE, later_drain_negative, NULL },
    { "fin_close_later_drain", EBUSY, later_drain_in_completion, NULL },
};

int main(void)
{
    return promises_main(rows, sizeof rows / sizeof *rows, HEADERS "/finack.h");
}
