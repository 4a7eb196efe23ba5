/* SPDX-License-Identifier: MIT */

#include "worker.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void *worker_main(void *arg)
{
    struct worker *w = arg;

    atomic_store(&w->tid, gettid());
    w->job(w);
    atomic_store(&w->done, 1);
    return NULL;
}

void start(struct worker *w, struct fin_handle *handle, void (*job)(struct worker *w))
{
    memset(w, 0, sizeof *w);
    w->handle = handle;
    w->job = job;
    w->timeout_ms = GUARD_S * 1000;
    assert_int_equal(pthread_create(&w->thread, NULL, worker_main, w), 0);
}

int64_t join(struct worker *w)
{
    assert_int_equal(pthread_join(w->thread, NULL), 0);
    return w->result;
}

static long current_call(int tid)
{
    char path[64], line[256] = "";
    int fd;
    ssize_t n;

    (void) snprintf(path, sizeof path, "/proc/%d/syscall", tid);
    fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return -1;
    n = read(fd, line, sizeof line - 1);
    (void) close(fd);
    return n > 0 && line[0] >= '0' && line[0] <= '9' ? atol(line) : -1;
}

void await_call(struct worker *w, long number)
{
    while (atomic_load(&w->tid) == 0 || current_call(atomic_load(&w->tid)) != number) {
        assert_false(atomic_load(&w->done));
        (void) sched_yield();
    }
}

void await_entry(struct worker *w)
{
    while (atomic_load(&w->fd) == 0)
        (void) sched_yield();
}

void await_call_in_child(pid_t pid, long number)
{
    while (current_call(pid) != number)
        (void) sched_yield();
}

/* ---- jobs ---- */

void receive(struct worker *w)
{
    w->result = fin_handle_recv(w->handle, w->buf, sizeof w->buf, w->flags, w->timeout_ms);
}

void send_block(struct worker *w)
{
    static const char block[1 << 20];

    w->result = fin_handle_send(w->handle, block, sizeof block, w->flags, w->timeout_ms);
}

void send_part(struct worker *w)
{
    w->flags = FIN_SEND_PART;
    send_block(w);
}

void take(struct worker *w)
{
    w->result = fin_handle_accept(w->handle, w->timeout_ms);
}

void receive_alone(struct worker *w)
{
    int fd = fin_handle_enter(w->handle);

    w->result = recv(fd, w->buf, sizeof w->buf, 0);
    if (w->result < 0)
        w->result = -errno;
    fin_handle_leave(w->handle);
}

void accept_alone(struct worker *w)
{
    int fd = fin_handle_enter(w->handle);

    w->result = accept4(fd, NULL, NULL, SOCK_CLOEXEC);
    if (w->result < 0)
        w->result = -errno;
    fin_handle_leave(w->handle);
}

void stay(struct worker *w)
{
    struct pollfd entry;

    w->fd = fin_handle_enter(w->handle);
    while (!atomic_load(&w->release))
        (void) sched_yield();
    w->result = recv(w->fd, w->buf, sizeof w->buf, 0) < 0 ? -errno : 1;
    if (read(w->fd, w->buf, sizeof w->buf) != 0 || write(w->fd, "x", 1) != -1 || errno != EBADF)
        w->result = 2;
    entry = (struct pollfd) { .fd = w->fd, .events = POLLIN };
    if (poll(&entry, 1, GUARD_S * 1000) != 1)
        w->result = 3;
    fin_handle_leave(w->handle);
}

/* ---- closing ---- */

struct fin_handle *handle_of(int fd)
{
    struct fin_handle *handle = NULL;

    assert_int_equal(fin_handle_new(fd, &handle), 0);
    return handle;
}

struct fin_receipt closed_handle(struct fin_handle *handle, const struct fin_policy *policy)
{
    struct fin_receipt receipt = FIN_RECEIPT_INIT;

    receipt.tombstone = 7; /* must be written */
    assert_int_equal(fin_handle_close(handle, NULL, policy, &receipt), 0);
    assert_sound(&receipt);
    assert_true(reached(&receipt, FIN_STAGE_RELEASED));
    return receipt;
}

void assert_cancelled(struct fin_handle *handle)
{
    struct fin_policy policy = FIN_POLICY_INIT;
    struct fin_receipt receipt = FIN_RECEIPT_INIT;
    struct fin_handle *copy = NULL;
    char byte = 0;

    assert_int_equal(fin_handle_recv(handle, &byte, 1, 0, -1), -ECANCELED);
    assert_int_equal(fin_handle_send(handle, &byte, 1, 0, -1), -ECANCELED);
    assert_int_equal(fin_handle_accept(handle, -1), -ECANCELED);
    assert_int_equal(fin_handle_enter(handle), -ECANCELED);
    assert_int_equal(fin_handle_dup_ref(handle, &copy), -ECANCELED);
    assert_int_equal(fin_handle_close(handle, NULL, &policy, &receipt), -ECANCELED);
    assert_null(copy);
}
