/* SPDX-License-Identifier: MIT */

/* The close of a transport by the engine, on the transport's own descriptor and its entry in the
 * loop's epoll set. */

#ifndef FIN_PY_TRANSPORT_CLOSE_H
#define FIN_PY_TRANSPORT_CLOSE_H

#include "transport/transport.h"

#include "close/endpoint.h"
#include "close/proof.h"

struct fin__py_ending {
    PyObject ob_base;
    struct fin__py_loop *loop;
    struct fin__py_transport *transport; /* NULL once the close is complete */
    PyObject *waiters;                   /* a list of futures, or NULL */
    PyObject *known; /* the Receipt that was made of it, a weak reference to one, or NULL */
    PyObject *error; /* for connection_lost(), or NULL */
    PyObject *extra; /* the transport's, in which names of Unix sockets are */
    struct fin__py_handle *timer;
    int driven;                           /* how many wait for it by policies of their own */
    struct fin__py_ending *next_check;    /* among those to be asked about at the turn's end */
    struct fin__py_ending *older, *newer; /* among those that linger behind connection_lost() */
    struct fin__plan plan;
    struct fin__endpoint ep;
    struct fin__machine machine;
    struct fin__proof proof;
    struct fin__py_address ours, theirs;
    enum fin__action action;
    enum fin__event_kind interruption;
    bool datagram;    /* the transport's kind */
    bool acting;      /* carries out `action` */
    bool interrupted; /* and was asked for an end meanwhile */
    bool ready;       /* an event came */
    bool writable;    /* and there is room to send */
    bool readable;    /* or there may be something to read */
    bool silent;      /* the events that were waited for say that there is nothing */
    bool noted;       /* the loop is to hear of it */
    bool told;        /* connection_lost() was called */
    bool proving;     /* has an entry in the witness */
    bool checking;    /* is in the list of those to be asked about */
    bool lingering;   /* is in that list */
    bool held;        /* the witness has it yet */
    bool over;
};

/* Is the end of this transport the engine's? */
bool fin__py_closes_by_engine(const struct fin__py_transport *t);

/* Opens the loop's witness, if it is not open. */
void fin__py_need_witness(struct fin__py_loop *loop);

/* What the program has called. */
enum fin__py_asked {
    FIN__PY_BY_CLOSE,
    FIN__PY_BY_ABORT,
    FIN__PY_BY_ACLOSE, /* the loop is to hear when it is complete */
};

/* Begins a close. 1: the engine can't, and asyncio's way is to be taken; 0, or -1 with an
 * exception. */
int fin__py_ending_begin(struct fin__py_transport *t, const struct fin_policy *policy,
                         enum fin__py_asked asked, PyObject *error);

/* The program has aborted a transport all of whose bytes were sent. */
void fin__py_ending_aborted(struct fin__py_transport *t);

/* Undoes a close of which neither the peer nor the program has noticed anything: the transport
 * goes on closing as asyncio's do. */
void fin__py_ending_undo(struct fin__py_transport *t);

/* A future that is done when the close is complete; None: it is. */
PyObject *fin__py_ending_wait(PyObject *object, PyObject *unused);

/* What `await ending` goes on with. */
PyObject *fin__py_ending_await(PyObject *object);

/* An event of a transport that closes. 0 or -1. */
int fin__py_ending_news(struct fin__py_ending *c, uint32_t events);

/* connection_lost() was called: what needs the descriptor follows. 0 or -1. */
int fin__py_ending_told(struct fin__py_ending *c);

/* The program asks for the end: RST. 0 or -1. */
int fin__py_ending_abort(struct fin__py_ending *c, PyObject *error);

/* Ends its wait, whatever it waits for. 0 or -1. */
int fin__py_ending_force(struct fin__py_ending *c);

/* Its timer has come. 0 or -1. */
int fin__py_ending_deadline(struct fin__py_ending *c);

/* It was begun by another policy, and goes on by this one: deadlines count from now. 0 or -1. */
int fin__py_ending_adopt(struct fin__py_ending *c, const struct fin_policy *policy);

/* Asks the witness, once, about all that were released in this turn. 0 or -1. */
int fin__py_endings_check(struct fin__py_loop *loop);

/* Forces the oldest that linger; returns whether there were any. `proofs`: also those that only
 * wait for their proof, and have no descriptor to give back. */
bool fin__py_endings_force(struct fin__py_loop *loop, int count, bool proofs);

static inline struct fin__py_ending *fin__py_ending_of(const struct fin__py_transport *t)
{
    struct fin__py_ending *c = (struct fin__py_ending *) t->ending;

    return c && !c->over ? c : NULL;
}

#endif
