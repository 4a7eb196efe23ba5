/* SPDX-License-Identifier: MIT */

/* Writing, and flow control. */

#include "transport/datagram.h"
#include "transport/tls.h"

#include "slots.h"

#include <errno.h>
#include <limits.h>
#include <string.h>
#include <sys/uio.h>

#define KEPT_MOST (1024 * 1024) /* a greater buffer is given back once it is empty */
#define VECTOR 64
#define LOUD_AFTER 5 /* asyncio's LOG_THRESHOLD_FOR_CONNLOST_WRITES */
#define HIGH (64 * 1024)

#define SEGMENT 536 /* any peer takes so much (RFC 9293, 3.7.1) */

#define WRITE_ERROR "Fatal write error on socket transport"

/* ---- the buffer ---- */

void fin__py_output_free(struct fin__py_transport *t)
{
    if (t->datagram)
        fin__py_datagram_drop(t);
    PyMem_RawFree(t->output.bytes);
    t->output = (struct fin__py_output) { 0 };
}

static int reserve(struct fin__py_output *output, size_t more)
{
    size_t room = (output->count + more) / 2 * 3;
    char *bytes;

    if (output->at + output->count + more <= output->room)
        return 0;
    if (output->at > 0) {
        memmove(output->bytes, output->bytes + output->at, output->count);
        output->at = 0;
    }
    if (output->count + more <= output->room)
        return 0;
    bytes = PyMem_RawRealloc(output->bytes, room + 1);
    if (!bytes) {
        PyErr_NoMemory();
        return -1;
    }
    output->bytes = bytes;
    output->room = room + 1;
    return 0;
}

static int write_append(struct fin__py_output *output, const char *bytes, size_t count)
{
    if (reserve(output, count) < 0)
        return -1;
    memcpy(output->bytes + output->at + output->count, bytes, count);
    output->count += count;
    return 0;
}

static bool is_later(int error)
{
    return error == EAGAIN || error == EINTR;
}

/* What is held back without TCP_NODELAY is a small segment while another is not acknowledged (RFC
 * 9293, 3.7.4): not what is sent first, if it is one. */
static void before_sending(struct fin__py_transport *t, size_t count)
{
    if (t->wrote || count > SEGMENT)
        fin__py_transport_hurry(t);
    t->wrote = true;
}

/* What there is room for. 0 or a negative errno; `*sent` is always set. */
static int give(struct fin__py_transport *t, const char *bytes, size_t count, size_t *sent)
{
    ssize_t result;

    if (t->tls)
        return fin__py_tls_send(t, bytes, count, sent);
    if (t->delays)
        before_sending(t, count);
    result = send(t->fd, bytes, count, FIN__PY_SEND_FLAGS);
    *sent = result > 0 ? (size_t) result : 0;
    return result < 0 && !is_later(errno) ? -errno : 0;
}

int fin__py_output_send(struct fin__py_transport *t)
{
    struct fin__py_output *output = &t->output;

    while (output->count > 0) {
        size_t sent;
        int error = give(t, output->bytes + output->at, output->count, &sent);

        output->at += sent;
        output->count -= sent;
        if (error < 0)
            return error;
        if (sent == 0)
            return 0;
    }
    output->at = 0;
    if (output->room > KEPT_MOST)
        fin__py_output_free(t);
    return 0;
}

int fin__py_transport_send(struct fin__py_transport *t)
{
    return t->datagram ? fin__py_datagram_send(t) : fin__py_output_send(t);
}

size_t fin__py_transport_unsent(const struct fin__py_transport *t)
{
    return t->datagram ? fin__py_datagram_unsent(t) : t->output.count;
}

/* ---- flow control ---- */

/* What the water marks are for. */
static size_t backlog(struct fin__py_transport *t)
{
    return t->tls ? fin__py_tls_backlog(t) : t->output.count;
}

int fin__py_transport_pause_writing(struct fin__py_transport *t)
{
    size_t count = backlog(t);

    if (t->writing_paused || count <= t->high || !t->protocol || t->losing)
        return 0;
    t->writing_paused = true;
    return fin__py_protocol_tell(t, t->loop->module->asyncio.name_pause_writing,
                                 "protocol.pause_writing() failed");
}

int fin__py_transport_resume_writing(struct fin__py_transport *t)
{
    size_t count = backlog(t);

    if (!t->writing_paused || count > t->low || !t->protocol || t->lost)
        return 0;
    t->writing_paused = false;
    return fin__py_protocol_tell(t, t->loop->module->asyncio.name_resume_writing,
                                 "protocol.resume_writing() failed");
}

/* A size in bytes, or None: -1. */
static int size_of(PyObject *object, Py_ssize_t *size)
{
    *size = -1;
    if (object == Py_None)
        return 0;
    *size = PyNumber_AsSsize_t(object, PyExc_OverflowError);
    return *size == -1 && PyErr_Occurred() ? -1 : 0;
}

