/* SPDX-License-Identifier: MIT */

/* The drivers: each closes p->fd, and fills result, receipt and the times. */

#include "play.h"

#include <errno.h>
#include <finack/openssl.h>
#include <poll.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

#define LAYER_CHUNK 16384
#define NEVER_NS 2000000000 /* a closer's completion that has not come by then never comes */
#define MS 1000000

/* ---- a layer that holds bytes back, and says one byte more as its farewell ---- */

/* Returns the bytes that the kernel took, or a negative errno. */
static int layer_send(struct play *p, uint64_t size)
{
    unsigned char buf[LAYER_CHUNK];
    size_t n = size < sizeof buf ? (size_t) size : sizeof buf;
    ssize_t sent;

    for (size_t i = 0; i < n; i++)
        buf[i] = view_byte(p->handed + p->layer_sent + i);
    sent = send(p->fd, buf, n, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (sent >= 0)
        return (int) sent;
    p->layer_broken |= errno != EAGAIN;
    return -errno;
}

static int layer_result(int sent)
{
    return sent == -EAGAIN ? FIN_LAYER_WANT_WRITE : sent;
}

static int layer_flush(void *arg, uint64_t *unsent)
{
    struct play *p = arg;
    uint64_t began = view_clock();
    int sent = 0;

    while (p->layer_left > 0 && (sent = layer_send(p, p->layer_left)) >= 0) {
        p->layer_sent += (uint64_t) sent;
        p->layer_left -= (uint64_t) sent;
    }
    p->stolen += view_clock() - began;
    *unsent = p->layer_left;
    return p->layer_left ? layer_result(sent) : FIN_LAYER_DONE;
}

static uint64_t layer_unsent(void *arg)
{
    return ((struct play *) arg)->layer_left;
}

static int layer_notify(void *arg)
{
    struct play *p = arg;
    int sent = layer_send(p, 1);

    if (sent < 0)
        return layer_result(sent);
    p->layer_farewell = true;
    return FIN_LAYER_DONE;
}

static int layer_read(void *arg, uint64_t max, uint64_t *n)
{
    struct play *p = arg;
    char buf[LAYER_CHUNK];
    ssize_t got = recv(p->fd, buf, max < sizeof buf ? (size_t) max : sizeof buf, MSG_DONTWAIT);

    if (got > 0) {
        *n = (uint64_t) got;
        return FIN_LAYER_DONE;
    }
    if (got == 0)
        return FIN_LAYER_EOF;
    return errno == EAGAIN ? FIN_LAYER_WANT_READ : -errno;
}

static struct fin_layer layer_of(struct play *p)
{
    return (struct fin_layer) {
        sizeof(struct fin_layer), p, layer_flush, layer_notify, layer_read, layer_unsent
    };
}

/* ---- TLS ---- */

static const struct fin_ssl_write *unfinished_write(const struct play *p,
                                                    struct fin_ssl_write *write)
{
    *write = (struct fin_ssl_write) { p->record, p->unfinished };
    return p->unfinished && !p->scene.v[UNFINISHED] ? write : NULL;
}

/* ---- one close at a time ---- */

static void drive_blocking(struct play *p, struct fin_kernel *kernel)
{
    struct fin_layer layer = layer_of(p);
    struct fin_ssl_write write;

    p->began = view_clock();
    if (p->ssl)
        p->result =
            fin_close_ssl(kernel, p->ssl, unfinished_write(p, &write), &p->policy, &p->receipt);
    else if (scene_is_layered(&p->scene))
        p->result = fin_close_layered(kernel, p->fd, &layer, &p->policy, &p->receipt);
    else
        p->result = fin_close(kernel, p->fd, &p->policy, &p->receipt);
    p->ended = view_clock();
    p->completed = true;
}

static void drive_with_kernel(struct play *p)
{
    struct fin_kernel *kernel = NULL;

    must(fin_kernel_new(&kernel) == 0, "a kernel handle");
    drive_blocking(p, kernel);
    (void) fin_kernel_free(kernel);
}

static void drive_handle(struct play *p)
{
    p->began = view_clock();
    p->result = fin_handle_close(p->handle, NULL, &p->policy, &p->receipt);
    p->ended = view_clock();
    p->completed = true;
}

/* ---- a closer ---- */

static void closed(const struct fin_receipt *receipt, void *arg)
{
    struct play *p = arg;

    must(!p->completed, "a second completion");
    p->receipt = *receipt;
    p->completed = true;
    p->ended = view_clock();
}

static int wait_ms(uint64_t now, uint64_t at)
{
    return at > now ? (int) ((at - now) / MS) + 1 : 0;
}

static void turn(struct play *p, struct fin_closer *closer, uint64_t op)
{
    long abort_ms = scene_number(&p->scene, ABORT_MS);
    uint64_t abort_at = abort_ms < 0 ? 0 : p->began + (uint64_t) abort_ms * MS;
    uint64_t end = p->began + NEVER_NS;

    while (!p->completed && view_clock() < end) {
        struct pollfd entry = { fin_closer_fd(closer), POLLIN, 0 };

        (void) poll(&entry, 1, wait_ms(view_clock(), abort_at ? abort_at : end));
        if (abort_at && view_clock() >= abort_at) {
            (void) fin_closer_abort(closer, op);
            abort_at = 0;
        }
        (void) fin_closer_dispatch(closer);
    }
}

/* Another close, so that the first is forced. */
static void crowd(struct fin_closer *closer, const struct fin_policy *policy)
{
    int fds[2];

    must(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) == 0, "socketpair");
    (void) fin_closer_dispatch(closer);
    must(fin_closer_submit(closer, fds[0], policy, NULL, NULL, NULL) == 0, "another close");
    (void) close(fds[1]);
}

