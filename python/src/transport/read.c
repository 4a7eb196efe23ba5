/* SPDX-License-Identifier: MIT */

/* Reading: one read a turn, as in asyncio, so that no connection keeps the others waiting. */

#include "transport/datagram.h"
#include "transport/tls.h"

#include <errno.h>
#include <sys/epoll.h>

#define ROOM (256 * 1024)
#define MUCH (32 * 1024) /* bytes at once */
#define ENDED (EPOLLRDHUP | EPOLLHUP | EPOLLERR)

#define READ_ERROR "Fatal read error on socket transport"

bool fin__py_transport_wants_read(const struct fin__py_transport *t)
{
    return t->fd >= 0 && t->made && !t->paused && !t->closing && !t->losing && !t->reading_over
        && !fin__py_is_handshaking(t);
}

/* How many bytes, 0 at the end, or a negative errno. */
static ssize_t receive(struct fin__py_transport *t, void *bytes, size_t room)
{
    ssize_t got;

    if (t->tls)
        return fin__py_tls_read(t, bytes, room);
    got = recv(t->fd, bytes, room, MSG_DONTWAIT);
    if (got < 0)
        return -errno;
    t->read += (uint64_t) got;
    t->ended |= got == 0;
    return got;
}

/* ---- what a read came to ---- */

/* TLS has no half-closed state, as asyncio has it. */
static int no_effect(struct fin__py_transport *t)
{
    PyObject *done = PyObject_CallMethod((PyObject *) t->loop, "_eof_has_no_effect", NULL);

    Py_XDECREF(done);
    return done ? fin__py_transport_close(t) : -1;
}

static int transport_read_ended(struct fin__py_transport *t)
{
    PyObject *result = fin__py_protocol_call(t, t->loop->module->asyncio.name_eof_received, NULL);
    int keep = result ? PyObject_IsTrue(result) : -1;

    Py_XDECREF(result);
    if (keep < 0)
        return fin__py_transport_fail(t, "Fatal error: protocol.eof_received() call failed.");
    t->reading_over = true;
    if (keep && t->tls && t->loop)
        return no_effect(t);
    return keep ? 0 : fin__py_transport_close(t);
}

static int failed(struct fin__py_transport *t, int error)
{
    if (error == EAGAIN || error == EINTR) {
        if (!t->tls)
            t->drained = error == EAGAIN;
        return 0;
    }
    return fin__py_transport_fail_errno(t, -error, READ_ERROR);
}

/* A read that did not fill the room has emptied the socket, unless its end was announced. */
static void note(struct fin__py_transport *t, size_t got, size_t room)
{
    if (!t->tls)
        t->drained = got < room && !(t->events & ENDED);
}

/* ---- the two kinds of protocol ---- */

static int hand_over(struct fin__py_transport *t, PyObject *data)
{
    PyObject *result;

    if (!data) /* and the bytes are lost */
        return fin__py_transport_fail(t, READ_ERROR);
    result = fin__py_protocol_call(t, t->loop->module->asyncio.name_data_received, data);
    Py_DECREF(data);
    if (!result)
        return fin__py_transport_fail(t, "Fatal error: protocol.data_received() call failed.");
    Py_DECREF(result);
    return 0;
}

/* Whether the read is over: what it found was no bytes. */
static bool read_nothing(struct fin__py_transport *t, ssize_t got, int *result)
{
    if (got > 0)
        note(t, (size_t) got, ROOM);
    else
        *result = got < 0 ? failed(t, (int) -got) : transport_read_ended(t);
    t->much = got >= MUCH;
    return got <= 0;
}

/* The bytes of a peer that sends little at a time: exact ones, of a room that serves all. */
static int read_little(struct fin__py_transport *t)
{
    char *room = fin__py_loop_buffer(t->loop, ROOM);
    ssize_t got = room ? receive(t, room, ROOM) : 0;
    int result = -1;

    if (!room)
        return fin__py_transport_fail(t, READ_ERROR);
    if (read_nothing(t, got, &result))
        return result;
    return hand_over(t, PyBytes_FromStringAndSize(room, got));
}

/* Those of one that sends much, which would take longer to copy than to find a place for. */
static int read_much(struct fin__py_transport *t)
{
    PyObject *data = PyBytes_FromStringAndSize(NULL, ROOM);
    ssize_t got = data ? receive(t, PyBytes_AS_STRING(data), ROOM) : 0;
    int result = -1;

    if (!data)
        return fin__py_transport_fail(t, READ_ERROR);
    if (read_nothing(t, got, &result)) {
        Py_DECREF(data);
        return result;
    }
    (void) _PyBytes_Resize(&data, got);
    return hand_over(t, data);
}

/* 0, or -1 with an exception. */
static int get_buffer(struct fin__py_transport *t, Py_buffer *view)
{
    PyObject *hint = PyLong_FromLong(-1), *buffer = NULL;
    int result = -1;

    if (hint)
        buffer = fin__py_protocol_call(t, t->loop->module->asyncio.name_get_buffer, hint);
    if (buffer)
        result = PyObject_GetBuffer(buffer, view, PyBUF_WRITABLE);
    if (result == 0 && view->len == 0) {
        PyBuffer_Release(view);
        PyErr_SetString(PyExc_RuntimeError, "get_buffer() returned an empty buffer");
        result = -1;
    }
    Py_XDECREF(hint);
    Py_XDECREF(buffer);
    return result;
}

static int updated(struct fin__py_transport *t, ssize_t got)
{
    PyObject *count = PyLong_FromSsize_t(got), *result = NULL;

    if (count)
        result = fin__py_protocol_call(t, t->loop->module->asyncio.name_buffer_updated, count);
    Py_XDECREF(count);
    if (!result)
        return fin__py_transport_fail(t, "Fatal error: protocol.buffer_updated() call failed.");
    Py_DECREF(result);
    return 0;
}

static int read_into(struct fin__py_transport *t)
{
    Py_buffer view;
    ssize_t got;

    if (get_buffer(t, &view) < 0)
        return fin__py_transport_fail(t, "Fatal error: protocol.get_buffer() call failed.");
    if (!fin__py_transport_wants_read(t)) { /* get_buffer() may do anything */
        PyBuffer_Release(&view);
        return 0;
    }
    got = receive(t, view.buf, (size_t) view.len);
    if (got > 0)
        note(t, (size_t) got, (size_t) view.len);
    PyBuffer_Release(&view);
    if (got < 0)
        return failed(t, (int) -got);
    return got == 0 ? transport_read_ended(t) : updated(t, got);
}

int fin__py_transport_read(struct fin__py_transport *t)
{
    int result = t->datagram ? fin__py_datagram_read(t)
        : t->buffered        ? read_into(t)
        : t->much            ? read_much(t)
                             : read_little(t);

    if (result == 0 && t->tls && t->tls->write_waits_for_input && t->output.count > 0 && t->fd >= 0
        && !t->losing && !t->ending)
        result = fin__py_transport_writable(t);
    return result;
}