PyObject *fin__py_transport_set_limits(PyObject *object, PyObject *args, PyObject *keywords)
{
    static char *names[] = { "high", "low", NULL };
    struct fin__py_transport *t = (struct fin__py_transport *) object;
    PyObject *high_object = Py_None, *low_object = Py_None;
    Py_ssize_t high, low;

    if (!PyArg_ParseTupleAndKeywords(args, keywords, "|OO:set_write_buffer_limits", names,
                                     &high_object, &low_object))
        return NULL;
    if (size_of(high_object, &high) < 0 || size_of(low_object, &low) < 0)
        return NULL;
    if (high_object == Py_None)
        high = low_object == Py_None ? HIGH : 4 * low;
    if (low_object == Py_None)
        low = high / 4;
    if (low < 0 || high < low)
        return PyErr_Format(PyExc_ValueError, "high (%zd) must be >= low (%zd) must be >= 0", high,
                            low);
    t->high = (size_t) high;
    t->low = (size_t) low;
    if (t->loop && fin__py_transport_pause_writing(t) < 0)
        return NULL;
    Py_RETURN_NONE;
}

/* ---- there is room ---- */

static int emptied(struct fin__py_transport *t)
{
    if (t->empty_waiter
        && fin__py_future_done(&t->loop->module->asyncio, t->empty_waiter, NULL) < 0)
        return -1;
    if (t->closing)
        return fin__py_transport_flushed(t);
    if (t->eof && !t->shut) {
        t->shut = true;
        (void) shutdown(t->fd, SHUT_WR);
    }
    return 0;
}

static int written(struct fin__py_transport *t)
{
    int result = fin__py_transport_send(t);
    struct fin__py_aside aside;

    if (result < 0 && !t->datagram)
        return fin__py_transport_fail_errno(t, result, WRITE_ERROR);
    if (result == 0 && t->loop)
        (void) fin__py_transport_resume_writing(t); /* which may write */
    aside = fin__py_set_aside();                    /* to leave must wait until all is on its way */
    if (t->loop && t->output.count == 0 && t->fd >= 0 && !t->losing)
        (void) emptied(t);
    return fin__py_raise_again(&aside, (PyObject *) t);
}

int fin__py_transport_writable(struct fin__py_transport *t)
{
    PyObject *context = Py_NewRef(t->context);
    int result = PyContext_Enter(context);

    if (result == 0) {
        result = written(t);
        fin__py_context_leave(context);
    }
    Py_DECREF(context);
    return result;
}

/* ---- write() ---- */

/* asyncio counts the loss too: of a plain transport it comes first, of one with TLS at its end. */
int fin__py_transport_write_lost(struct fin__py_transport *t)
{
    unsigned before = t->lost_writes++ + (t->lost || !t->tls);
    PyObject *tell, *done = NULL;

    if (before < LOUD_AFTER)
        return 0;
    tell = fin__py_fetch("finack._loop.streams", "tell_of_lost_write"); /* the loop may be gone */
    if (tell)
        done = PyObject_CallOneArg(tell, t->tls ? Py_True : Py_False);
    Py_XDECREF(tell);
    return fin__py_done(done);
}

/* 1: may be written; 0: it was lost; -1: an exception. */
static int may_write(struct fin__py_transport *t, const char *method)
{
    if (t->eof) {
        PyErr_Format(PyExc_RuntimeError, "Cannot call %s() after write_eof()", method);
        return -1;
    }
    if (t->empty_waiter) {
        PyErr_Format(PyExc_RuntimeError, "unable to %s; sendfile is in progress", method);
        return -1;
    }
    if (!fin__py_is_handshaking(t) && fin__py_refuses(t, method))
        return -1;
    if (!t->losing && t->fd >= 0 && !(t->tls && t->closing))
        return 1;
    return fin__py_transport_write_lost(t);
}

static int write_put(struct fin__py_transport *t, const char *bytes, size_t count)
{
    size_t sent = 0;
    int error;

    if (count == 0)
        return 0;
    if (t->output.count == 0) {
        error = give(t, bytes, count, &sent);
        if (error < 0)
            return fin__py_transport_fail_errno(t, error, WRITE_ERROR);
    }
    if (sent == count)
        return 0;
    if (write_append(&t->output, bytes + sent, count - sent) < 0) {
        fin__py_tls_disown(t);
        return -1;
    }
    if (t->tls)
        fin__py_tls_added(t, count - sent);
    return fin__py_transport_pause_writing(t);
}

int fin__py_transport_refuse(PyObject *data)
{
    if (PyBytes_Check(data) || PyByteArray_Check(data) || PyMemoryView_Check(data))
        return 0;
    PyErr_Format(PyExc_TypeError, "data argument must be a bytes-like object, not '%s'",
                 Py_TYPE(data)->tp_name);
    return -1;
}