static void drive_closer(struct play *p)
{
    struct fin_closer_options options = FIN_CLOSER_OPTIONS_INIT;
    struct fin_layer layer = layer_of(p);
    struct fin_closer *closer = NULL;
    struct fin_ssl_write write;
    uint64_t op = 0;

    options.cap = p->scene.v[CAP];
    must(fin_closer_new(&options, &closer) == 0, "a closer");
    p->began = view_clock();
    if (p->ssl)
        p->result = fin_closer_submit_ssl(closer, p->ssl, unfinished_write(p, &write), &p->policy,
                                          closed, p, &op);
    else if (scene_is_layered(&p->scene))
        p->result = fin_closer_submit_layered(closer, p->fd, &layer, &p->policy, closed, p, &op);
    else
        p->result = fin_closer_submit(closer, p->fd, &p->policy, closed, p, &op);
    if (p->result == 0 && p->scene.v[CAP])
        crowd(closer, &p->policy);
    if (p->result == 0)
        turn(p, closer, op);
    if (!p->completed)
        p->ended = view_clock();
    (void) fin_closer_free(closer);
}

/* How long this thread has waited for a processor; 0 where the kernel does not say. */
static uint64_t kept_waiting(void)
{
    unsigned long long ran, waited = 0;
    FILE *file = fopen("/proc/thread-self/schedstat", "re");

    if (!file)
        return 0;
    if (fscanf(file, "%llu %llu", &ran, &waited) != 2)
        waited = 0;
    (void) fclose(file);
    return waited;
}

static void drive_by_driver(struct play *p)
{
    switch (p->scene.v[DRIVER]) {
    case CLOSE:
    case LAYERED:
    case TLS:
        drive_blocking(p, NULL);
        break;
    case CLOSE_KERNEL:
        drive_with_kernel(p);
        break;
    case HANDLE:
        drive_handle(p);
        break;
    default:
        drive_closer(p);
        break;
    }
}

void drive(struct play *p)
{
    uint64_t before = kept_waiting();

    drive_by_driver(p);
    p->stolen += kept_waiting() - before;
}

/* ---- threads inside a handle ---- */

static void *work(void *arg)
{
    struct play *p = arg;
    char buf[512];
    int fd;

    if (p->scene.v[WORKERS] == WORKERS_RECV) {
        int64_t n;

        while ((n = fin_handle_recv(p->handle, buf, sizeof buf, 0, -1)) > 0)
            p->program_read += (uint64_t) n;
        return NULL;
    }
    fd = fin_handle_enter(p->handle);
    if (fd < 0)
        return NULL;
    while (recv(fd, buf, sizeof buf, 0) > 0)
        ;
    fin_handle_leave(p->handle);
    return NULL;
}

void workers_start(struct play *p)
{
    if (p->scene.v[DRIVER] != HANDLE)
        return;
    must(fin_handle_new(p->fd, &p->handle) == 0, "a handle");
    if (p->scene.v[WORKERS])
        must(pthread_create(&p->worker, NULL, work, p) == 0, "a thread");
}

void workers_join(struct play *p)
{
    if (p->scene.v[DRIVER] != HANDLE)
        return;
    if (p->scene.v[WORKERS])
        (void) pthread_join(p->worker, NULL);
    (void) fin_handle_free(p->handle);
}
