/* SPDX-License-Identifier: MIT */

/* Accepting: all waiting clients are taken, up to the backlog, and get their protocols at once. */

#include "transport/tls.h"

#include "slots.h"

#include "base/clock.h"
#include "base/descriptor.h"
#include "base/poll.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <poll.h>

#define FORCED_AT_ONCE 16
#define RETRY 1.0 /* seconds: asyncio's ACCEPT_RETRY_DELAY */

struct listener {
    PyObject ob_base;
    struct fin__py_loop *loop;
    PyObject *factory, *server, *context, *sock;
    PyObject *tls; /* what fin__py_tls_accept() takes, or None */
    int fd;
    int backlog;
    bool tcp, no_linger;       /* what is accepted has it too */
    bool queued, waiting;      /* waiting: there was no descriptor to be had */
    int left;                  /* how many wait to be accepted, -1: that is not known */
    struct fin__py_address at; /* if it is bound to one address */
    bool told;                 /* of that, and nothing was accepted since */
    bool blocks;               /* accept4(2) would wait, */
    uint64_t looked;           /* and when that was looked at */
};

void fin__py_no_delay(int fd)
{
    int on = 1;

    (void) setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on); /* only TCP has it */
}

/* ---- one connection ---- */

static int accept_report(struct listener *l, const char *what)
{
    PyObject *error;
    int result;

    if (fin__py_ends_the_run())
        return -1;
    error = fin__py_take_error();
    result = fin__py_loop_tell(l->loop, l->loop->module->asyncio.name_accept_failed, l->sock, what,
                               error);
    Py_DECREF(error);
    return result;
}

static PyObject *make_protocol(struct fin__py_transport *t, PyObject *factory)
{
    PyObject *protocol = NULL;

    if (PyContext_Enter(t->context) == 0) {
        protocol = PyObject_CallNoArgs(factory);
        fin__py_context_leave(t->context);
    }
    return protocol;
}

static int accept_start(struct listener *l, struct fin__py_transport *t)
{
    PyObject *protocol = make_protocol(t, l->factory);
    int result = -1;

    if (protocol && fin__py_transport_set_protocol(t, protocol) == 0
        && fin__py_transport_watch(t) == 0 && fin__py_transport_attach(t) == 0)
        result = l->tls == Py_None ? 0 : fin__py_tls_accept(t, l->tls);
    Py_XDECREF(protocol);
    if (result < 0) {
        Py_CLEAR(t->protocol);
        fin__py_transport_unwatch(t);
        fin__py_tls_unplug(t);
        fin__drop(&t->fd);
        fin__py_transport_uncount(t);
        return accept_report(l, "Error on transport creation for incoming connection");
    }
    if (t->tls)
        return fin__py_tls_begin(l->loop, (PyObject *) t, NULL);
    return fin__py_transport_begin(l->loop, (PyObject *) t, NULL);
}

static int accept_take(struct listener *l, int fd, const struct sockaddr *peer)
{
    struct fin__py_transport *t =
        fin__py_transport_new(l->loop, l->loop->module->asyncio.transport_type, fd, l->context);
    int result;

    if (!t)
        return -1;
    fin__py_address_keep(&t->theirs, peer);
    t->server = Py_XNewRef(l->server);
    t->ours = l->at;
    t->tcp = l->tcp;
    t->accepted = true;
    t->no_linger = l->no_linger;
    result = accept_start(l, t);
    Py_DECREF(t);
    return result;
}

/* ---- all that wait ---- */

static int accept_look(struct fin__py_loop *loop, PyObject *self, PyObject *unused);

static int accept_queue(struct listener *l)
{
    if (l->queued)
        return 0;
    l->queued = fin__py_ring_push_look(l->loop, accept_look, (PyObject *) l, l->fd) == 0;
    return l->queued ? 0 : -1;
}

/* Closes that linger give way first. Else the socket waits until there may be descriptors again;
 * meanwhile its edges are not looked at. */
static int wait_for_resources(struct listener *l, int error)
{
    PyObject *done, *again;
    int result;

    if (fin__py_endings_force(l->loop, FORCED_AT_ONCE, false))
        return accept_queue(l);
    l->waiting = true;
    (void) fin__py_os_error(-error);
    if (l->told) {
        PyErr_Clear();
        result = 0;
    } else
        result = accept_report(l, "socket.accept() out of system resource");
    l->told = true;
    if (result < 0)
        return -1;
    again = PyObject_GetAttrString((PyObject *) l, "_retry");
    done =
        again ? PyObject_CallMethod((PyObject *) l->loop, "call_later", "dO", RETRY, again) : NULL;
    Py_XDECREF(again);
    return fin__py_done(done);
}

