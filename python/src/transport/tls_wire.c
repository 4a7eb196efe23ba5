/* SPDX-License-Identifier: MIT */

/* The BIO under a session: it reads and writes the transport's descriptor. It never reports EOF
 * or an error to OpenSSL: OpenSSL may have been told to take the end of the stream for
 * close_notify (OP_IGNORE_UNEXPECTED_EOF, which Python sets), and an error would leave the
 * session unusable. What has happened is noted instead. It takes each record whole: a session
 * that has one half written can write no other, and dies of what is to be answered meanwhile.
 * Runs without the interpreter's lock too. */

#include "transport/tls.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define FOR_READ 0x01
#define FOR_WRITE 0x02
#define RETRY 0x08
#define ALL (0x07 | RETRY)
#define SOURCE_SINK 0x0400
#define CTRL_FLUSH 11
#define REST_MOST ((size_t) 64 * 1024) /* for a peer that asks much and reads nothing */

#define lib fin__py_openssl

static int later(struct bio_st *bio, int what)
{
    lib.BIO_set_flags(bio, what | RETRY);
    return -1;
}

static bool is_nothing(int error)
{
    return error == EAGAIN || error == EINTR;
}

static int append(char **to, size_t *have, const char *bytes, size_t count)
{
    char *more = realloc(*to, *have + count);

    if (!more)
        return -1;
    memcpy(more + *have, bytes, count);
    *to = more;
    *have += count;
    return 0;
}

int fin__py_wire_feed(struct fin__py_wire *wire, const char *bytes, size_t count)
{
    if (count == 0)
        return 0;
    if (wire->early_at > 0) {
        memmove(wire->early, wire->early + wire->early_at, wire->early_count);
        wire->early_at = 0;
    }
    return append(&wire->early, &wire->early_count, bytes, count);
}

/* ---- reading ---- */

static int take_early(struct fin__py_wire *wire, char *bytes, int room)
{
    size_t count = wire->early_count < (size_t) room ? wire->early_count : (size_t) room;

    memcpy(bytes, wire->early + wire->early_at, count);
    wire->early_at += count;
    wire->early_count -= count;
    return (int) count;
}

static void note_end(struct fin__py_wire *wire, ssize_t got)
{
    if (got == 0)
        wire->eof = true;
    else if (is_nothing(errno))
        wire->drained = errno == EAGAIN;
    else
        wire->error = errno;
}

static int wire_read(struct bio_st *bio, char *bytes, int room)
{
    struct fin__py_wire *wire = lib.BIO_get_data(bio);
    ssize_t got;

    lib.BIO_clear_flags(bio, ALL);
    if (room <= 0)
        return 0;
    if (wire->early_count > 0)
        return take_early(wire, bytes, room);
    if (wire->drained || wire->eof || wire->error || wire->fd < 0)
        return later(bio, FOR_READ);
    got = recv(wire->fd, bytes, (size_t) room, MSG_DONTWAIT);
    if (got <= 0) {
        note_end(wire, got);
        return later(bio, FOR_READ);
    }
    wire->drained = got < room && !wire->ending;
    return (int) got;
}

/* ---- writing ---- */

/* How much of it the kernel has taken. */
static size_t push(struct fin__py_wire *wire, const char *bytes, size_t count)
{
    size_t sent = 0;

    while (sent < count && !wire->full && !wire->error && wire->fd >= 0) {
        ssize_t result = send(wire->fd, bytes + sent, count - sent, FIN__PY_SEND_FLAGS);

        if (result >= 0)
            sent += (size_t) result;
        else if (errno == EAGAIN)
            wire->full = true;
        else if (errno != EINTR)
            wire->error = errno;
    }
    return sent;
}

bool fin__py_wire_flush(struct fin__py_wire *wire)
{
    size_t sent = push(wire, wire->rest + wire->rest_at, wire->rest_count);

    wire->rest_at += sent;
    wire->rest_count -= sent;
    if (wire->rest_count > 0)
        return false;
    free(wire->rest);
    wire->rest = NULL;
    wire->rest_at = 0;
    return true;
}

static int keep(struct fin__py_wire *wire, const char *bytes, size_t count)
{
    if (wire->rest_at > 0) {
        memmove(wire->rest, wire->rest + wire->rest_at, wire->rest_count);
        wire->rest_at = 0;
    }
    return append(&wire->rest, &wire->rest_count, bytes, count);
}

static int write_late(struct fin__py_wire *wire, const char *bytes, size_t count)
{
    return wire->kept ? append(&wire->late, &wire->late_count, bytes, count) : -1;
}

static int write_record(struct fin__py_wire *wire, const char *bytes, size_t count)
{
    size_t sent;

    if (wire->rest_count > REST_MOST)
        return -1;
    sent = wire->rest_count == 0 ? push(wire, bytes, count) : 0;
    if (wire->error)
        return -1;
    if (sent < count && keep(wire, bytes + sent, count - sent) < 0) {
        wire->error = ENOMEM; /* a part of it may be with the peer */
        return -1;
    }
    return 0;
}

static int wire_write(struct bio_st *bio, const char *bytes, int count)
{
    struct fin__py_wire *wire = lib.BIO_get_data(bio);
    int result;

    lib.BIO_clear_flags(bio, ALL);
    wire->sends++;
    if (wire->muted || count <= 0)
        return count;
    result = wire->fd < 0 ? write_late(wire, bytes, (size_t) count)
                          : write_record(wire, bytes, (size_t) count);
    return result < 0 ? later(bio, FOR_WRITE) : count;
}

void fin__py_wire_unplug(struct fin__py_wire *wire)
{
    wire->fd = -1;
    if (wire->kept && wire->rest_count > 0)
        (void) append(&wire->late, &wire->late_count, wire->rest + wire->rest_at, wire->rest_count);
    wire->rest_count = 0;
}

/* ---- the type ---- */

static long wire_ctrl(struct bio_st *bio, int what, long number, void *pointer)
{
    (void) bio;
    (void) number;
    (void) pointer;
    return what == CTRL_FLUSH;
}

static int wire_destroy(struct bio_st *bio)
{
    struct fin__py_wire *wire = lib.BIO_get_data(bio);

    if (wire) {
        free(wire->early);
        free(wire->rest);
        free(wire->late);
    }
    free(wire);
    lib.BIO_set_data(bio, NULL);
    return 1;
}

/* It is never freed: a session may outlive the module. */
int fin__py_wire_prepare(void)
{
    struct bio_method_st *method =
        lib.BIO_meth_new(lib.BIO_get_new_index() | SOURCE_SINK, "finack transport");

    if (!method) {
        PyErr_NoMemory();
        return -1;
    }
    (void) lib.BIO_meth_set_read(method, wire_read);
    (void) lib.BIO_meth_set_write(method, wire_write);
    (void) lib.BIO_meth_set_ctrl(method, wire_ctrl);
    (void) lib.BIO_meth_set_destroy(method, wire_destroy);
    lib.method = method;
    return 0;
}

struct fin__py_wire *fin__py_wire_put(struct ssl_st *ssl, int fd)
{
    struct fin__py_wire *wire = calloc(1, sizeof *wire);
    struct bio_st *bio = wire ? lib.BIO_new(lib.method) : NULL;

    if (!bio) {
        free(wire);
        PyErr_NoMemory();
        return NULL;
    }
    wire->fd = fd;
    lib.BIO_set_data(bio, wire);
    lib.BIO_set_init(bio, 1);
    lib.SSL_set_bio(ssl, bio, bio);
    return wire;
}
