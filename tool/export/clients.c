/* SPDX-License-Identifier: MIT */

#include "export/clients.h"

#include "common/deadline.h"

#include <stdbool.h>
#include <stdlib.h>
#include <sys/socket.h>

enum {
    REQUEST_MS = 10000,
    NEXT_MS = 60000 /* after an answer: a scraper comes back on the same connection */
};

struct client_entry {
    int fd;
    bool cut;
    uint64_t since, deadline;
    struct client_entry *next;
};

static void allow(struct client_entry *entry, int ms)
{
    entry->since = fin__now();
    entry->deadline = deadline_in_ms(ms);
}

/* Its thread finds the connection over, and closes it. */
static void cut_off(struct client_entry *entry)
{
    entry->cut = true;
    shutdown(entry->fd, SHUT_RDWR);
}

static void make_room(struct clients *clients)
{
    struct client_entry *oldest = NULL;
    size_t left = 0;

    for (struct client_entry *e = clients->first; e; e = e->next) {
        left += !e->cut;
        if (!e->cut && (!oldest || e->since < oldest->since))
            oldest = e;
    }
    if (left > CLIENTS_MAX)
        cut_off(oldest);
}

static void clients_add(struct clients *clients, struct MHD_Connection *connection, void **context)
{
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(connection, MHD_CONNECTION_INFO_CONNECTION_FD);
    struct client_entry *entry = info ? malloc(sizeof *entry) : NULL;

    *context = entry;
    if (!entry)
        return;
    *entry = (struct client_entry) { .fd = info->connect_fd, .next = clients->first };
    allow(entry, REQUEST_MS);
    clients->first = entry;
    make_room(clients);
}

static void clients_drop(struct clients *clients, struct client_entry *entry)
{
    struct client_entry **at = &clients->first;

    while (*at && *at != entry)
        at = &(*at)->next;
    if (*at)
        *at = entry->next;
    free(entry);
}

void clients_notify(void *arg, struct MHD_Connection *connection, void **context,
                    enum MHD_ConnectionNotificationCode code)
{
    struct clients *clients = arg;

    pthread_mutex_lock(&clients->lock);
    if (code == MHD_CONNECTION_NOTIFY_STARTED)
        clients_add(clients, connection, context);
    else
        clients_drop(clients, *context);
    pthread_mutex_unlock(&clients->lock);
}

void clients_completed(void *arg, struct MHD_Connection *connection, void **state,
                       enum MHD_RequestTerminationCode code)
{
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(connection, MHD_CONNECTION_INFO_SOCKET_CONTEXT);
    struct clients *clients = arg;

    (void) state;
    if (!info || !info->socket_context || code != MHD_REQUEST_TERMINATED_COMPLETED_OK)
        return;
    pthread_mutex_lock(&clients->lock);
    allow(info->socket_context, NEXT_MS);
    pthread_mutex_unlock(&clients->lock);
}

void clients_expire(struct clients *clients)
{
    uint64_t now = fin__now();

    pthread_mutex_lock(&clients->lock);
    for (struct client_entry *e = clients->first; e; e = e->next)
        if (!e->cut && now >= e->deadline)
            cut_off(e);
    pthread_mutex_unlock(&clients->lock);
}
