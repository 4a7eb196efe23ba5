/* SPDX-License-Identifier: MIT */

/* The connected clients, and how long a request may take: from its first byte to the last of its
 * answer, however slowly they come. */

#ifndef TOOL_EXPORT_CLIENTS_H
#define TOOL_EXPORT_CLIENTS_H

#include <microhttpd.h>
#include <pthread.h>

#define CLIENTS_MAX 32

struct client_entry;

struct clients {
    pthread_mutex_t lock;
    struct client_entry *first; /* the newest */
};
#define CLIENTS_INIT                                                                               \
    {                                                                                              \
        .lock = PTHREAD_MUTEX_INITIALIZER                                                          \
    }

/* For MHD_OPTION_NOTIFY_CONNECTION and MHD_OPTION_NOTIFY_COMPLETED, with the clients as argument.
 * Of more than CLIENTS_MAX the one that has been busy for longest is cut off. */
void clients_notify(void *arg, struct MHD_Connection *connection, void **context,
                    enum MHD_ConnectionNotificationCode code);
void clients_completed(void *arg, struct MHD_Connection *connection, void **state,
                       enum MHD_RequestTerminationCode code);

/* Cuts off those whose time is over; to be called every second or so, from any thread. */
void clients_expire(struct clients *clients);

#endif
