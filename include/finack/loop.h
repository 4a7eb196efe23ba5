/* SPDX-License-Identifier: MIT */

/* The event loop of finack, for programs that have none. So far: the selector under it. */

#ifndef FINACK_LOOP_H
#define FINACK_LOOP_H

#include <finack.h>

#ifdef __cplusplus
extern "C" {
#endif

/* ---- the selector ---- */

/* Waits for descriptors by epoll. A registration remembers for which file it was made, not only the
 * number:
 *   - if a number was closed and is another file now, fin_selector_get() and
 *     fin_selector_register() notice it and drop the old registration;
 *   - an event of a registration that is gone is never reported, although the kernel keeps an epoll
 *     entry as long as any copy of the closed descriptor lives.
 * A socket is recognised by its SO_COOKIE, a pipe or another file by device and inode. Files that
 * share one inode (eventfd, timerfd, epoll sets) can't be told apart.
 *
 * One thread at a time may use a selector. It is not shared over fork: in a child, unregister,
 * modify and get work on the child's own table, the parent's epoll set is never touched, and
 * register and select give -ECHILD; free works. */
struct fin_selector;

/* Events; a registration has at least one. Errors and hang-ups are reported as both. */
#define FIN_READ 1
#define FIN_WRITE 2

/* What an observer learns of. */
enum fin_selector_change {
    FIN_SELECTOR_REGISTER,
    FIN_SELECTOR_MODIFY,
    FIN_SELECTOR_UNREGISTER, /* also of a registration whose number is another file now */
};

/* A registration, as it is after the change, or was before it was removed. */
struct fin_registration {
    size_t size;
    int fd;
    int events;
    void *data;          /* what the program gave */
    uint32_t generation; /* differs in each registration of the same number */
};

/* clang-format off */
#define FIN_REGISTRATION_INIT { sizeof(struct fin_registration), 0, 0, NULL, 0 }
/* clang-format on */

/* One descriptor that is ready. */
struct fin_ready {
    int fd;
    int events;
    void *data;
    uint32_t generation;
};

/* Called after each change, inside the call that made it. It must not use the selector. */
typedef void (*fin_selector_observer_fn)(enum fin_selector_change change,
                                         const struct fin_registration *registration, void *arg);

/* Errors: -EINVAL (ret is NULL), -ENOMEM, -EMFILE, -ENFILE. */
FIN_API int fin_selector_new(struct fin_selector **ret);

/* Forgets every registration, without telling observers, and closes the epoll set; the descriptors
 * stay the program's. NULL is fine. Returns NULL. */
FIN_API struct fin_selector *fin_selector_free(struct fin_selector *selector);

/* The epoll set's descriptor, readable while something is ready. It stays the selector's. */
FIN_API int fin_selector_fd(const struct fin_selector *selector);

/* Begins to watch `fd`, which stays the caller's. If the number is registered for another file,
 * that registration is dropped first (observers learn of it).
 * Errors: -EINVAL, -EEXIST (registered already), -EBADF, -EPERM (a file that can't be polled),
 * -ENOMEM, -ENOSPC (epoll's limit of watches), -ECHILD. */
FIN_API int fin_selector_register(struct fin_selector *selector, int fd, int events, void *data);

/* Changes events and `data`. Only events are passed to the kernel, and only if they differ.
 * Errors: -EINVAL, -ENOENT (not registered; or the descriptor is another file now: then its
 * registration was dropped), -EBADF (closed meanwhile: not registered any more). */
FIN_API int fin_selector_modify(struct fin_selector *selector, int fd, int events, void *data);

/* Stops watching. Succeeds also if `fd` has been closed since. Writes what was registered to
 * `*data`, which may be NULL.
 * Errors: -EINVAL, -ENOENT (not registered). */
FIN_API int fin_selector_unregister(struct fin_selector *selector, int fd, void **data);

/* What is registered under the number. Fill `size` first (FIN_REGISTRATION_INIT). If the number is
 * another file now, the registration is dropped (observers learn of it); if the number is only
 * closed, the registration is still there.
 * Errors: -EINVAL, -ENOENT (not registered). */
FIN_API int fin_selector_get(struct fin_selector *selector, int fd,
                             struct fin_registration *registration);

/* Waits until something is ready or `timeout_ms` has passed (0: don't wait, negative: for ever),
 * and writes up to `max` of what is ready. Returns how many, 0 when the time is over. Events
 * without a registration are dropped, and so are events of a descriptor that was closed while it
 * was registered and whose description something else holds; if its number is another file by then,
 * its registration is dropped too (observers learn of it). At the first event of such an entry the
 * epoll set is replaced by a new one under the same number: if another epoll set watches
 * fin_selector_fd(), add it there again.
 * Errors: -EINVAL, -EINTR, -ECHILD. */
FIN_API int fin_selector_select(struct fin_selector *selector, struct fin_ready *ready, int max,
                                int timeout_ms);

/* 1 if the registration of the event is still there; 0 if the program has unregistered it since
 * fin_selector_select() returned, even if the number is registered again.
 * Errors: -EINVAL. */
FIN_API int fin_selector_is_current(const struct fin_selector *selector,
                                    const struct fin_ready *ready);

/* Adds an observer; they are called in the order in which they were added.
 * Errors: -EINVAL, -ENOMEM. */
FIN_API int fin_selector_observe(struct fin_selector *selector, fin_selector_observer_fn observer,
                                 void *arg);

/* Removes the observer that was added with these arguments. Errors: -EINVAL, -ENOENT. */
FIN_API int fin_selector_unobserve(struct fin_selector *selector, fin_selector_observer_fn observer,
                                   void *arg);

#ifdef __cplusplus
}
#endif

#endif