PyObject *fin__py_transport_write(PyObject *object, PyObject *data)
{
    struct fin__py_transport *t = (struct fin__py_transport *) object;
    Py_buffer view;
    int may;

    if (fin__py_transport_refuse(data) < 0 || PyObject_GetBuffer(data, &view, PyBUF_SIMPLE) < 0)
        return NULL;
    may = view.len > 0 || t->eof ? may_write(t, "write") : 0;
    if (may > 0 && write_put(t, view.buf, (size_t) view.len) < 0)
        may = -1;
    PyBuffer_Release(&view);
    return fin__py_nothing(may);
}

/* ---- writelines() ---- */

struct lines {
    Py_buffer views[VECTOR];
    struct iovec vector[VECTOR];
    int count;
    size_t total;
};

static void release_lines(struct lines *lines)
{
    while (lines->count > 0)
        PyBuffer_Release(&lines->views[--lines->count]);
}

static int take_lines(struct lines *lines, PyObject *sequence)
{
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(sequence); i++) {
        Py_buffer *view = &lines->views[lines->count];

        if (PyObject_GetBuffer(PyTuple_GET_ITEM(sequence, i), view, PyBUF_SIMPLE) < 0) {
            release_lines(lines);
            return -1;
        }
        lines->vector[lines->count++] = (struct iovec) { view->buf, (size_t) view->len };
        lines->total += (size_t) view->len;
    }
    return 0;
}

static ssize_t send_lines(int fd, struct lines *lines)
{
    struct msghdr message = { .msg_iov = lines->vector, .msg_iovlen = (size_t) lines->count };

    return sendmsg(fd, &message, FIN__PY_SEND_FLAGS);
}

static int keep_rest(struct fin__py_transport *t, const struct lines *lines, size_t sent)
{
    if (reserve(&t->output, lines->total - sent) < 0)
        return -1;
    for (int i = 0; i < lines->count; i++) {
        size_t count = lines->vector[i].iov_len, skip = sent < count ? sent : count;

        if (write_append(&t->output, (char *) lines->vector[i].iov_base + skip, count - skip) < 0)
            return -1;
        sent -= skip;
    }
    return 0;
}

static int put_lines(struct fin__py_transport *t, struct lines *lines)
{
    ssize_t sent = 0;

    if (lines->total == 0)
        return 0;
    if (t->output.count == 0) {
        if (t->delays)
            before_sending(t, lines->total);
        sent = send_lines(t->fd, lines);
        if (sent < 0 && !is_later(errno))
            return fin__py_transport_fail_errno(t, -errno, WRITE_ERROR);
    }
    if (sent >= 0 && (size_t) sent == lines->total)
        return 0;
    if (keep_rest(t, lines, sent < 0 ? 0 : (size_t) sent) < 0)
        return -1;
    return fin__py_transport_pause_writing(t);
}

static PyObject *write_joined(PyObject *object, PyObject *sequence)
{
    PyObject *empty = PyBytes_FromStringAndSize(NULL, 0), *all = NULL, *result = NULL;

    if (empty)
        all = PyObject_CallMethod(empty, "join", "(O)", sequence);
    if (all)
        result = fin__py_transport_write(object, all);
    Py_XDECREF(empty);
    Py_XDECREF(all);
    return result;
}

static int write_vector(struct fin__py_transport *t, PyObject *sequence)
{
    struct lines lines;
    int may;

    lines.count = 0;
    lines.total = 0;
    if (take_lines(&lines, sequence) < 0)
        return -1;
    may = may_write(t, "writelines");
    if (may > 0 && put_lines(t, &lines) < 0)
        may = -1;
    release_lines(&lines);
    return may < 0 ? -1 : 0;
}

PyObject *fin__py_transport_writelines(PyObject *object, PyObject *list)
{
    PyObject *sequence = PySequence_Tuple(list); /* a list may change while its items are asked */
    int result;

    if (!sequence)
        return NULL;
    if (PyTuple_GET_SIZE(sequence) > VECTOR
        || ((struct fin__py_transport *) object)->tls) { /* a record for all */
        PyObject *done = write_joined(object, sequence);

        Py_DECREF(sequence);
        return done;
    }
    result = write_vector((struct fin__py_transport *) object, sequence);
    Py_DECREF(sequence);
    return fin__py_nothing(result);
}

/* ---- write_eof() ---- */

PyObject *fin__py_transport_write_eof(PyObject *object, PyObject *unused)
{
    struct fin__py_transport *t = (struct fin__py_transport *) object;

    (void) unused;
    if (t->tls) {
        PyErr_SetNone(PyExc_NotImplementedError);
        return NULL;
    }
    if (t->closing || t->eof || t->fd < 0)
        Py_RETURN_NONE;
    t->eof = true;
    if (t->output.count > 0)
        Py_RETURN_NONE;
    t->shut = true;
    if (shutdown(t->fd, SHUT_WR) < 0)
        return fin__py_os_error(-errno);
    Py_RETURN_NONE;
}
