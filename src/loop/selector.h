/* SPDX-License-Identifier: MIT */

/* The selector's parts, for a driver that waits by itself (the Python extension waits without its
 * interpreter lock). */

#ifndef FIN_SELECTOR_H
#define FIN_SELECTOR_H

#include "base/fork.h"
#include "loop/table.h"

#include <finack/loop.h>
#include <sys/epoll.h>

/* Beside FIN_READ and FIN_WRITE: all events of a socket, edge-triggered, for an owner that
 * handles them itself. */
#define FIN__EDGE (1 << 2)

struct fin__observer {
    fin_selector_observer_fn call;
    void *arg;
};

struct fin_selector {
    int set; /* -1: a table alone, something else polls */
    struct fin__table table;
    struct fin__observer *observers;
    size_t observer_count;
    struct fin__fork_guard guard;
};

/* A selector without an epoll set: it only keeps the table. */
int fin__selector_new_bare(struct fin_selector **ret);

/* 0, or -ECHILD in a process forked from the selector's. */
int fin__selector_check(const struct fin_selector *selector);

/* Registers `fd`, whose mark the caller took. Tells nobody. Errors: as fin_selector_register(). */
int fin__selector_add(struct fin_selector *selector, int fd, const struct fin__mark *mark,
                      int events, void *data);

/* Is the number still the file that was registered? As fin__slot_is_current(), but exact for
 * every file that epoll takes. */
bool fin__selector_fits(const struct fin_selector *selector, const struct fin__slot *slot, int fd);

/* Gives `events` of what is registered to the kernel. Returns 0 or a negative errno; the table is
 * the caller's then. */
int fin__selector_rewatch(struct fin_selector *selector, int fd, int events);

/* An event of an edge-triggered registration could not be handled: has the kernel report again
 * what is ready. */
void fin__selector_ask_again(struct fin_selector *selector, int fd);

/* Takes a registration out of the kernel and the table. Tells nobody. */
void fin__selector_remove(struct fin_selector *selector, int fd);

/* The wait alone, which touches nothing but the epoll set: number of events, or a negative
 * errno. */
int fin__selector_wait(int set, struct epoll_event *events, int max, int timeout_ms);

/* The registration that an event came from, its number in *fd, and what of it is ready; NULL if it
 * is gone. That its descriptor is closed, and somebody else holds the description, is for the
 * caller to find out (fin__selector_fits()), and to renew the set then: the event comes again and
 * again. */
struct fin__slot *fin__selector_resolve(const struct fin_selector *selector,
                                        const struct epoll_event *event, int *fd, int *ready);

/* Replaces the set by a new one that has the live registrations alone, under the same number:
 * entries that outlived their descriptor can't be removed one by one. Returns 0 or a negative
 * errno; nothing has changed then. */
int fin__selector_renew(struct fin_selector *selector);

#endif