static int refused(struct listener *l, int error)
{
    switch (error) {
    case EAGAIN:
    case EINVAL: /* it listens no more, and won't: shutdown(2) has ended that */
    case EBADF:
    case ENOTSOCK:
        return 0;
    case EMFILE:
    case ENFILE:
    case ENOBUFS:
    case ENOMEM:
        return wait_for_resources(l, error);
    default: /* an error of the connection that was to be taken: there may be others */
        return accept_queue(l);
    }
}

static bool accepts(const struct listener *l)
{
    return l->fd >= 0 && !l->waiting;
}

/* accept4(2) has no MSG_DONTWAIT, and somebody else may clear O_NONBLOCK. Checking each time
 * would be a system call more for each connection: one check is believed for a millisecond. */
static bool would_wait(struct listener *l)
{
    struct pollfd one = { .fd = l->fd, .events = POLLIN };
    uint64_t now = fin__now();

    if (now - l->looked >= FIN__NS_PER_MS) {
        l->looked = now;
        l->blocks = !(fcntl(l->fd, F_GETFL) & O_NONBLOCK);
    }
    return l->blocks && poll(&one, 1, 0) == 0;
}

/* The exception that is set ends the loop's run. The kernel will not report the other
 * connections again. */
static int leave(struct listener *l)
{
    const struct fin__py_aside aside = fin__py_set_aside();

    if (accepts(l))
        (void) accept_queue(l);
    (void) fin__py_raise_again(&aside, (PyObject *) l);
    return -1;
}

/* Are there more? An accept(2) that finds none makes a file first, and costs as much as one that
 * finds some. What comes after the first look raises an event of its own. */
static bool more_wait(struct listener *l, int taken)
{
    if (taken == 1)
        l->left = l->tcp ? fin__endpoint_queued(l->fd) : -1;
    if (l->left < 0)
        return fin__events(l->fd, POLLIN) != 0;
    return l->left-- > 0;
}

static int accept_look(struct fin__py_loop *loop, PyObject *self, PyObject *unused)
{
    struct listener *l = (struct listener *) self;
    int result = 0;

    (void) loop;
    (void) unused;
    l->queued = false;
    for (int i = 0; result == 0 && i < l->backlog && accepts(l); i++) {
        struct sockaddr_storage peer = { 0 };
        socklen_t size = sizeof peer;
        int fd;

        if ((i > 0 && !more_wait(l, i)) || would_wait(l))
            return 0;
        fd = accept4(l->fd, (struct sockaddr *) &peer, &size, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd < 0)
            return refused(l, errno);
        l->told = false;
        if (i == 0) /* the program may change it */
            l->no_linger = l->tcp && l->loop->closes && !fin__endpoint_has_linger(l->fd);
        result = accept_take(l, fd, (struct sockaddr *) &peer);
    }
    if (result < 0)
        return leave(l);
    return accepts(l) ? accept_queue(l) : 0;
}

int fin__py_listener_news(PyObject *listener)
{
    struct listener *l = (struct listener *) listener;

    return l->waiting || l->fd < 0 ? 0 : accept_queue(l);
}

static PyObject *retry(PyObject *self, PyObject *unused)
{
    struct listener *l = (struct listener *) self;

    (void) unused;
    l->waiting = false;
    if (l->fd >= 0 && accept_queue(l) < 0)
        return NULL;
    Py_RETURN_NONE;
}

/* ---- the type ---- */

static int accept_traverse(PyObject *object, visitproc visit, void *arg)
{
    const struct listener *l = (struct listener *) object;

    Py_VISIT(Py_TYPE(object));
    Py_VISIT(l->loop);
    Py_VISIT(l->factory);
    Py_VISIT(l->server);
    Py_VISIT(l->context);
    Py_VISIT(l->sock);
    Py_VISIT(l->tls);
    return 0;
}

static void accept_dealloc(PyObject *object)
{
    struct listener *l = (struct listener *) object;

    PyObject_GC_UnTrack(object);
    Py_CLEAR(l->factory);
    Py_CLEAR(l->server);
    Py_CLEAR(l->context);
    Py_CLEAR(l->sock);
    Py_CLEAR(l->tls);
    Py_CLEAR(l->loop);
    fin__py_free(object);
}

