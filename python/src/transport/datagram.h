/* SPDX-License-Identifier: MIT */

/* Transports of datagrams: UDP and Unix. Closing, the protocol and the epoll set are the same as
 * for streams; reading, sending and the buffer are their own. */

#ifndef FIN_PY_DATAGRAM_H
#define FIN_PY_DATAGRAM_H

#include "transport/transport.h"

/* What could not be sent yet. */
struct fin__py_datagram {
    PyObject *data; /* bytes */
    PyObject *to;   /* as the program has it; NULL: it gave none */
};

struct fin__py_datagrams {
    struct fin__py_transport base; /* whose `output.count` is what the water marks are for */
    PyObject *address;             /* the only one to be sent to; NULL: any */
    struct fin__py_datagram *kept; /* those that wait begin at `at` */
    size_t at, count, room;
    struct fin__py_handle *timer; /* to try again where no event would tell */
    double pause;                 /* until then, in seconds */
    int family;
    bool connected : 1; /* to a peer with a name: to it goes all, as in asyncio */
    bool paired : 1;    /* or to one without */
    bool moved : 1;     /* the last try has sent something */
};

/* Finds out to whom the socket is connected, before the transport is anybody's. */
void fin__py_datagram_look(struct fin__py_transport *t);

int fin__py_datagram_traverse(PyObject *object, visitproc visit, void *arg);
void fin__py_datagram_clear(PyObject *object);

/* Reads what is there, up to a bound; each is given to the protocol. 0 or -1. */
int fin__py_datagram_read(struct fin__py_transport *t);

/* Those of the events that mean what they say. */
uint32_t fin__py_datagram_news(const struct fin__py_transport *t, uint32_t events);

/* Sends what is kept. Errors of the kernel go to the protocol. 0 or -1. */
int fin__py_datagram_send(struct fin__py_transport *t);
void fin__py_datagram_drop(struct fin__py_transport *t);

/* Bytes of the program's that are kept. */
size_t fin__py_datagram_unsent(const struct fin__py_transport *t);

PyObject *fin__py_make_datagram_transport(PyObject *object, PyObject *args);

/* What is put on the water marks' scale besides the bytes; and is an empty datagram sent? */
#if PY_VERSION_HEX >= 0x030d0000
#define FIN__PY_DATAGRAM_HEADER 8
#define FIN__PY_DATAGRAM_EMPTY true
#else
#define FIN__PY_DATAGRAM_HEADER 0
#define FIN__PY_DATAGRAM_EMPTY false
#endif

#endif
