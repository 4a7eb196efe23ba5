/* SPDX-License-Identifier: MIT */

/* The loop's own registrations in its ProxySelector: transports and listening sockets. One entry
 * for the whole life of each, told apart by its generation like all others. */

#include "proxy.h"
#include "transport/transport.h"

#include <errno.h>

PyObject *fin__py_edge_at(const struct fin__py_selector *self, int fd)
{
    const struct fin__slot *slot = fin__table_find(&self->selector->table, fd);

    return slot && slot->events == FIN__EDGE ? slot->data : NULL;
}

static void remove_at(struct fin__py_selector *self, int fd)
{
    PyObject *owner = fin__py_take_out(self, fd);

    self->edges--;
    Py_DECREF(owner);
}

/* A number whose registration outlived its file: the file was closed behind its owner's back. */
static void drop_stale(struct fin__py_selector *self, int fd)
{
    if (fin__py_edge_at(self, fd))
        remove_at(self, fd);
    else
        (void) fin__py_current(self, fd);
}

int fin__py_edge_add(struct fin__py_selector *self, int fd, PyObject *owner)
{
    const struct fin__mark unknown = { 0 };
    int result;

    if (fin__py_is_open(self) && fin__table_find(&self->selector->table, fd))
        drop_stale(self, fd);
    if (!fin__py_is_open(self)) /* observers may have closed it */
        return -EBADF;
    result = fin__selector_add(self->selector, fd, &unknown, FIN__EDGE, owner);
    if (result < 0)
        return result;
    self->edges++;
    Py_INCREF(owner);
    return 0;
}

void fin__py_edge_remove(struct fin__py_selector *self, int fd, PyObject *owner)
{
    if (fin__py_is_open(self) && fin__py_edge_at(self, fd) == owner)
        remove_at(self, fd);
}

void fin__py_edge_ask_again(struct fin__py_selector *self, int fd, PyObject *owner)
{
    if (fin__py_is_open(self) && fin__py_edge_at(self, fd) == owner)
        fin__selector_ask_again(self->selector, fd);
}

int fin__py_edge_news(struct fin__py_selector *self, PyObject *owner, uint32_t events)
{
    if (Py_IS_TYPE(owner, self->module->asyncio.listener_type))
        return fin__py_listener_news(owner);
    return fin__py_transport_news(owner, events);
}