static PyMethodDef methods[] = {
    { "_retry", retry, METH_NOARGS, NULL },
    { NULL, NULL, 0, NULL },
};

static PyType_Slot slots[] = {
    { Py_tp_doc, "A listening socket that the loop serves." },
    { Py_tp_methods, methods },
    { Py_tp_traverse, accept_traverse },
    { Py_tp_dealloc, accept_dealloc },
    { 0, NULL },
};

static PyType_Spec spec = {
    .name = "finack._core.Listener",
    .basicsize = sizeof(struct listener),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = slots,
};

int fin__py_add_listener(PyObject *module, struct fin__py_asyncio *a)
{
    a->listener_type = (PyTypeObject *) PyType_FromModuleAndSpec(module, &spec, NULL);
    return a->listener_type ? 0 : -1;
}

/* ---- serving ---- */

static struct listener *accept_make(struct fin__py_loop *loop, PyObject *factory, PyObject *sock,
                                    PyObject *server, PyObject *context, PyObject *tls)
{
    PyTypeObject *type = loop->module->asyncio.listener_type;
    struct listener *l = type ? (struct listener *) type->tp_alloc(type, 0) : NULL;

    if (!l)
        return NULL;
    l->loop = (struct fin__py_loop *) Py_NewRef(loop);
    l->factory = Py_NewRef(factory);
    l->sock = Py_NewRef(sock);
    l->tls = Py_NewRef(tls);
    l->server = server == Py_None ? NULL : Py_NewRef(server);
    l->context = context == Py_None ? PyContext_CopyCurrent() : Py_NewRef(context);
    l->fd = PyObject_AsFileDescriptor(sock);
    if (!l->context || l->fd < 0)
        Py_CLEAR(l);
    return l;
}

static bool is_wildcard(const struct fin__py_address *address)
{
    if (address->at.any.sa_family == AF_INET)
        return address->at.in.sin_addr.s_addr == htonl(INADDR_ANY);
    return IN6_IS_ADDR_UNSPECIFIED(&address->at.in6.sin6_addr);
}

static void note_address(struct listener *l)
{
    struct sockaddr_storage address = { 0 };
    socklen_t size = sizeof address;

    if (getsockname(l->fd, (struct sockaddr *) &address, &size) == 0)
        fin__py_address_keep(&l->at, (struct sockaddr *) &address);
    if (l->at.known && is_wildcard(&l->at))
        l->at.known = false;
}

/* _serve(factory, sock, server, backlog, context, tls) */
PyObject *fin__py_serve(PyObject *object, PyObject *args)
{
    struct fin__py_loop *loop = (struct fin__py_loop *) object;
    struct fin__py_selector *selector;
    PyObject *factory, *sock, *server, *context, *tls;
    struct listener *l;
    int backlog, result;

    if (!PyArg_ParseTuple(args, "OOOiOO", &factory, &sock, &server, &backlog, &context, &tls))
        return NULL;
    l = accept_make(loop, factory, sock, server, context, tls);
    if (!l)
        return NULL;
    selector = fin__py_loop_selector(loop);
    l->backlog = backlog;
    note_address(l);
    l->tcp = fin__endpoint_is_plain_tcp(l->fd);
    fin__py_no_delay(l->fd); /* those that are accepted inherit it */
    Py_XINCREF(selector);
    result = selector ? fin__py_edge_add(selector, l->fd, (PyObject *) l) : -EBADF;
    Py_XDECREF(selector);
    Py_DECREF(l);
    if (result < 0)
        return fin__py_os_error(result);
    Py_RETURN_NONE;
}

PyObject *fin__py_unserve(PyObject *object, PyObject *number)
{
    struct fin__py_loop *loop = (struct fin__py_loop *) object;
    int fd = PyObject_AsFileDescriptor(number);
    PyObject *found;

    if (fd < 0)
        return NULL;
    found = fin__py_loop_edge_at(loop, fd);
    if (!found || !Py_IS_TYPE(found, loop->module->asyncio.listener_type))
        Py_RETURN_FALSE;
    ((struct listener *) found)->fd = -1;
    fin__py_edge_remove(fin__py_loop_selector(loop), fd, found);
    Py_RETURN_TRUE;
}
