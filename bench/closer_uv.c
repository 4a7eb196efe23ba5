/* SPDX-License-Identifier: MIT */

/* libuv, in two ways: uv_shutdown() and uv_close(), which lets go as soon as FIN is queued, and the
 * same with the peer's end read first. Neither has a deadline, an answer to what became of the
 * connection, or a proof. */

#include "closer_parts.h"

#include <stdlib.h>
#include <string.h>
#include <uv.h>

struct connection {
    uv_tcp_t tcp; /* first: libuv's pointers are ours */
    uv_shutdown_t request;
};

static uv_loop_t loop;
static struct connection *connections;
static size_t count;
static char scratch[65536];

static void must(int result, const char *what)
{
    if (result < 0)
        bench_die("%s: %s", what, uv_strerror(result));
}

static void closed(uv_handle_t *handle)
{
    completed((size_t) ((struct connection *) handle - connections));
}

static void allocate(uv_handle_t *handle, size_t suggested, uv_buf_t *buf)
{
    (void) handle;
    (void) suggested;
    *buf = uv_buf_init(scratch, sizeof scratch);
}

static void was_read(uv_stream_t *stream, ssize_t n, const uv_buf_t *buf)
{
    (void) buf;
    if (n == UV_EOF)
        uv_close((uv_handle_t *) stream, closed);
    else if (n < 0)
        bench_die("libuv read: %s", uv_strerror((int) n));
}

static void adopt(const int *fds, size_t size)
{
    count = size;
    connections = calloc(count, sizeof *connections);
    if (!connections)
        bench_die("out of memory");
    must(uv_loop_init(&loop), "uv_loop_init");
    for (size_t i = 0; i < count; i++) {
        must(uv_tcp_init(&loop, &connections[i].tcp), "uv_tcp_init");
        must(uv_tcp_open(&connections[i].tcp, fds[i]), "uv_tcp_open");
    }
}

static void adopt_and_read(const int *fds, size_t size)
{
    adopt(fds, size);
    for (size_t i = 0; i < count; i++)
        must(uv_read_start((uv_stream_t *) &connections[i].tcp, allocate, was_read),
             "uv_read_start");
    (void) uv_run(&loop, UV_RUN_NOWAIT); /* it registers them here */
}

static void shut(uv_shutdown_t *request, int status)
{
    (void) request;
    must(status, "uv_shutdown");
}

static void shut_then_close(uv_shutdown_t *request, int status)
{
    must(status, "uv_shutdown");
    uv_close((uv_handle_t *) request->handle, closed);
}

static void close_with(uv_shutdown_cb then)
{
    for (size_t i = 0; i < count; i++) {
        must(uv_shutdown(&connections[i].request, (uv_stream_t *) &connections[i].tcp, then),
             "uv_shutdown");
        if (is_turn(i))
            (void) uv_run(&loop, UV_RUN_NOWAIT);
    }
    (void) uv_run(&loop, UV_RUN_DEFAULT); /* until no handle is left */
}

static void close_at_eof(void)
{
    close_with(shut);
}

static void close_after_shutdown(void)
{
    close_with(shut_then_close);
}

static void clean_up(void)
{
    must(uv_loop_close(&loop), "uv_loop_close");
    free(connections);
}

const struct way way_uv = { "libuv", adopt, close_after_shutdown, clean_up };
const struct way way_uv_eof = { "libuv to EOF", adopt_and_read, close_at_eof, clean_up };
